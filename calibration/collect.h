// Runs the float model over calibration samples, layer by layer, and collects the statistics of
// every linear input.
#pragma once

#include "calibration/graph.h"
#include "calibration/statistics.h"

#include <functional>

namespace smelt {

struct CollectOptions {
  int threads = 0;            ///< 0: all cores
  bool secondMoments = false; ///< also sum x x^T
  /// Float products even where the CPU multiplies bfloat16 twice as fast. Rounding operands to
  /// bfloat16 moves the sums by some 0.1 %, far less than another choice of samples does.
  bool exactProducts = false;
  /// Called for every weight that has been used and is not needed for a while, so that its owner
  /// may drop the mapped pages; may be empty.
  std::function<void(const WeightView &)> release;
  /// Called with 0..1 now and then; returning false cancels.
  std::function<bool(double)> progress;
};

/// Samples are token sequences (one slot each). Memory is bounded by the activations at one layer
/// boundary for all samples, plus one layer's weights: segments of the graph between single-value
/// cuts run over all samples before the next begins.
Result<Statistics> collectStatistics(const Graph &graph,
                                     const std::vector<std::vector<int32_t>> &samples,
                                     const CollectOptions &options);

/// The float model itself (oneDNN sgemm), for perplexity and KL: logits [rows.size(), vocab] of the
/// wanted rows of one sequence.
Result<std::vector<float>> floatLogits(const Graph &graph, const std::vector<int32_t> &tokens,
                                       const std::vector<int32_t> &rows, int threads);

} // namespace smelt
