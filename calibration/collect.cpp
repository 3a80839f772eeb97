// Statistics of linear inputs, segment by segment: all samples pass one segment of the graph before
// the next begins.
#include "calibration/collect.h"
#include "calibration/float_model.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"
#include "calibration/segments.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace smelt {

namespace {

constexpr int64_t tileTokens = 2048; ///< most tokens that run at once
constexpr int64_t columnBlock = 192; ///< columns of one piece of work

/// Adds what one sample shows at one input. Every sum over the sample's tokens is rounded to float
/// first: adding such values in double is exact for all practical sizes, so shards merge to the
/// same sums.
class Accumulator {
public:
  Accumulator(int64_t cols, bool secondMoments, ProductPrecision precision)
      : cols(cols), precision(precision) {
    sums.sumSquares.assign(size_t(cols), 0);
    sums.sumAbsolute.assign(size_t(cols), 0);
    sums.maxAbsolute.assign(size_t(cols), 0);
    if (secondMoments)
      moments = std::make_shared<std::vector<double>>(size_t(triangleSize(cols)), 0.0);
  }

  void addSample(const float *x, int64_t tokens, WorkerPool &pool) {
    sums.tokens += uint64_t(tokens);
    pool.run((cols + columnBlock - 1) / columnBlock, [&](int64_t block) {
      addColumns(x, tokens, block * columnBlock, std::min(columnBlock, cols - block * columnBlock));
    });
    if (moments)
      for (int64_t first = 0; first < tokens; first += tileTokens)
        addMoments(x + first * cols, std::min(tileTokens, tokens - first), pool);
  }

  InputStatistics take() {
    sums.secondMoments = std::move(moments);
    return std::move(sums);
  }

private:
  void addColumns(const float *x, int64_t tokens, int64_t column, int64_t count) {
    double squares[columnBlock] = {}, absolutes[columnBlock] = {};
    rowKernels().moments(x + column, tokens, cols, count, squares, absolutes,
                         sums.maxAbsolute.data() + column);
    for (int64_t k = 0; k < count; ++k) {
      sums.sumSquares[column + k] += double(float(squares[k]));
      sums.sumAbsolute[column + k] += double(float(absolutes[k]));
    }
  }

  /// Upper triangle by strips of rows: strip [i, i + block) times the columns from i on.
  void addMoments(const float *x, int64_t tokens, WorkerPool &pool) {
    const int64_t strips = (cols + columnBlock - 1) / columnBlock;
    constexpr int64_t widest = 4 * columnBlock;
    struct Piece {
      int64_t row, column, columns;
    };
    std::vector<Piece> pieces;
    for (int64_t s = 0; s < strips; ++s)
      for (int64_t column = s * columnBlock; column < cols; column += widest)
        pieces.push_back({s * columnBlock, column, std::min(widest, cols - column)});
    std::vector<uint16_t> rounded; // [tokens, cols]
    if (precision == ProductPrecision::Bfloat16) {
      rounded.resize(size_t(tokens * cols));
      pool.run(tokens, [&](int64_t t) {
        rowKernels().toBfloat16(x + t * cols, rounded.data() + t * cols, cols);
      });
    }
    pool.run(int64_t(pieces.size()), [&](int64_t item) {
      const Piece &piece = pieces[item];
      const int64_t rows = std::min(columnBlock, cols - piece.row);
      thread_local std::vector<float> product; // [rows, columns]
      product.resize(size_t(columnBlock * widest));
      if (precision == ProductPrecision::Bfloat16)
        gemmBfloat16(true, false, rows, piece.columns, tokens, rounded.data() + piece.row, cols,
                     rounded.data() + piece.column, cols, product.data(), piece.columns);
      else
        gemm(true, false, rows, piece.columns, tokens, 1.0f, x + piece.row, cols, x + piece.column,
             cols, product.data(), piece.columns);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t k = piece.row + i, from = std::max(k, piece.column);
        double *sum = moments->data() + triangleRow(k, cols) - k;
        const float *row = product.data() + i * piece.columns;
        for (int64_t column = from; column < piece.column + piece.columns; ++column)
          sum[column] += double(row[column - piece.column]);
      }
    });
  }

