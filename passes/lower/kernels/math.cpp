// exp, tanh and erf as polynomials of our own, and the activations made of them: the same bits on
// every target.
//
// The coefficients are weighted minimax fits (Lawson iteration in double, rounded to float):
// relative error for exp, tanh and small erf, absolute error for large erf. Everything is fma,
// exactly rounded division or exact bit arithmetic.
#include "passes/lower/kernels/builder.h"

#include "compiler/dialect/slm.h"

using namespace mlir;

namespace smelt {

namespace {

/// c[0] + x c[1] + x^2 c[2] + ... by Horner's rule.
Value polynomial(ValueBuilder &k, Value x, ArrayRef<double> c) {
  Value sum = k.constantLike(x, c.back());
  for (double next : llvm::reverse(c.drop_back()))
    sum = k.fma(sum, x, k.constantLike(x, next));
  return sum;
}

Type wordsLike(ValueBuilder &k, Value v) {
  if (auto type = dyn_cast<VectorType>(v.getType()))
    return type.clone(k.i32);
  return k.i32;
}

Value lessThan(ValueBuilder &k, Value a, Value c) {
  return arith::CmpFOp::create(k.b, arith::CmpFPredicate::OLT, a, c);
}

/// `value` * 2^n of the integer n that lies in the low bits of `shifted`.
Value timesPowerOfTwo(ValueBuilder &k, Value value, Value shifted) {
  Type words = wordsLike(k, value);
  Value exponent = k.shl(arith::BitcastOp::create(k.b, words, shifted), 23);
  Value bits = k.iadd(arith::BitcastOp::create(k.b, words, value), exponent);
  return arith::BitcastOp::create(k.b, value.getType(), bits);
}

/// max(v, -126) of v <= 0 (and of none, -126), bit by bit: of negative numbers the larger one has
/// the smaller bits. Integers, because the pipes of floats have more to do.
Value atLeastExponent(ValueBuilder &k, Value v) {
  Type words = wordsLike(k, v);
  Value bits = arith::BitcastOp::create(k.b, words, v);
  Value most = arith::BitcastOp::create(k.b, words, k.constantLike(v, -126));
  return arith::BitcastOp::create(k.b, v.getType(), arith::MinUIOp::create(k.b, bits, most));
}

/// 2^x of x in [-126, 0] by the `c` of 2^r ~ c[0] + c[1] r + ..., |r| <= 0.5: n = round(x), r = x -
/// n exactly.
Value exp2OfSmall(ValueBuilder &k, Value x, ArrayRef<double> c) {
  Value magic = k.constantLike(x, 12582912.0);
  Value shifted = k.fadd(x, magic);
  Value r = k.fsub(x, k.fsub(shifted, magic));
  return timesPowerOfTwo(k, polynomial(k, r, c), shifted);
}

} // namespace

// exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n ln 2 in two parts (Cody and Waite 1980), |r|
// <= 0.347: exp(r) ~ 1 + r + r^2 P(r), relative error 3.1e-9 before rounding. Adding 1.5 * 2^23
// rounds to the integer and leaves it in the low bits of the sum, from where it goes straight to
// the exponent.
Value ValueBuilder::exp(Value v) {
  Value x = fmax(fmin(v, constantLike(v, 88.0)), constantLike(v, -87.0));
  Value magic = constantLike(v, 12582912.0);
  Value shifted = fma(x, constantLike(v, 1.44269504088896341), magic);
  Value n = fsub(shifted, magic);
  Value r = fma(n, constantLike(v, -0.693145751953125), x);
  r = fma(n, constantLike(v, -1.42860682030941723212e-6), r);
  Value p = polynomial(*this, r,
                       {0x1.fffffb94453f2p-2, 0x1.5554909ff48c6p-3, 0x1.5558f4cde8a25p-5,
                        0x1.123a6b31e3169p-7, 0x1.6a235199c3c9ep-10});
  p = fma(fmul(r, r), p, r);
  p = fadd(p, constantLike(v, 1));
  Value result = timesPowerOfTwo(*this, p, shifted);
  return select(lessThan(*this, v, constantLike(v, -87.0)), constantLike(v, 0), result);
}

// 2^r ~ 1 + r P(r), relative error 1.1e-7 before rounding.
Value ValueBuilder::exp2OfNegative(Value v) {
  return exp2OfSmall(
      *this, atLeastExponent(*this, v),
      {1, 0x1.62e42ap-1, 0x1.ebf9bcp-3, 0x1.c6b752p-5, 0x1.3cea88p-7, 0x1.5bba14p-10});
}

// The same of fewer terms, relative error 1.1e-4.
Value ValueBuilder::coarseExp2OfNegative(Value v, double factor) {
  return exp2OfSmall(
      *this, atLeastExponent(*this, v),
      {factor, factor * 0x1.62f5fap-1, factor * 0x1.f00c4ep-3, factor * 0x1.c2a218p-5});
}

// v = 2^e m, m in [sqrt(1/2), sqrt(2)), and log2(m) ~ r P(r), r = m - 1, absolute error 1.5e-5
// before rounding.
Value ValueBuilder::coarseLog2(Value v) {
  Type words = wordsLike(*this, v);
  Value bits = arith::BitcastOp::create(b, words, v);
  Value least = arith::BitcastOp::create(b, words, constantLike(v, 0x1.6a09e6p-1));
  Value e = shrArith(isub(bits, least), 23);
  Value m = arith::BitcastOp::create(b, v.getType(), isub(bits, shl(e, 23)));
  Value r = fsub(m, constantLike(v, 1));
  Value p = polynomial(
      *this, r, {0x1.714ccap+0, -0x1.70c388p-1, 0x1.f25ddcp-2, -0x1.940b98p-2, 0x1.02b964p-2});
  return fma(r, p, toFloat(e));
}

// |x| < 0.6: x + x^3 P(x^2), relative error 5e-9; beyond: 1 - 2 / (exp(2 |x|) + 1) with the sign of
// x. Odd by construction.
Value ValueBuilder::tanh(Value v) {
  Value magnitude = fabs(v);
  Value square = fmul(v, v);
  Value p = polynomial(*this, square,
                       {-0.33333277978170384, 0.13331328719257346, -0.05372980947789249,
                        0.02060551202817002, -0.005666215775065282});
  Value small = fma(fmul(v, square), p, v);
  Value e = exp(fadd(magnitude, magnitude));
  Value one = constantLike(v, 1);
  Value large = fsub(one, fdiv(constantLike(v, 2), fadd(e, one)));
  large = math::CopySignOp::create(b, large, v);
  return select(lessThan(*this, magnitude, constantLike(v, 0.6)), small, large);
}

// |x| < 1: x P(x^2), relative error 4e-8; beyond: 1 - exp(-Q(|x|)), Q = -log(erfc), absolute error
// 1e-9 up to 4, where erf rounds to 1. Odd by construction.
Value ValueBuilder::erf(Value v) {
  Value magnitude = fmin(fabs(v), constantLike(v, 4));
  Value p = polynomial(*this, fmul(magnitude, magnitude),
                       {1.1283791224459585, -0.376123258986532, 0.11280177477884762,
                        -0.026711228476297776, 0.004917446415657733, -0.0005630960834004852});
  Value small = fmul(v, p);
  Value q = polynomial(*this, magnitude,
                       {0.0003326920281115925, 1.1271224878209487, 0.6380935840658436,
                        0.10314795231831178, -0.021856303466082153, 0.0029518745715939117,
                        -0.00018677675450657003});
  Value large = fsub(constantLike(v, 1), exp(fneg(q)));
  large = math::CopySignOp::create(b, large, v);
  return select(lessThan(*this, magnitude, constantLike(v, 1)), small, large);
}

Value ValueBuilder::activate(uint32_t activationKind, Value v) {
  switch (static_cast<slm::Activation>(activationKind)) {
  case slm::Activation::Identity:
    return v;
  case slm::Activation::Relu:
    return fmax(v, constantLike(v, 0));
  case slm::Activation::Relu2: {
    Value positive = fmax(v, constantLike(v, 0));
    return fmul(positive, positive);
  }
  case slm::Activation::Silu: // x / (1 + exp(-x))
    return fdiv(v, fadd(constantLike(v, 1), exp(fneg(v))));
  case slm::Activation::GeluTanh: { // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    Value cube = fmul(fmul(v, v), v);
    Value inner = fma(cube, constantLike(v, 0.044715), v);
    Value t = tanh(fmul(inner, constantLike(v, 0.79788456080286536)));
    return fmul(fmul(v, constantLike(v, 0.5)), fadd(t, constantLike(v, 1)));
  }
  case slm::Activation::GeluErf: { // 0.5 x (1 + erf(x / sqrt 2))
    Value t = erf(fmul(v, constantLike(v, 0.70710678118654752)));
    return fmul(fmul(v, constantLike(v, 0.5)), fadd(t, constantLike(v, 1)));
  }
  }
  llvm_unreachable("the enumerators are all above");
}

} // namespace smelt
