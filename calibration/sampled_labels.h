// Labels or directions drawn at random, and the gradient of their loss: what Fisher information is
// estimated from.
#pragma once

#include "calibration/adjoint.h"
#include "calibration/float_model.h"
#include "calibration/parallel.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <vector>

namespace smelt {

/// What a backward pass with sampled labels runs over, and how.
struct SampledPassOptions {
  int64_t windows;      ///< samples that are used, evenly spread over those given, if they are long
  int64_t tokens = 512; ///< of each, at most; of shorter samples there are more
  uint64_t seed;        ///< of the labels
  int threads = 0;      ///< 0: all cores
  /// Float products even where the CPU multiplies bfloat16 twice as fast.
  bool exactProducts = false;
  /// Called for every weight that has been used and is not needed for a while; may be empty.
  std::function<void(const WeightView &)> release = {};
  /// Called with 0..1 now and then; returning false cancels.
  std::function<bool(double)> progress = {};

  ProductPrecision precision() const;
};

/// Samples evenly spread over those given, each cut to `tokens`: about `windows` * `tokens` in all.
std::vector<std::vector<int32_t>> pickWindows(const std::vector<std::vector<int32_t>> &samples,
                                              int64_t windows, int64_t tokens);

/// Turns logits [rows, vocab] into the gradient of -log p(label) by them: p less one at a label
/// drawn from p. The draw depends on seed, tile and row alone.
[[nodiscard]] Status sampleLabels(Matrix &logits, uint64_t seed, size_t tile, WorkerPool &pool);

/// Turns hidden states h [rows, width] into (I - h h^T / |h|^2) z / |h| with z drawn from N(0, I):
/// 1/2 E[(g . delta)^2] is 1 - cos of the angle between h and h + delta, to second order.
[[nodiscard]] Status sampleDirections(Matrix &states, uint64_t seed, size_t tile, WorkerPool &pool);

/// backpropagate() with the loss of sampled labels, or of directions where the graph gives vectors;
/// `hooks` has the other hooks.
[[nodiscard]] Status backpropagateSampled(const Graph &graph, std::span<const SequenceBatch> tiles,
                                          WorkerPool &pool, const SampledPassOptions &options,
                                          AdjointHooks hooks);

} // namespace smelt
