// exp, log, sin, cos, atan, tanh, erf, softplus and pow in double, as polynomials of our own: the
// same bits on every target.
//
// Series are Taylor's, cut where the rest is below 2^-54 of the value; everything is fma, exactly
// rounded arithmetic or exact bit arithmetic.
#include "passes/lower/tensor_kernels/math.h"

using namespace mlir;

namespace smelt {

namespace {

using Real = arith::CmpFPredicate;

/// c[0] + x c[1] + x^2 c[2] + ... by Horner's rule.
Value polynomial(TensorKernelBuilder &k, Value x, ArrayRef<double> c) {
  Value sum = k.number(x, c.back());
  for (double next : llvm::reverse(c.drop_back()))
    sum = k.fma(sum, x, k.number(x, next));
  return sum;
}

Value bitsOf(TensorKernelBuilder &k, Value x) {
  return arith::BitcastOp::create(k.b, k.like(x, k.i64), x);
}
Value realOf(TensorKernelBuilder &k, Value bits) {
  return arith::BitcastOp::create(k.b, k.like(bits, k.f64), bits);
}
Value copySign(TensorKernelBuilder &k, Value magnitude, Value sign) {
  return math::CopySignOp::create(k.b, magnitude, sign);
}

/// Adding it rounds a double below 2^51 to an integer and leaves that in the low bits of the sum.
constexpr double magic = 0x1.8p52;

constexpr double ln2High = 0x1.62e42fefa3800p-1; // 12 low bits are zero
constexpr double ln2Low = 0x1.ef35793c76730p-45;

/// 2^n of the integer in the low bits of `shifted`, |n| < 1000.
Value powerOfTwo(TensorKernelBuilder &k, Value n) {
  return realOf(k, k.shl(bitsOf(k, k.fadd(n, k.number(n, magic + 1023))), 52));
}

/// exp(x + low), low far below x.
Value expSum(TensorKernelBuilder &k, Value x, Value low) {
  // Beyond these bounds the result is 0 or infinite anyway; NaN goes through.
  Value y = k.select(k.cmpf(Real::OLT, x, k.number(x, -750)), k.number(x, -750), x);
  y = k.select(k.cmpf(Real::OGT, y, k.number(x, 720)), k.number(x, 720), y);
  Value n =
      k.fsub(k.fma(y, k.number(x, 0x1.71547652b82fep+0), k.number(x, magic)), k.number(x, magic));
  Value r = k.fma(n, k.number(x, -ln2High), y);
  r = k.fma(n, k.number(x, -ln2Low), r);
  if (low)
    r = k.fadd(r, low);
  Value p =
      polynomial(k, r,
                 {1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
                  1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800});
  p = k.fadd(k.fma(k.fmul(r, r), p, r), k.number(x, 1));
  // In two steps, so that results beyond the normal numbers round right.
  Value half = k.roundEven(k.fmul(n, k.number(x, 0.5)));
  return k.fmul(k.fmul(p, powerOfTwo(k, half)), powerOfTwo(k, k.fsub(n, half)));
}

/// log(x) of a positive finite x as a sum of two doubles.
std::pair<Value, Value> logSum(TensorKernelBuilder &k, Value x) {
  // x = 2^e m, sqrt(1/2) <= m < sqrt(2); numbers below the normal ones are scaled up first.
  Value tiny = k.cmpf(Real::OLT, x, k.number(x, 0x1p-1022));
  Value bits = bitsOf(k, k.select(tiny, k.fmul(x, k.number(x, 0x1p54)), x));
  Value offset = k.integer(bits, 0x3fe6a09e667f3bcd); // sqrt(1/2)
  Value exponentBits = k.iand(k.isub(bits, offset), k.integer(bits, int64_t(0xfffull << 52)));
  Value m = realOf(k, k.isub(bits, exponentBits));
  // The exponent as a double without an integer conversion, which not every target has.
  Value biased = k.iadd(k.shrLogic(k.iadd(exponentBits, k.integer(bits, 1024ll << 52)), 52),
                        k.integer(bits, 0x4330000000000000));
  Value e = k.fsub(realOf(k, biased), k.number(x, 0x1p52 + 1024));
  e = k.fsub(e, k.select(tiny, k.number(x, 54), k.number(x, 0)));

  // log(1 + f) = f - (f^2/2 - s (f^2/2 + R)), s = f / (2 + f), R = sum 2 s^(2i) / (2i + 1).
  Value f = k.fsub(m, k.number(x, 1));
  Value s = k.fdiv(f, k.fadd(f, k.number(x, 2)));
  Value z = k.fmul(s, s);
  Value r = k.fmul(z, polynomial(k, z,
                                 {2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15,
                                  2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23}));
  Value halfSquare = k.fmul(k.fmul(f, k.number(x, 0.5)), f);
  Value halfSquareLow = k.fma(k.fmul(f, k.number(x, 0.5)), f, k.fneg(halfSquare));
  Value small = k.fma(s, k.fadd(halfSquare, r), k.fmul(e, k.number(x, ln2Low)));
  small = k.fsub(small, halfSquareLow);
  // e ln2High is exact; then two exact sums, largest first.
  Value head = k.fmul(e, k.number(x, ln2High));
  auto add = [&](Value a, Value c) -> std::pair<Value, Value> { // Knuth's two-sum
    Value sum = k.fadd(a, c), part = k.fsub(sum, a);
    return {sum, k.fadd(k.fsub(a, k.fsub(sum, part)), k.fsub(c, part))};
  };
  auto [a, aLow] = add(head, f);
  auto [high, low] = add(a, k.fneg(halfSquare));
  low = k.fadd(k.fadd(low, aLow), small);
  Value sum = k.fadd(high, low);
  return {sum, k.fsub(low, k.fsub(sum, high))};
}

/// log of any x, from logSum of a positive finite one.
Value logSpecial(TensorKernelBuilder &k, Value x, Value result) {
  Value infinity = k.number(x, INFINITY);
  result = k.select(k.cmpf(Real::OLT, x, infinity), result, x); // infinity and NaN
  result = k.select(k.cmpf(Real::OEQ, x, k.number(x, 0)), k.fneg(infinity), result);
  return k.select(k.cmpf(Real::OLT, x, k.number(x, 0)), k.number(x, NAN), result);
}

/// sin(x + quarter pi/2), quarter 0 or 1. x = n pi/2 + r in three parts (Cody and Waite 1980), |r|
/// <= pi/4.
Value sine(TensorKernelBuilder &k, Value x, int quarter) {
  Value shifted = k.fma(x, k.number(x, 0x1.45f306dc9c883p-1), k.number(x, magic));
  Value n = k.fsub(shifted, k.number(x, magic));
  Value r = k.fma(n, k.number(x, -0x1.921fb54442d18p+0), x);
  r = k.fma(n, k.number(x, -0x1.1a62633145c07p-54), r);
  r = k.fma(n, k.number(x, 0x1.f1976b7ed8fbcp-110), r);
  // Beyond 2^51 nothing is right, but the result stays in [-1, 1].
  r = k.select(k.cmpf(Real::OGT, k.fabs(r), k.number(x, 1)), k.number(x, 0), r);
  Value z = k.fmul(r, r);
  Value sine = polynomial(k, z,
                          {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800,
                           1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000});
  sine = k.fma(k.fmul(r, z), sine, r);
  Value cosine = polynomial(k, z,
                            {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800,
                             1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000});
  cosine = k.fma(z, cosine, k.number(x, 1));
  Value bits = bitsOf(k, shifted);
  if (quarter)
    bits = k.iadd(bits, k.integer(bits, 1));
  Value odd = k.notEqual(k.iand(bits, k.integer(bits, 1)), k.integer(bits, 0));
  Value sign = k.shl(k.shrLogic(bits, 1), 63);
  return realOf(k, k.ixor(bitsOf(k, k.select(odd, cosine, sine)), sign));
}

} // namespace

Value exp64(TensorKernelBuilder &k, Value x) { return expSum(k, x, {}); }
Value log64(TensorKernelBuilder &k, Value x) { return logSpecial(k, x, logSum(k, x).first); }
Value sin64(TensorKernelBuilder &k, Value x) { return sine(k, x, 0); }
Value cos64(TensorKernelBuilder &k, Value x) { return sine(k, x, 1); }

// t = |x|: atan(t) = base + atan(u), u = t, (t - 1) / (t + 1) or -1 / t, |u| <= tan(pi/8).
Value atan64(TensorKernelBuilder &k, Value x) {
  Value t = k.fabs(x), one = k.number(x, 1);
  Value middle = k.cmpf(Real::OGT, t, k.number(x, 0.41421356237309503));
  Value far = k.cmpf(Real::OGT, t, k.number(x, 2.414213562373095));
  Value above = k.select(far, k.number(x, -1), k.select(middle, k.fsub(t, one), t));
  Value below = k.select(far, t, k.select(middle, k.fadd(t, one), one));
  Value u = k.fdiv(above, below);
  Value base =
      k.select(far, k.number(x, M_PI_2), k.select(middle, k.number(x, M_PI_4), k.number(x, 0)));
  SmallVector<double> series;
  for (int i = 1; i <= 20; ++i)
    series.push_back((i % 2 ? -1.0 : 1.0) / (2 * i + 1));
  Value z = k.fmul(u, u);
  Value p = k.fma(k.fmul(u, z), polynomial(k, z, series), u);
  return copySign(k, k.fadd(base, p), x);
}

// 1 - 2 / (exp(2 |x|) + 1) with the sign of x; near 0 the series.
Value tanh64(TensorKernelBuilder &k, Value x) {
  Value t = k.fabs(x), z = k.fmul(x, x);
  Value series = k.fma(k.fmul(x, z),
                       polynomial(k, z,
                                  {-1.0 / 3, 2.0 / 15, -17.0 / 315, 62.0 / 2835, -1382.0 / 155925,
                                   21844.0 / 6081075}),
                       x);
  Value e = exp64(k, k.fadd(t, t));
  Value far = k.fsub(k.number(x, 1), k.fdiv(k.number(x, 2), k.fadd(e, k.number(x, 1))));
  return k.select(k.cmpf(Real::OLT, t, k.number(x, 0.0625)), series, copySign(k, far, x));
}

// |x| < 1: 2 / sqrt(pi) sum (-1)^n x^(2n+1) / (n! (2n + 1)); beyond: 1 - exp(-Q(|x|)), Q a
// Chebyshev interpolation of -log(erfc) on [1, 6], 6e-16 of erf; at 6 erf rounds to 1.
Value erf64(TensorKernelBuilder &k, Value x) {
  Value t = k.fabs(x), z = k.fmul(x, x);
  SmallVector<double> series;
  double factorial = 1;
  for (int n = 0; n <= 18; ++n) {
    factorial *= n ? n : 1;
    series.push_back((n % 2 ? -1 : 1) * M_2_SQRTPI / (factorial * (2 * n + 1)));
  }
  Value near = k.fmul(x, polynomial(k, z, series));
  Value bounded = k.select(k.cmpf(Real::OGT, t, k.number(x, 6)), k.number(x, 6), t);
  Value u = k.fmul(k.fsub(bounded, k.number(x, 3.5)), k.number(x, 0.4));
  Value q =
      polynomial(k, u, {0x1.c3991652a25b0p+3,   0x1.22a4dc1adc4e1p+4,   0x1.82b383473a5e9p+2,
                        0x1.4e712f2e96e61p-4,   -0x1.1794772df48d3p-5,  0x1.d75a5683e57c6p-7,
                        -0x1.862e9650352c3p-8,  0x1.372a182bc691fp-9,   -0x1.d47dba872cd74p-11,
                        0x1.42c797995ecfbp-12,  -0x1.7d4841dc38ed9p-14, 0x1.3577a5366bacap-16,
                        0x1.906812563d6c1p-20,  -0x1.2d6293f33c01ap-18, 0x1.c6c2d6943448fp-19,
                        -0x1.128782323c2e3p-19, 0x1.03b88c8b65e1cp-20,  -0x1.0588e3bf36563p-22,
                        0x1.49445af667442p-24,  -0x1.07ff7967b1c1ep-23, 0x1.426e727b5abd6p-25,
                        0x1.3d2ba7a604e58p-25,  -0x1.3545cce61b030p-26});
  Value far = copySign(k, k.fsub(k.number(x, 1), exp64(k, k.fneg(q))), x);
  return k.select(k.cmpf(Real::OLT, t, k.number(x, 1)), near, far);
}

// max(x, 0) + log(1 + exp(-|x|)), the logarithm by its series where the exponential is small.
Value softplus64(TensorKernelBuilder &k, Value x) {
  Value e = exp64(k, k.fneg(k.fabs(x)));
  Value small = k.fma(k.fmul(e, e), polynomial(k, e, {-1.0 / 2, 1.0 / 3, -1.0 / 4}), e);
  Value one = k.number(x, 1);
  Value u = k.fadd(one, e), lost = k.fsub(e, k.fsub(u, one)); // by rounding 1 + e
  Value far = k.fadd(logSum(k, u).first, k.fdiv(lost, u));
  Value l = k.select(k.cmpf(Real::OLT, e, k.number(x, 0x1p-13)), small, far);
  Value positive = k.select(k.cmpf(Real::OLT, x, k.number(x, 0)), k.number(x, 0), x);
  return k.fadd(positive, l);
}

// exp(y log |x|), the product as a sum of two doubles.
Value pow64(TensorKernelBuilder &k, Value x, Value y) {
  Value zero = k.number(x, 0), one = k.number(x, 1), infinity = k.number(x, INFINITY);
  Value magnitude = k.fabs(x);
  auto [high, low] = logSum(k, magnitude);
  high = logSpecial(k, magnitude, high);
  Value finite = k.cmpf(Real::OLT, k.fabs(high), infinity);
  Value product = k.fmul(y, high);
  Value rest = k.fma(y, high, k.fneg(product));
  rest = k.fma(y, low, rest);
  Value small = k.both(finite, k.cmpf(Real::OLT, k.fabs(product), k.number(x, 1000)));
  Value result = expSum(k, product, k.select(small, rest, zero));

  // Signs: odd integers keep it, other integers drop it, a fraction of a negative number is NaN.
  Value whole = k.cmpf(Real::OEQ, math::TruncOp::create(k.b, y), y);
  Value half = k.fmul(y, k.number(x, 0.5));
  Value odd = k.both(whole, k.cmpf(Real::UNE, math::TruncOp::create(k.b, half), half));
  result = k.select(odd, copySign(k, result, x), result);
  Value negative = k.both(k.cmpf(Real::OLT, x, zero), k.cmpf(Real::OGT, x, k.fneg(infinity)));
  result = k.select(k.both(negative, k.negate(whole)), k.number(x, NAN), result);
  result = k.select(k.cmpf(Real::OEQ, y, one), x, result);
  result = k.select(k.cmpf(Real::OEQ, y, k.number(x, 2)), k.fmul(x, x), result);
  Value unit = k.either(k.cmpf(Real::OEQ, y, zero), k.cmpf(Real::OEQ, x, one));
  return k.select(unit, one, result);
}

} // namespace smelt
