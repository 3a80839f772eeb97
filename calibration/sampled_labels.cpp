// Softmax, and a label by inverting its cumulative sum; directions of normal deviates.
#include "calibration/sampled_labels.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numbers>

namespace smelt {

/// Uniform in [0, 1) by place (SplitMix64's mixing, Steele et al., OOPSLA 2014), so that a label
/// depends on neither threads nor tiles before it.
static double uniformAt(uint64_t seed, uint64_t tile, uint64_t row) {
  uint64_t z = seed * 0x9e3779b97f4a7c15 + (tile << 32) + row + 1;
  z *= 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return double((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

std::vector<std::vector<int32_t>> pickWindows(const std::vector<std::vector<int32_t>> &samples,
                                              int64_t most, int64_t tokens) {
  int64_t all = 0;
  for (const std::vector<int32_t> &sample : samples)
    all += std::min(int64_t(sample.size()), tokens);
  // Short samples: more of them.
  const int64_t fitting = most * tokens * int64_t(samples.size()) / std::max<int64_t>(1, all);
  const int64_t count = std::min(fitting, int64_t(samples.size()));
  std::vector<std::vector<int32_t>> windows;
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int32_t> &sample = samples[size_t(i) * samples.size() / size_t(count)];
    windows.emplace_back(sample.begin(), sample.begin() + std::min(int64_t(sample.size()), tokens));
  }
  return windows;
}

Status sampleLabels(Matrix &logits, uint64_t seed, size_t tile, WorkerPool &pool) {
  std::atomic<bool> finite = true;
  pool.run(logits.rows, [&](int64_t row) {
    float *p = logits.row(row);
    rowKernels().softmax(p, 0, logits.cols, logits.cols);
    const double aim = uniformAt(seed, tile, uint64_t(row));
    double sum = 0;
    int64_t label = 0;
    for (int64_t k = 0; k < logits.cols; ++k) {
      if (sum <= aim && p[k] > 0)
        label = k; // the last of positive probability that begins at or before `aim`
      sum += double(p[k]);
    }
    if (!std::isfinite(sum))
      finite = false;
    p[label] -= 1.0f;
  });
  return finite ? Status()
                : invalidArgument("the logits are not finite: the float model overflows or its "
                                  "weights hold NaN");
}

Status sampleDirections(Matrix &states, uint64_t seed, size_t tile, WorkerPool &pool) {
  std::atomic<bool> finite = true;
  pool.run(states.rows, [&](int64_t row) {
    float *h = states.row(row);
    const int64_t cols = states.cols;
    thread_local std::vector<double> z;
    z.resize(size_t(cols));
    double square = 0, along = 0; // |h|^2, h . z
    for (int64_t k = 0; k < cols; ++k) {
      // Box and Muller (1958), from two of the numbers by place.
      const uint64_t place = 2 * uint64_t(row * cols + k);
      const double radius = std::sqrt(-2 * std::log1p(-uniformAt(seed, tile, place)));
      z[size_t(k)] = radius * std::cos(2 * std::numbers::pi * uniformAt(seed, tile, place + 1));
      square += double(h[k]) * double(h[k]);
      along += double(h[k]) * z[size_t(k)];
    }
    if (!std::isfinite(square))
      finite = false;
    const double length = std::sqrt(square);
    for (int64_t k = 0; k < cols; ++k)
      h[k] = square > 0 ? float((z[size_t(k)] - along / square * double(h[k])) / length) : 0.0f;
  });
  return finite ? Status()
                : invalidArgument("the hidden states are not finite: the float model overflows or "
                                  "its weights hold NaN");
}

ProductPrecision SampledPassOptions::precision() const {
  return !exactProducts && bfloat16IsFast() ? ProductPrecision::Bfloat16 : ProductPrecision::Float;
}

Status backpropagateSampled(const Graph &graph, std::span<const SequenceBatch> tiles,
                            WorkerPool &pool, const SampledPassOptions &options,
                            AdjointHooks hooks) {
  AdjointOptions adjoint;
  adjoint.precision = options.precision();
  adjoint.release = options.release;
  adjoint.progress = options.progress;
  hooks.loss = [&](size_t tile, Matrix &results) {
    return graph.givesVectors ? sampleDirections(results, options.seed, tile, pool)
                              : sampleLabels(results, options.seed, tile, pool);
  };
  return backpropagate(graph, tiles, pool, adjoint, hooks);
}

} // namespace smelt
