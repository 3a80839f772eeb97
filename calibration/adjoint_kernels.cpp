// Loops of the backward pass over rows of float values. Compiled once per level: see level_math.h.
#include "calibration/adjoint_kernels.h"
#include "calibration/level_math.h"

namespace smelt::SMELT_LEVEL {
namespace {

/// Of the activation at x.
template <ActivationKind kind> inline float derivative(float x) {
  switch (kind) {
  case ActivationKind::Identity:
    return 1.0f;
  case ActivationKind::Relu:
    return x > 0 ? 1.0f : 0.0f;
  case ActivationKind::Relu2:
    return x > 0 ? 2.0f * x : 0.0f;
  case ActivationKind::Silu: {
    float s = 1.0f / (1.0f + exponential(-x));
    return s * (1.0f + x * (1.0f - s));
  }
  case ActivationKind::GeluTanh: {
    constexpr float root = 0.7978845608028654f, cube = 0.044715f; // sqrt(2 / pi)
    float t = hyperbolicTangent(root * (x + cube * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * root * (1.0f + 3.0f * cube * x * x);
  }
  case ActivationKind::GeluErf: {
    constexpr float density = 0.3989422804014327f; // 1 / sqrt(2 pi)
    return 0.5f * (1.0f + errorFunction(x * 0.7071067811865476f)) +
           x * density * exponential(-0.5f * x * x);
  }
  }
  return 1.0f;
}

void activate(ActivationKind kind, const float *x, const float *g, float *dx, int64_t n) {
  withActivation(kind, [&](auto constant) {
    for (int64_t i = 0; i < n; ++i)
      dx[i] = g[i] * derivative<constant.kind>(x[i]);
  });
}

void gated(ActivationKind kind, const float *a, const float *b, const float *g, float *da,
           float *db, int64_t n) {
  withActivation(kind, [&](auto constant) {
    for (int64_t i = 0; i < n; ++i) {
      float gradient = g[i];
      da[i] = gradient * b[i] * derivative<constant.kind>(a[i]);
      db[i] = gradient * activation<constant.kind>(a[i]);
    }
  });
}

void softcap(float cap, const float *x, const float *g, float *dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    float t = hyperbolicTangent(x[i] / cap);
    dx[i] = g[i] * (1.0f - t * t);
  }
}

void rmsNorm(const float *x, const float *weight, double epsilon, const float *g, float *dx,
             int64_t n) {
  double squares = laneSum<double>(n, [&](int64_t i) { return double(x[i]) * x[i]; });
  double along = laneSum<double>(n, [&](int64_t i) { return double(g[i]) * weight[i] * x[i]; });
  double inverse2 = 1.0 / (squares / double(n) + epsilon), inverse = __builtin_sqrt(inverse2);
  double factor = inverse2 * along / double(n);
  for (int64_t i = 0; i < n; ++i)
    dx[i] = float(inverse * (double(g[i]) * weight[i] - x[i] * factor));
}

void layerNorm(const float *x, const float *weight, double epsilon, const float *g, float *dx,
               int64_t n) {
  double mean = laneSum<double>(n, [&](int64_t i) { return double(x[i]); }) / double(n);
  double variance = laneSum<double>(n,
                                    [&](int64_t i) {
                                      double d = double(x[i]) - mean;
                                      return d * d;
                                    }) /
                    double(n);
  double inverse2 = 1.0 / (variance + epsilon), inverse = __builtin_sqrt(inverse2);
  double level =
      laneSum<double>(n, [&](int64_t i) { return double(g[i]) * weight[i]; }) / double(n);
  double along =
      laneSum<double>(n,
                      [&](int64_t i) { return double(g[i]) * weight[i] * (double(x[i]) - mean); }) /
      double(n);
  for (int64_t i = 0; i < n; ++i)
    dx[i] = float(inverse *
                  (double(g[i]) * weight[i] - level - (double(x[i]) - mean) * inverse2 * along));
}

void softmax(const float *p, const float *g, float *dx, int64_t n) {
  float mean = laneSum<float>(n, [&](int64_t i) { return p[i] * g[i]; });
  for (int64_t i = 0; i < n; ++i)
    dx[i] = p[i] * (g[i] - mean);
}

void cappedScores(float cap, const float *y, const float *g, float *dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    float t = y[i] / cap;
    dx[i] = g[i] * (1.0f - t * t);
  }
}

double dot(const float *a, const float *b, int64_t n) {
  return laneSum<double>(n, [&](int64_t i) { return double(a[i]) * b[i]; });
}

void roundingError(const float *x, float levels, float *e, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    float magnitude = __builtin_fabsf(x[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  float scale = largest / levels, inverse = largest > 0 ? levels / largest : 0.0f;
  constexpr float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
  for (int64_t i = 0; i < n; ++i) {
    float q = (x[i] * inverse + shift) - shift;
    e[i] = q * scale - x[i];
  }
}

} // namespace

extern const AdjointKernels adjointKernelTable;
const AdjointKernels adjointKernelTable = {activate, gated,        softcap, rmsNorm,      layerNorm,
                                           softmax,  cappedScores, dot,     roundingError};

} // namespace smelt::SMELT_LEVEL
