// What CPUs of long ago lack, made of what they have, to the bit: fma, and float16 to and from
// float.
#include "passes/lower/kernels/builder.h"

using namespace mlir;

namespace smelt {

namespace {

/// Operations on floating-point values of one type, scalars or vectors.
class Floats {
public:
  Floats(CodeBuilder &k, Type like) : k(k), like(like) {}

  Type with(Type element) const {
    auto vector = dyn_cast<VectorType>(like);
    return vector ? Type(vector.clone(element)) : element;
  }
  Value number(double value) const {
    Type element = getElementTypeOrSelf(like);
    Attribute attribute = k.b.getFloatAttr(element, value);
    if (auto vector = dyn_cast<VectorType>(like))
      attribute = DenseElementsAttr::get(vector, attribute);
    return arith::ConstantOp::create(k.b, cast<TypedAttr>(attribute));
  }
  Value integer(int64_t value, Type element) const {
    Attribute attribute = k.b.getIntegerAttr(element, value);
    if (auto vector = dyn_cast<VectorType>(like))
      attribute = DenseElementsAttr::get(vector.clone(element), attribute);
    return arith::ConstantOp::create(k.b, cast<TypedAttr>(attribute));
  }
  Value bits(Value v, Type element) const {
    return arith::BitcastOp::create(k.b, with(element), v);
  }
  Value is(arith::CmpFPredicate predicate, Value a, Value b) const {
    return arith::CmpFOp::create(k.b, predicate, a, b);
  }
  Value is(arith::CmpIPredicate predicate, Value a, Value b) const {
    return arith::CmpIOp::create(k.b, predicate, a, b);
  }

  /// a + b and what rounding lost of it (Knuth, TAOCP 4.2.2).
  std::pair<Value, Value> twoSum(Value a, Value b) const {
    Value sum = k.fadd(a, b);
    Value partOfB = k.fsub(sum, a), partOfA = k.fsub(sum, partOfB);
    return {sum, k.fadd(k.fsub(a, partOfA), k.fsub(b, partOfB))};
  }

  /// Doubles only: a * b and what rounding lost of it (Dekker 1971, Veltkamp's split).
  std::pair<Value, Value> twoProduct(Value a, Value b) const {
    auto split = [&](Value v) -> std::pair<Value, Value> {
      Value wide = k.fmul(v, number(0x1p27 + 1));
      Value high = k.fsub(wide, k.fsub(wide, v));
      return {high, k.fsub(v, high)};
    };
    auto [aHigh, aLow] = split(a);
    auto [bHigh, bLow] = split(b);
    Value product = k.fmul(a, b);
    Value rest = k.fsub(k.fmul(aHigh, bHigh), product);
    rest = k.fadd(rest, k.fmul(aHigh, bLow));
    rest = k.fadd(rest, k.fmul(aLow, bHigh));
    return {product, k.fadd(rest, k.fmul(aLow, bLow))};
  }

