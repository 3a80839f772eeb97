// Labels drawn from the model itself, and the gradient of their loss: what Fisher information is
// estimated from.
#pragma once

#include "calibration/float_model.h"
#include "calibration/parallel.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <vector>

namespace smelt {

/// Samples evenly spread over those given, `windows` at most, each cut to `tokens`.
std::vector<std::vector<int32_t>> pickWindows(const std::vector<std::vector<int32_t>> &samples,
                                              int64_t windows, int64_t tokens);

/// Turns logits [rows, vocab] into the gradient of -log p(label) by them: p less one at a label
/// drawn from p. The draw depends on seed, tile and row alone.
[[nodiscard]] Status sampleLabels(Matrix &logits, uint64_t seed, size_t tile, WorkerPool &pool);

} // namespace smelt
