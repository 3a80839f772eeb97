// The backward pass with sampled labels; per node one more product, with the error of its weights.
#include "calibration/sensitivity.h"
#include "calibration/adjoint.h"
#include "calibration/adjoint_kernels.h"
#include "calibration/gemm.h"
#include "calibration/products.h"
#include "calibration/sampled_labels.h"
#include "calibration/segments.h"
#include "runtime/formats/formats.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>

namespace smelt {

namespace {

constexpr int64_t rowBlock = 32; ///< rows that one item reads
/// Elements of a matrix whose error is in memory at a time.
constexpr int64_t errorElements = 1 << 22;

class Measurement {
public:
  Measurement(const Graph &graph, std::vector<SequenceBatch> tiles, const StoredRows &stored,
              const SensitivityOptions &options)
      : graph(graph), tiles(std::move(tiles)), stored(stored), options(options),
        pool(options.threads), precision(options.precision()) {}

  Result<Sensitivity> run() {
    AdjointHooks hooks;
    hooks.visit = [this](const NodeGradient &seen) { return visit(seen); };
    hooks.finished = [this](int32_t, int32_t) {
      keptErrors.clear();
      keptBytes = 0;
      return Status();
    };
    SMELT_TRY(backpropagateSampled(graph, tiles, pool, options, std::move(hooks)));
    Sensitivity result;
    for (const SequenceBatch &tile : tiles)
      result.tokens += tile.size();
    for (auto &[node, sums] : nodes) {
      scale(sums, 0.5 / double(result.tokens));
      result.nodes.push_back(std::move(sums));
    }
    return result;
  }

private:
  static void scale(NodeSensitivity &sums, double factor) {
    for (double *value : {&sums.kl, &sums.a8g32, &sums.a8g64, &sums.a8t, &sums.a16g32})
      *value *= factor;
    for (double &value : sums.partKl)
      value *= factor;
  }

  Status visit(const NodeGradient &seen) {
    const Node &node = graph.nodes[seen.node];
    if (node.kind == NodeKind::Linear)
      return linear(seen);
    const bool byToken =
        node.kind == NodeKind::Embedding && node.positionOffset < 0 && !node.tokenTypes;
    return byToken ? embedding(seen) : Status();
  }

  NodeSensitivity &sumsOf(int32_t node, size_t parts) {
    auto [place, added] = nodes.try_emplace(node);
    if (added)
      place->second = {node, graph.nodes[node].name, 0, std::vector<double>(parts, 0.0)};
    return place->second;
  }

  Status linear(const NodeGradient &seen) {
    const Node &node = graph.nodes[seen.node];
    const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
    const int64_t tokens = seen.input->rows;
    NodeSensitivity &sums = sumsOf(seen.node, parts);
    const Operand x(*seen.input, precision, pool);
    std::vector<double> whole(size_t(tokens), 0.0), dots(whole);
    for (size_t p = 0, row = 0; p < parts; ++p) {
      const WeightView &part = graph.weights[node.weights[p]];
      std::fill(dots.begin(), dots.end(), 0.0);
      const int64_t most = std::max<int64_t>(1, errorElements / part.cols);
      for (int64_t first = 0; first < part.rows; first += most)
        SMELT_TRY(addErrors(seen, part, first, std::min(most, part.rows - first),
                            int64_t(row) + first, x, dots));
      for (int64_t t = 0; t < tokens; ++t) {
        sums.partKl[p] += dots[t] * dots[t];
        whole[t] += dots[t];
      }
      row += size_t(part.rows);
    }
    for (int64_t t = 0; t < tokens; ++t)
      sums.kl += whole[t] * whole[t];
    sums.a8g32 += roundingSquares(seen, groupInputs, 127);
    sums.a8g64 += roundingSquares(seen, 2 * groupInputs, 127);
    sums.a8t += roundingSquares(seen, seen.input->cols, 127);
    sums.a16g32 += roundingSquares(seen, groupInputs, 32767);
    return {};
  }

