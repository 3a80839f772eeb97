// Scales learned from the whole model: codes stay, steps and offsets of all groups follow the
// gradient of the divergence from the float model.
#pragma once

#include "calibration/graph.h"
#include "runtime/base/status.h"

#include <functional>
#include <vector>

namespace smelt {

/// A quantized matrix [rows, cols]: value(n, k) = steps(n, g) * levels[codes(n, k)] - offsets(n,
/// g), g = k / group. It stands for these weights of the graph wherever they are used.
struct TunedMatrix {
  std::vector<int32_t> weights; ///< indices of one view: a table may be tied to the head
  int64_t rows = 0, cols = 0;
  int64_t group = 32;                ///< inputs that share a step; the last group may be smaller
  std::vector<uint8_t> codes;        ///< [rows, cols]
  std::vector<float> levels;         ///< by code
  std::vector<float> steps, offsets; ///< [rows, groups]; offsets may be empty: 0
  bool train = true;                 ///< otherwise it stays as it is, and only counts in the loss

  int64_t groups() const { return (cols + group - 1) / group; }
  /// Row n as floats [cols].
  void decode(int64_t n, float *out) const;
};

struct TuneOptions {
  int64_t batchTokens = 2048; ///< of one step
  int64_t epochs = 2;         ///< passes over all samples
  /// About the largest change of a step in one optimizer step, relative to its size.
  double rate = 1e-4;
  uint64_t seed = 1; ///< of the order of the samples
  int threads = 0;   ///< 0: all cores
  /// Float products even where the CPU multiplies bfloat16 twice as fast.
  bool exactProducts = false;
  /// Rounds steps and offsets of the matrices to what can be stored; empty: they are stored as they
  /// are.
  std::function<void(std::vector<TunedMatrix> &)> settle;
  /// Called with 0..1 and the mean divergence of the batch after every step; returning false
  /// cancels.
  std::function<bool(double, double)> progress;
};

/// Mean divergences in nats per token, over samples that were held back from learning.
struct TuneReport {
  double before = 0, after = 0; ///< of the matrices as they were given, and as they are now
};

/// Minimizes the mean over tokens of KL(float || quantized) by Adam (Kingma and Ba, ICLR 2015) with
/// a rate that falls linearly to zero, over all steps and offsets of `matrices` at once (codes
/// first, then end-to-end scales: EfficientQAT, Chen et al. 2024). With dW = g^T x, a step's
/// gradient is the sum over its group of dW * level, an offset's the sum of -dW. Every eighth piece
/// of the samples is held back; after every epoch the settled scales are measured on these, the
/// best stay, and an epoch that was no better is undone and followed by a quarter of the rate. So
/// `after` is never more than `before`.
Result<TuneReport> tuneScales(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                              std::vector<TunedMatrix> &matrices, const TuneOptions &options);

} // namespace smelt
