// Hot loops of calibration, compiled once per instruction set level; every level gives the same
// bits.
#pragma once

#include "calibration/graph.h"

#include <cstdint>

namespace smelt {

/// Loops over one row (or one run of elements) of float values.
struct RowKernels {
  /// y = activation(x), n elements; x and y may be the same.
  void (*activate)(ActivationKind kind, const float *x, float *y, int64_t n);
  /// y = activation(a) * b
  void (*gated)(ActivationKind kind, const float *a, const float *b, float *y, int64_t n);
  void (*add)(const float *a, const float *b, float *y, int64_t n);
  void (*multiply)(const float *a, const float *b, float *y, int64_t n);
  void (*scale)(float factor, const float *x, float *y, int64_t n);
  /// y = cap * tanh(x / cap)
  void (*softcap)(float cap, const float *x, float *y, int64_t n);
  /// y = x / sqrt(mean(x^2) + epsilon) * weight
  void (*rmsNorm)(const float *x, const float *weight, double epsilon, float *y, int64_t n);
  /// y = (x - mean) / sqrt(var + epsilon) * weight + bias; bias may be null
  void (*layerNorm)(const float *x, const float *weight, const float *bias, double epsilon,
                    float *y, int64_t n);
  /// y = rotation of one head: pairs (i, i + half) or (2i, 2i + 1), angles' cos and sin [half]; the
  /// rest of `headDim` is copied.
  void (*rope)(const float *x, const float *cos, const float *sin, int64_t half, int64_t headDim,
               bool interleaved, float *y);
  /// In place softmax of x[first, last); everything else of the n elements becomes zero.
  void (*softmax)(float *x, int64_t first, int64_t last, int64_t n);
  /// Over rows of x [count, stride], columns [0, n): sum of squares, sum of |x|, maximum of |x|.
  void (*moments)(const float *x, int64_t count, int64_t stride, int64_t n, double *squares,
                  double *absolutes, float *maxima);
  /// y = x as bfloat16, rounded to nearest even; NaN stays NaN.
  void (*toBfloat16)(const float *x, uint16_t *y, int64_t n);
};

struct TileKernels;    // tile_kernels.h
struct AdjointKernels; // adjoint_kernels.h

/// The kernels of one instruction set level.
struct KernelLevel {
  const char *name;
  const RowKernels &rows;
  const TileKernels &tiles;
  const AdjointKernels &adjoints;
};

/// The levels that this CPU runs, best first.
const std::vector<KernelLevel> &kernelLevels();
/// The kernels of the best level.
const RowKernels &rowKernels();

} // namespace smelt