  /// Doubles only: a + b rounded to odd: what is not exact gets an odd last bit, so that a further
  /// rounding to fewer bits is as if it were the only one (Boldo and Melquiond 2008).
  Value addToOdd(Value a, Value b) const {
    Type i64 = k.b.getI64Type();
    auto [sum, lost] = twoSum(a, b);
    Value pattern = bits(sum, i64), zero = number(0);
    Value even = is(arith::CmpIPredicate::eq, k.iand(pattern, integer(1, i64)), integer(0, i64));
    Value inexact = is(arith::CmpFPredicate::ONE, lost, zero);
    // Away from zero is one up in the pattern, towards it one down.
    Value sumIsUp = is(arith::CmpFPredicate::OGT, sum, zero);
    Value lostIsUp = is(arith::CmpFPredicate::OGT, lost, zero);
    Value away = arith::XOrIOp::create(k.b, sumIsUp, lostIsUp);
    Value step = k.select(away, integer(-1, i64), integer(1, i64));
    Value change = arith::AndIOp::create(k.b, even, inexact);
    return bits(k.select(change, k.iadd(pattern, step), pattern), getElementTypeOrSelf(like));
  }

private:
  CodeBuilder &k;
  Type like;
};

} // namespace

/// float: the product is exact in double, the sum rounded to odd there. double: Boldo and Melquiond
/// 2008, figure 1; exact while no part of the product is below 2^-1022 (else what is lost stays
/// lost), and where something is infinite or NaN, the plain operations.
Value CodeBuilder::fmaOfParts(Value x, Value y, Value z) {
  return callOnce("fma", {x, y, z}, [&](ValueRange in) { return fmaBody(in[0], in[1], in[2]); });
}

Value CodeBuilder::fmaBody(Value x, Value y, Value z) {
  Type f64 = b.getF64Type();
  if (getElementTypeOrSelf(x.getType()) != f64) {
    Type wide = typeOf(x, f64);
    auto extended = [&](Value v) { return Value(arith::ExtFOp::create(b, wide, v)); };
    Value sum = Floats(*this, wide).addToOdd(fmul(extended(x), extended(y)), extended(z));
    return arith::TruncFOp::create(b, x.getType(), sum);
  }
  Floats f(*this, x.getType());
  auto [high, low] = f.twoProduct(x, y);
  auto [sumLow, restLow] = f.twoSum(z, low);
  auto [sum, rest] = f.twoSum(high, sumLow);
  Value exact = fadd(sum, f.addToOdd(restLow, rest));
  Value plain = fadd(fmul(x, y), z);
  Value isFinite = f.is(arith::CmpFPredicate::ORD, exact, exact);
  return select(isFinite, exact, plain);
}

/// IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits.
Value CodeBuilder::extendBits(Value half) {
  return callOnce("extend", half, [&](ValueRange in) { return extendBody(in[0]); });
}

Value CodeBuilder::extendBody(Value half) {
  Floats f(*this, typeOf(half, f32));
  Value word = zeroExtend(arith::BitcastOp::create(b, typeOf(half, i16), half), i32);
  Value sign = shl(iand(word, f.integer(0x8000, i32)), 16);
  Value magnitude = iand(word, f.integer(0x7fff, i32));
  Value moved = shl(magnitude, 13);
  // The exponent is 127 - 15 too small, which a product mends for subnormal numbers too.
  Value finite = f.bits(fmul(f.bits(moved, f32), f.number(0x1p112)), i32);
  Value isFinite = f.is(arith::CmpIPredicate::slt, magnitude, f.integer(0x7c00, i32));
  Value other = ior(moved, f.integer(0x7f800000, i32));
  return f.bits(ior(select(isFinite, finite, other), sign), f32);
}

Value CodeBuilder::truncateBits(Value single) {
  return callOnce("truncate", single, [&](ValueRange in) { return truncateBody(in[0]); });
}

Value CodeBuilder::truncateBody(Value single) {
  Floats f(*this, single.getType());
  auto word = [&](int64_t value) { return f.integer(value, i32); };
  Value bits = f.bits(single, i32);
  Value sign = iand(shrLogic(bits, 16), word(0x8000));
  Value magnitude = iand(bits, word(0x7fffffff));
  // Normal: the exponent is made smaller and 13 bits are rounded off, ties to even.
  Value odd = iand(shrLogic(magnitude, 13), word(1));
  Value normal = shrLogic(iadd(iadd(magnitude, word(int32_t(0xc8000fff))), odd), 13);
  // Subnormal: beside 0.5, the last bit of a float is 2^-24, the smallest step of float16.
  Value beside = f.bits(fadd(f.bits(magnitude, f32), f.number(0.5)), i32);
  Value small = isub(beside, word(0x3f000000));
  Value isSmall = f.is(arith::CmpIPredicate::slt, magnitude, word(0x38800000)); // 2^-14
  Value isLarge = f.is(arith::CmpIPredicate::sge, magnitude, word(0x47800000)); // 2^16
  Value isNan = f.is(arith::CmpIPredicate::sgt, magnitude, word(0x7f800000));
  Value nan = ior(iand(shrLogic(magnitude, 13), word(0x3ff)), word(0x7e00));
  Value result = select(isLarge, select(isNan, nan, word(0x7c00)), select(isSmall, small, normal));
  Value narrowed = narrow(ior(result, sign), i16);
  return arith::BitcastOp::create(b, typeOf(single, f16), narrowed);
}

} // namespace smelt
