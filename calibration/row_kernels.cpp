// Loops over rows of float values: activations, norms, rotation, softmax and the sums of
// statistics.
//
// Compiled once per level (SMELT_LEVEL names the namespace), so nothing here may instantiate a
// shared inline function of the standard library: the linker could keep the copy of the wrong
// level. Sums run over 16 partial sums in a fixed order.
#include "calibration/kernels.h"

#include <cmath>

namespace smelt::SMELT_LEVEL {
namespace {

constexpr int lanes = 16;

/// e^x to about 1 ulp: x = n ln 2 + r, degree 6 polynomial in r (Cephes' coefficients), then 2^n by
/// the exponent bits.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
  float shifted = x * 1.44269504088896341f + shift;
  float n = shifted - shift;
  float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // The low bits of the sum are the integer; taken so, a NaN is no conversion out of range.
  uint32_t integer = __builtin_bit_cast(uint32_t, shifted) - __builtin_bit_cast(uint32_t, shift);
  return p * __builtin_bit_cast(float, (integer + 127) << 23);
}

/// tanh by e^-2|x|, and by its series near zero, where the quotient cancels.
inline float hyperbolicTangent(float x) {
  float magnitude = x < 0 ? -x : x;
  float e = exponential(-2.0f * magnitude);
  float quotient = (1.0f - e) / (1.0f + e);
  float x2 = x * x;
  float series =
      magnitude * (1.0f + x2 * (-0.333333333f + x2 * (0.133333333f + x2 * -0.0539682540f)));
  float value = magnitude < 0.2f ? series : quotient;
  return x < 0 ? -value : value;
}

/// erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
inline float errorFunction(float x) {
  float magnitude = x < 0 ? -x : x;
  float t = 1.0f / (1.0f + 0.3275911f * magnitude);
  float poly =
      t * (0.254829592f +
           t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  float value = 1.0f - poly * exponential(-magnitude * magnitude);
  return x < 0 ? -value : value;
}

template <ActivationKind kind> inline float activation(float x) {
  switch (kind) {
  case ActivationKind::Identity:
    return x;
  case ActivationKind::Relu:
    return x > 0 ? x : 0.0f;
  case ActivationKind::Relu2: {
    float positive = x > 0 ? x : 0.0f;
    return positive * positive;
  }
  case ActivationKind::Silu:
    return x / (1.0f + exponential(-x));
  case ActivationKind::GeluTanh:
    return 0.5f * x * (1.0f + hyperbolicTangent(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  case ActivationKind::GeluErf:
    return 0.5f * x * (1.0f + errorFunction(x * 0.7071067811865476f));
  }
  return x;
}

/// Calls body with the kind as a compile-time constant, so that its loop has no branch.
template <typename Body> inline void withActivation(ActivationKind kind, Body body) {
  switch (kind) {
  case ActivationKind::Identity:
    return body([](float x) { return activation<ActivationKind::Identity>(x); });
  case ActivationKind::Relu:
    return body([](float x) { return activation<ActivationKind::Relu>(x); });
  case ActivationKind::Relu2:
    return body([](float x) { return activation<ActivationKind::Relu2>(x); });
  case ActivationKind::Silu:
    return body([](float x) { return activation<ActivationKind::Silu>(x); });
  case ActivationKind::GeluTanh:
    return body([](float x) { return activation<ActivationKind::GeluTanh>(x); });
  case ActivationKind::GeluErf:
    return body([](float x) { return activation<ActivationKind::GeluErf>(x); });
  }
}

void activate(ActivationKind kind, const float *x, float *y, int64_t n) {
  withActivation(kind, [&](auto function) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = function(x[i]);
  });
}

void gated(ActivationKind kind, const float *a, const float *b, float *y, int64_t n) {
  withActivation(kind, [&](auto function) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = function(a[i]) * b[i];
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

/// Sum of term(i) over [0, n) in 16 partial sums.
template <typename Real, typename Term> inline Real laneSum(int64_t n, Term term) {
  Real partial[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane)
      partial[lane] += term(i + lane);
  for (int64_t lane = 0; i < n; ++i, ++lane)
    partial[lane] += term(i);
  Real total = 0;
  for (int64_t lane = 0; lane < lanes; ++lane)
    total += partial[lane];
  return total;
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
