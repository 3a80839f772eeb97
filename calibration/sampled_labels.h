// Labels drawn from the model itself, and the gradient of their loss: what Fisher information is
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
  int64_t windows;      ///< samples that are used, at most, evenly spread over those given
  int64_t tokens = 512; ///< of each, at most
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

/// Samples evenly spread over those given, `windows` at most, each cut to `tokens`.
std::vector<std::vector<int32_t>> pickWindows(const std::vector<std::vector<int32_t>> &samples,
                                              int64_t windows, int64_t tokens);

/// Turns logits [rows, vocab] into the gradient of -log p(label) by them: p less one at a label
/// drawn from p. The draw depends on seed, tile and row alone.
[[nodiscard]] Status sampleLabels(Matrix &logits, uint64_t seed, size_t tile, WorkerPool &pool);

/// backpropagate() with the loss of sampled labels; `hooks` has the other hooks.
[[nodiscard]] Status backpropagateSampled(const Graph &graph, std::span<const SequenceBatch> tiles,
                                          WorkerPool &pool, const SampledPassOptions &options,
                                          AdjointHooks hooks);

} // namespace smelt