  /// dots[t] += g_t . D x_t over `count` rows of a part, which are rows [row, ...) of the linear.
  Status addErrors(const NodeGradient &seen, const WeightView &part, int64_t first, int64_t count,
                   int64_t row, const Operand &x, std::vector<double> &dots) {
    // Rounded errors serve all tiles that pass this segment.
    const std::pair<int32_t, int64_t> place(seen.node, row);
    auto known = keptErrors.find(place);
    std::optional<Operand> own;
    std::vector<float> errors; // D [count, K]
    if (known == keptErrors.end()) {
      errors.resize(size_t(count * part.cols));
      SMELT_TRY(readErrors(seen.node, part, first, count, row, errors.data()));
      own.emplace(errors.data(), count, part.cols, precision, pool);
      const int64_t bytes = count * part.cols * int64_t(sizeof(uint16_t));
      if (precision == ProductPrecision::Bfloat16 && keptBytes + bytes <= mostKeptBytes) {
        keptBytes += bytes;
        known = keptErrors.emplace(place, std::move(*own)).first;
      }
    }
    const Operand &d = known != keptErrors.end() ? known->second : *own;
    std::vector<float> moved(size_t(x.rows() * count)); // D x [T, count]
    multiply(x, false, d, true, moved.data(), count, false, pool);
    pool.run(x.rows(), [&](int64_t t) {
      dots[t] += adjointKernels().dot(seen.gradient.row(t) + row, moved.data() + t * count, count);
    });
    return {};
  }

  /// The stored less the true weights.
  Status readErrors(int32_t node, const WeightView &part, int64_t first, int64_t count, int64_t row,
                    float *out) {
    std::mutex mutex;
    Status status;
    pool.run((count + rowBlock - 1) / rowBlock, [&](int64_t block) {
      const int64_t at = block * rowBlock, rows = std::min(rowBlock, count - at);
      float *errors = out + at * part.cols;
      thread_local std::vector<float> weights; // [rows, K]
      weights.resize(size_t(rows * part.cols));
      Status read = stored(node, row + at, rows, errors);
      if (!read.ok()) {
        std::lock_guard lock(mutex);
        status = std::move(read);
        return;
      }
      readRows(part, first + at, rows, weights.data());
      for (int64_t i = 0; i < rows * part.cols; ++i)
        errors[i] -= weights[i];
    });
    return status;
  }

  /// Sum over tokens of (g_t . W e_t)^2 = (W^T g_t . e_t)^2 for rounding in groups of `group`.
  double roundingSquares(const NodeGradient &seen, int64_t group, float levels) {
    const int64_t cols = seen.input->cols;
    std::vector<double> dots(size_t(seen.input->rows));
    pool.run(seen.input->rows, [&](int64_t t) {
      thread_local std::vector<float> errors; // [K]
      errors.resize(size_t(cols));
      for (int64_t k = 0; k < cols; k += group)
        adjointKernels().roundingError(seen.input->row(t) + k, levels, errors.data() + k,
                                       std::min(group, cols - k));
      dots[t] = adjointKernels().dot(seen.inputGradient->row(t), errors.data(), cols);
    });
    double sum = 0;
    for (double dot : dots)
      sum += dot * dot;
    return sum;
  }

  Status embedding(const NodeGradient &seen) {
    const Node &node = graph.nodes[seen.node];
    const WeightView &table = graph.weights[node.weights[0]];
    NodeSensitivity &sums = sumsOf(seen.node, 1);
    std::vector<float> error(size_t(node.width));
    for (int64_t t = 0; t < seen.gradient.rows; ++t) {
      const int64_t row = tiles[seen.tile].tokens[t];
      SMELT_TRY(readErrors(seen.node, table, row, 1, row, error.data()));
      const double dot =
          node.scalar * adjointKernels().dot(seen.gradient.row(t), error.data(), node.width);
      sums.kl += dot * dot;
    }
    sums.partKl[0] = sums.kl;
    return {};
  }

  const Graph &graph;
  const std::vector<SequenceBatch> tiles;
  const StoredRows &stored;
  const SensitivityOptions &options;
  WorkerPool pool;
  const ProductPrecision precision;
  std::map<int32_t, NodeSensitivity> nodes;
  std::map<std::pair<int32_t, int64_t>, Operand> keptErrors; ///< by node and first row
  int64_t keptBytes = 0;
};

} // namespace

Result<Sensitivity> measureSensitivity(const Graph &graph,
                                       const std::vector<std::vector<int32_t>> &samples,
                                       const StoredRows &stored,
                                       const SensitivityOptions &options) {
  SMELT_TRY(checkGraph(graph));
  const std::vector<std::vector<int32_t>> windows =
      pickWindows(samples, options.windows, options.tokens);
  for (const std::vector<int32_t> &window : windows)
    if (window.empty())
      return invalidArgument("a window of the sensitivity's samples has no tokens");
  if (windows.empty())
    return invalidArgument("there are no samples to measure the sensitivity on");
  return Measurement(graph, makeTiles(windows, options.tokens), stored, options).run();
}

} // namespace smelt
