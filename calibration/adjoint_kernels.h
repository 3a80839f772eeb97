// Hot loops of the backward pass, compiled once per instruction set level; every level gives the
// same bits.
#pragma once

#include "calibration/graph.h"

#include <cstdint>

namespace smelt {

/// Adjoints over one row (or one run of elements). g is the gradient of the loss by the node's
/// value, dx what follows by its input x: dx = g * dy/dx. dx may be g.
struct AdjointKernels {
  /// y = activation(x)
  void (*activate)(ActivationKind kind, const float *x, const float *g, float *dx, int64_t n);
  /// y = activation(a) * b
  void (*gated)(ActivationKind kind, const float *a, const float *b, const float *g, float *da,
                float *db, int64_t n);
  /// y = cap * tanh(x / cap)
  void (*softcap)(float cap, const float *x, const float *g, float *dx, int64_t n);
  /// y = x r w, r = 1 / sqrt(mean(x^2) + epsilon): dx = r (g w - x r^2 mean(g w x))
  void (*rmsNorm)(const float *x, const float *weight, double epsilon, const float *g, float *dx,
                  int64_t n);
  /// y = (x - m) r w + b: dx = r (g w - mean(g w) - (x - m) r^2 mean(g w (x - m)))
  void (*layerNorm)(const float *x, const float *weight, double epsilon, const float *g, float *dx,
                    int64_t n);
  /// p = softmax(x): dx = p (g - sum(p g))
  void (*softmax)(const float *p, const float *g, float *dx, int64_t n);
  /// dx = g (1 - (y / cap)^2) for y = cap * tanh(x / cap)
  void (*cappedScores)(float cap, const float *y, const float *g, float *dx, int64_t n);
  /// sum of a b
  double (*dot)(const float *a, const float *b, int64_t n);
  /// e = round(x) - x, where round is to the nearest of 2 * levels + 1 values that reach to the
  /// largest magnitude of the n elements.
  void (*roundingError)(const float *x, float levels, float *e, int64_t n);
};

/// The kernels of the best level.
const AdjointKernels &adjointKernels();

} // namespace smelt