  int64_t cols;
  ProductPrecision precision;
  InputStatistics sums;
  std::shared_ptr<std::vector<double>> moments;
};

Status checkFinite(const InputStatistics &statistics, const std::string &name) {
  for (size_t k = 0; k < statistics.sumSquares.size(); ++k)
    if (!std::isfinite(statistics.sumSquares[k]))
      return invalidArgument("the input of linear '" + name + "' is not finite in column " +
                             std::to_string(k) +
                             ": the float model overflows or its weights hold NaN");
  return {};
}

class Collector {
public:
  Collector(const Graph &graph, const CollectOptions &options)
      : graph(graph), options(options), pool(options.threads),
        precision(!options.exactProducts && bfloat16IsFast() ? ProductPrecision::Bfloat16
                                                             : ProductPrecision::Float),
        model(graph, pool, precision) {}

  Status collect(const std::vector<std::vector<int32_t>> &samples, SegmentSink &sink) {
    std::vector<int32_t> targets;
    int32_t lastLinear = -1;
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      if (graph.nodes[i].kind == NodeKind::Linear) {
        targets.push_back(graph.nodes[i].inputs[0]);
        lastLinear = int32_t(i);
      }
    if (targets.empty())
      return invalidArgument("the model has no linear to calibrate");
    wanted = ancestors(graph, targets);
    tiles = makeTiles(samples, tileTokens);
    boundary.resize(tiles.size());
    std::vector<Segment> segments = cutSegments(graph, wanted, lastLinear + 1);
    std::set<std::string> names;
    for (const Node &node : graph.nodes)
      if (node.kind == NodeKind::Linear && !names.insert(node.name).second)
        return invalidArgument("two linears are named '" + node.name + "'");
    SMELT_ASSIGN(int64_t done, sink.resume(int64_t(segments.size()), boundary));
    if (done > int64_t(segments.size()) || boundary.size() != tiles.size())
      return internalError("calibration goes on from a state that does not fit the model");
    int32_t carried = done > 0 ? segments[done - 1].carried : -1;
    for (size_t s = size_t(done); s < segments.size(); ++s) {
      SMELT_ASSIGN(Statistics found,
                   runSegment(segments[s], carried, double(s), double(segments.size())));
      carried = segments[s].carried;
      SMELT_TRY(sink.finished(int64_t(s), std::move(found),
                              carried >= 0 ? std::span<const Matrix>(boundary)
                                           : std::span<const Matrix>()));
    }
    if (options.progress && !options.progress(1.0))
      return cancelled("calibration was cancelled");
    return {};
  }

private:
  Result<Statistics> runSegment(const Segment &segment, int32_t carriedIn, double done,
                                double all) {
    std::map<int32_t, Accumulator> accumulators; // by the node that makes the input
    for (size_t t = 0; t < tiles.size(); ++t) {
      if (options.progress && !options.progress((done + double(t) / double(tiles.size())) / all))
        return cancelled("calibration was cancelled");
      FloatModel::Values values(graph.nodes.size());
      if (carriedIn >= 0)
        values[carriedIn] = std::move(boundary[t]);
      std::vector<bool> seen(graph.nodes.size(), false);
      auto hook = [&](int32_t node, const Matrix &input) -> Status {
        const int32_t maker = graph.nodes[node].inputs[0];
        if (seen[maker])
          return {};
        seen[maker] = true;
        auto place =
            accumulators.try_emplace(maker, input.cols, options.secondMoments, precision).first;
        for (size_t s = 0; s + 1 < tiles[t].starts.size(); ++s)
          place->second.addSample(input.row(tiles[t].starts[s]),
                                  tiles[t].starts[s + 1] - tiles[t].starts[s], pool);
        return {};
      };
      SMELT_TRY(model.run(tiles[t], wanted, segment.first, segment.last, values, hook));
      if (segment.carried >= 0)
        boundary[t] = std::move(values[segment.carried]);
    }
    if (options.release)
      for (int32_t i = segment.first; i < segment.last; ++i)
        for (int32_t weight : graph.nodes[i].weights)
          if (wanted[i])
            options.release(graph.weights[weight]);
    return finish(segment, accumulators);
  }

