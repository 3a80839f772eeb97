// Loops over rows of float values: activations, norms, rotation, softmax and the sums of
// statistics.
//
// Compiled once per level: see level_math.h.
#include "calibration/kernels.h"
#include "calibration/level_math.h"

#include <cmath>

namespace smelt::SMELT_LEVEL {
namespace {

void activate(ActivationKind kind, const float *x, float *y, int64_t n) {
  withActivation(kind, [&](auto constant) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = activation<constant.kind>(x[i]);
  });
}

void gated(ActivationKind kind, const float *a, const float *b, float *y, int64_t n) {
  withActivation(kind, [&](auto constant) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = activation<constant.kind>(a[i]) * b[i];
  });
}

void add(const float *a, const float *b, float *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = a[i] + b[i];
}

void multiply(const float *a, const float *b, float *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = a[i] * b[i];
}

void scale(float factor, const float *x, float *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = factor * x[i];
}

void softcap(float cap, const float *x, float *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = cap * hyperbolicTangent(x[i] / cap);
}

void rmsNorm(const float *x, const float *weight, double epsilon, float *y, int64_t n) {
  double squares = laneSum<double>(n, [&](int64_t i) { return double(x[i]) * x[i]; });
  float inverse = float(1.0 / __builtin_sqrt(squares / double(n) + epsilon));
  for (int64_t i = 0; i < n; ++i)
    y[i] = x[i] * inverse * weight[i];
}

void layerNorm(const float *x, const float *weight, const float *bias, double epsilon, float *y,
               int64_t n) {
  double mean = laneSum<double>(n, [&](int64_t i) { return double(x[i]); }) / double(n);
  double variance = laneSum<double>(n,
                                    [&](int64_t i) {
                                      double d = double(x[i]) - mean;
                                      return d * d;
                                    }) /
                    double(n);
  double inverse = 1.0 / __builtin_sqrt(variance + epsilon);
  for (int64_t i = 0; i < n; ++i)
    y[i] = float((double(x[i]) - mean) * inverse) * weight[i];
  if (bias)
    for (int64_t i = 0; i < n; ++i)
      y[i] += bias[i];
}

void rope(const float *x, const float *cos, const float *sin, int64_t half, int64_t headDim,
          bool interleaved, float *y) {
  int64_t step = interleaved ? 2 : 1, partner = interleaved ? 1 : half;
  for (int64_t i = 0; i < half; ++i) {
    float a = x[i * step], b = x[i * step + partner];
    y[i * step] = a * cos[i] - b * sin[i];
    y[i * step + partner] = b * cos[i] + a * sin[i];
  }
  for (int64_t i = 2 * half; i < headDim; ++i)
    y[i] = x[i];
}

void softmax(float *x, int64_t first, int64_t last, int64_t n) {
  float most = x[first];
  for (int64_t i = first; i < last; ++i)
    most = x[i] > most ? x[i] : most;
  for (int64_t i = first; i < last; ++i)
    x[i] = exponential(x[i] - most);
  float total = laneSum<float>(last - first, [&](int64_t i) { return x[first + i]; });
  float inverse = 1.0f / total;
  for (int64_t i = first; i < last; ++i)
    x[i] *= inverse;
  for (int64_t i = 0; i < first; ++i)
    x[i] = 0;
  for (int64_t i = last; i < n; ++i)
    x[i] = 0;
}

void moments(const float *x, int64_t count, int64_t stride, int64_t n, double *squares,
             double *absolutes, float *maxima) {
  for (int64_t row = 0; row < count; ++row) {
    const float *values = x + row * stride;
    for (int64_t k = 0; k < n; ++k) {
      float magnitude = __builtin_fabsf(values[k]);
      squares[k] += double(values[k]) * values[k];
      absolutes[k] += double(magnitude);
      maxima[k] = magnitude > maxima[k] ? magnitude : maxima[k];
    }
  }
}

void toBfloat16(const float *x, uint16_t *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits = __builtin_bit_cast(uint32_t, x[i]);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    y[i] = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40) : rounded);
  }
}

} // namespace

extern const RowKernels rowKernelTable;
const RowKernels rowKernelTable = {activate, gated,     add,  multiply, scale,   softcap,
                                   rmsNorm,  layerNorm, rope, softmax,  moments, toBfloat16};

} // namespace smelt::SMELT_LEVEL
