// Functions and sums that the hot loops of every level share; included by the files that are
// compiled once per level only (SMELT_LEVEL names the namespace).
//
// Nothing here or there may instantiate a shared inline function of the standard library: the
// linker could keep the copy of the wrong level. Sums run over 16 partial sums in a fixed order.
#pragma once

#include "calibration/graph.h"

#include <cstdint>

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

/// A kind as a type, for loops without a branch.
template <ActivationKind value> struct ActivationConstant {
  static constexpr ActivationKind kind = value;
};

/// Calls body with the kind as a compile-time constant.
template <typename Body> inline void withActivation(ActivationKind kind, Body body) {
  switch (kind) {
  case ActivationKind::Identity:
    return body(ActivationConstant<ActivationKind::Identity>());
  case ActivationKind::Relu:
    return body(ActivationConstant<ActivationKind::Relu>());
  case ActivationKind::Relu2:
    return body(ActivationConstant<ActivationKind::Relu2>());
  case ActivationKind::Silu:
    return body(ActivationConstant<ActivationKind::Silu>());
  case ActivationKind::GeluTanh:
    return body(ActivationConstant<ActivationKind::GeluTanh>());
  case ActivationKind::GeluErf:
    return body(ActivationConstant<ActivationKind::GeluErf>());
  }
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

} // namespace
} // namespace smelt::SMELT_LEVEL