  Result<Statistics> finish(const Segment &segment, std::map<int32_t, Accumulator> &accumulators) {
    Statistics statistics;
    std::map<int32_t, InputStatistics> byMaker;
    for (auto &[maker, accumulator] : accumulators)
      byMaker.emplace(maker, accumulator.take());
    for (int32_t i = segment.first; i < segment.last; ++i) {
      const Node &node = graph.nodes[i];
      if (node.kind != NodeKind::Linear)
        continue;
      const InputStatistics &input = byMaker.at(node.inputs[0]);
      SMELT_TRY(checkFinite(input, node.name));
      statistics.inputs.emplace(node.name, input);
    }
    return statistics;
  }

  const Graph &graph;
  const CollectOptions &options;
  WorkerPool pool;
  const ProductPrecision precision;
  FloatModel model;
  std::vector<bool> wanted;
  std::vector<SequenceBatch> tiles;
  std::vector<Matrix> boundary; ///< per tile: the value that crosses into the next segment
};

/// Keeps everything in memory.
class MemorySink : public SegmentSink {
public:
  Result<int64_t> resume(int64_t, std::vector<Matrix> &) override { return int64_t(0); }
  Status finished(int64_t, Statistics found, std::span<const Matrix>) override {
    all.inputs.merge(found.inputs);
    return {};
  }
  Statistics all;
};

} // namespace

Status collectSegments(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                       const CollectOptions &options, SegmentSink &sink) {
  SMELT_TRY(checkGraph(graph));
  if (samples.empty())
    return invalidArgument("there are no calibration samples");
  for (size_t i = 0; i < samples.size(); ++i)
    if (samples[i].empty())
      return invalidArgument("calibration sample " + std::to_string(i) + " has no tokens");
  return Collector(graph, options).collect(samples, sink);
}

Result<Statistics> collectStatistics(const Graph &graph,
                                     const std::vector<std::vector<int32_t>> &samples,
                                     const CollectOptions &options) {
  MemorySink sink;
  SMELT_TRY(collectSegments(graph, samples, options, sink));
  return std::move(sink.all);
}

Result<std::vector<float>> floatLogits(const Graph &graph, const std::vector<int32_t> &tokens,
                                       const std::vector<int32_t> &rows, int threads) {
  SMELT_TRY(checkGraph(graph));
  if (tokens.empty())
    return invalidArgument("there are no tokens to run");
  for (int32_t row : rows)
    if (row < 0 || size_t(row) >= tokens.size())
      return invalidArgument("row " + std::to_string(row) + " of " + std::to_string(tokens.size()) +
                             " tokens was asked for");
  WorkerPool pool(threads);
  FloatModel model(graph, pool, ProductPrecision::Float);
  const int32_t last = int32_t(graph.nodes.size()) - 1;
  FloatModel::Values values(graph.nodes.size());
  SequenceBatch batch{tokens, {0, int64_t(tokens.size())}, rows};
  const std::vector<bool> wanted = ancestors(graph, std::span(&last, 1));
  SMELT_TRY(model.run(batch, wanted, 0, last + 1, values));
  const Matrix &logits = values[last];
  bool selected = false;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    selected |= wanted[i] && graph.nodes[i].kind == NodeKind::SelectRows;
  if (selected)
    return std::vector<float>(logits.row(0), logits.row(logits.rows));
  // A graph without SelectRows made a row for every token.
  std::vector<float> picked;
  picked.reserve(rows.size() * size_t(logits.cols));
  for (int32_t row : rows)
    picked.insert(picked.end(), logits.row(row), logits.row(row) + logits.cols);
  return picked;
}

} // namespace smelt
