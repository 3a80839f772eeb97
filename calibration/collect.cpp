// Statistics of linear inputs, segment by segment: all samples pass one segment of the graph before
// the next begins.
#include "calibration/collect.h"
#include "calibration/finite.h"
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
constexpr int64_t columnBlock = 256; ///< columns of one piece of work

/// Adds what one tile of samples shows at one input. Every sum over the tile's tokens is rounded
/// first, so that adding tiles is exact and any grouping of them gives the same sums (exact_sum.h);
/// shards are whole tiles (shardSamples).
class Accumulator {
public:
  Accumulator(int64_t cols, bool secondMoments, ProductPrecision precision)
      : cols(cols), precision(precision) {
    sums.sumSquares.assign(size_t(cols), 0);
    sums.sumAbsolute.assign(size_t(cols), 0);
    sums.maxAbsolute.assign(size_t(cols), 0);
    columnsLost.resize(size_t((cols + columnBlock - 1) / columnBlock));
    if (secondMoments) {
      moments = std::make_shared<std::vector<double>>(size_t(triangleSize(cols)), 0.0);
      for (int64_t row = 0; row < cols; row += columnBlock)
        for (int64_t column = row; column < cols; column += widest)
          pieces.push_back({row, column, std::min(widest, cols - column), {}});
    }
  }

  void addTile(const float *x, int64_t tokens, WorkerPool &pool) {
    sums.tokens += uint64_t(tokens);
    pool.run((cols + columnBlock - 1) / columnBlock, [&](int64_t block) {
      addColumns(x, tokens, block * columnBlock, std::min(columnBlock, cols - block * columnBlock));
    });
    if (moments)
      for (int64_t first = 0; first < tokens; first += tileTokens)
        addMoments(x + first * cols, std::min(tileTokens, tokens - first), pool);
  }

  InputStatistics take() {
    for (ColumnsLost &lost : columnsLost) {
      sums.squaresResidues.merge(lost.squares);
      sums.absoluteResidues.merge(lost.absolutes);
    }
    settle(sums.sumSquares, sums.squaresResidues);
    settle(sums.sumAbsolute, sums.absoluteResidues);
    if (moments) {
      auto residues = std::make_shared<Residues>();
      for (Piece &piece : pieces)
        residues->merge(piece.lost);
      settle(*moments, *residues);
      sums.secondMoments = std::move(moments);
      sums.momentResidues = std::move(residues);
    }
    return std::move(sums);
  }

private:
  void addColumns(const float *x, int64_t tokens, int64_t column, int64_t count) {
    double squares[columnBlock] = {}, absolutes[columnBlock] = {};
    rowKernels().moments(x + column, tokens, cols, count, squares, absolutes,
                         sums.maxAbsolute.data() + column);
    ColumnsLost &lost = columnsLost[size_t(column / columnBlock)];
    auto add = [&](double &sum, double term, Residues &residues, int64_t k) {
      if (double rest = addExactly(sum, roundTerm(float(term))); std::fabs(rest) > 0)
        residues[uint64_t(k)] += rest;
    };
    for (int64_t k = 0; k < count; ++k) {
      add(sums.sumSquares[column + k], squares[k], lost.squares, column + k);
      add(sums.sumAbsolute[column + k], absolutes[k], lost.absolutes, column + k);
    }
  }

  /// Upper triangle by strips of rows: strip [i, i + block) times the columns from i on.
  void addMoments(const float *x, int64_t tokens, WorkerPool &pool) {
    if (precision == ProductPrecision::Bfloat16) {
      rounded.resize(size_t(tokens * cols));
      pool.run(tokens, [&](int64_t t) {
        rowKernels().toBfloat16(x + t * cols, rounded.data() + t * cols, cols);
      });
    }
    pool.run(int64_t(pieces.size()), [&](int64_t item) {
      Piece &piece = pieces[item];
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
        const int64_t first = triangleRow(k, cols) + from - k;
        addRow(product.data() + i * piece.columns + from - piece.column,
               piece.column + piece.columns - from, first, piece.lost);
      }
    });
  }

  /// Adds `count` terms to the moments from entry `first` on.
  void addRow(const float *terms, int64_t count, int64_t first, Residues &residues) {
    double lost[widest], any = 0;
    double *sum = moments->data() + first;
    for (int64_t i = 0; i < count; ++i) {
      lost[i] = addExactly(sum[i], roundTerm(terms[i]));
      any += std::fabs(lost[i]);
    }
    if (!(any > 0)) // not a number where the model overflows, which checkFinite tells
      return;
    for (int64_t i = 0; i < count; ++i)
      if (lost[i] != 0)
        residues[uint64_t(first + i)] += lost[i];
  }

  static constexpr int64_t widest = 4 * columnBlock; ///< columns of one product
  /// One product of second moments: rows [row, row + columnBlock) by columns from `column` on.
  struct Piece {
    int64_t row, column, columns;
    Residues lost;
  };
  struct ColumnsLost {
    Residues squares, absolutes;
  };

  int64_t cols;
  ProductPrecision precision;
  InputStatistics sums;
  std::shared_ptr<std::vector<double>> moments;
  std::vector<uint16_t> rounded;        ///< [tokens, cols] as bfloat16
  std::vector<Piece> pieces;            ///< of second moments; one thread works at each
  std::vector<ColumnsLost> columnsLost; ///< by block of columns
};

/// Blames the weight that is not a number, if one is.
Status checkInput(const Graph &graph, const InputStatistics &statistics, const std::string &name) {
  for (size_t k = 0; k < statistics.sumSquares.size(); ++k) {
    if (std::isfinite(statistics.sumSquares[k]))
      continue;
    for (const WeightView &weight : graph.weights)
      SMELT_TRY(checkFinite(weight));
    return invalidArgument("the input of linear '" + name + "' is not finite in column " +
                           std::to_string(k) + ": the float model overflows");
  }
  return {};
}

class Collector {
public:
  Collector(const Graph &graph, const CollectOptions &options)
      : graph(graph), options(options), pool(options.threads),
        precision(!options.exactProducts && bfloat16IsFast() ? ProductPrecision::Bfloat16
                                                             : ProductPrecision::Float),
        model(graph, pool, precision) {
    model.keepWeights(); // every tile passes a segment before the next begins
  }

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
        place->second.addTile(input.row(0), input.rows, pool);
        return {};
      };
      SMELT_TRY(model.run(tiles[t], wanted, segment.first, segment.last, values, hook));
      if (segment.carried >= 0)
        boundary[t] = std::move(values[segment.carried]);
    }
    model.dropWeights();
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
      SMELT_TRY(checkInput(graph, input, node.name));
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

std::vector<std::vector<int32_t>> shardSamples(const std::vector<std::vector<int32_t>> &samples,
                                               uint32_t shard, uint32_t count) {
  const std::vector<SequenceBatch> tiles = makeTiles(samples, tileTokens);
  const size_t first = tiles.size() * shard / count, last = tiles.size() * (shard + 1) / count;
  std::vector<std::vector<int32_t>> part;
  size_t sample = 0;
  for (size_t t = 0; t < last; ++t)
    for (size_t i = 0; i + 1 < tiles[t].starts.size(); ++i, ++sample)
      if (t >= first)
        part.push_back(samples[sample]);
  return part;
}

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
