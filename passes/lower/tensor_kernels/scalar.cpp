// The elementwise functions of tensor programs by operation.
#include "passes/lower/tensor_kernels/scalar.h"

#include "passes/lower/tensor_kernels/math.h"

using namespace mlir;

namespace smelt {

namespace {

using Real = arith::CmpFPredicate;
using Whole = arith::CmpIPredicate;

bool isReal(Value v) { return isa<FloatType>(getElementTypeOrSelf(v.getType())); }

/// Computes in double, whichever float type `x` has.
Value inDouble(TensorKernelBuilder &k, ValueRange inputs,
               const std::function<Value(ArrayRef<Value>)> &function) {
  Values wide;
  Type element = getElementTypeOrSelf(inputs[0].getType());
  for (Value v : inputs)
    wide.push_back(element == k.f32 ? Value(arith::ExtFOp::create(k.b, k.like(v, k.f64), v)) : v);
  Value result = function(wide);
  return element == k.f32 ? Value(arith::TruncFOp::create(k.b, k.like(result, k.f32), result))
                          : result;
}

Value compare(TensorKernelBuilder &k, Real real, Whole whole, ValueRange v) {
  if (isReal(v[0]))
    return k.cmpf(real, v[0], v[1]);
  return k.cmpi(whole, v[0], v[1]);
}

/// A divisor that integer division can take, and whether the true one is 0 or -1.
struct Divisor {
  Value safe, isZero, isMinusOne;
  Divisor(TensorKernelBuilder &k, Value b)
      : isZero(k.equal(b, k.integer(b, 0))), isMinusOne(k.equal(b, k.integer(b, -1))) {
    safe = k.select(k.either(isZero, isMinusOne), k.integer(b, 1), b);
  }
};

Value modulo(TensorKernelBuilder &k, Value a, Value c, bool truncating) {
  Value zero = k.number(a, 0);
  if (!isReal(a)) {
    Divisor divisor(k, c);
    Value r = arith::RemSIOp::create(k.b, a, divisor.safe);
    r = k.select(k.either(divisor.isZero, divisor.isMinusOne), zero, r);
    if (truncating)
      return r;
    Value wrong = k.both(k.notEqual(r, zero), k.cmpi(Whole::slt, k.ixor(r, c), zero));
    return k.select(wrong, k.iadd(r, c), r);
  }
  // Long division: every step takes 26 bits of the quotient, never more than it has, so that r - q
  // y is exact. Quotients of floats have up to 277 bits; of doubles those below 2^1024 are right.
  const bool wide = getElementTypeOrSelf(a.getType()) == k.f64;
  return inDouble(k, {a, c}, [&](ArrayRef<Value> v) -> Value {
    Value x = k.fabs(v[0]), y = k.fabs(v[1]), zero = k.number(x, 0);
    Type bits = k.like(x, k.i64);
    auto step = [&](Value, ValueRange rest) -> Values {
      Value q = k.fmul(k.fdiv(rest[0], y), k.number(x, 1 - 0x1p-52));
      Value high = k.iand(arith::BitcastOp::create(k.b, bits, q), k.integer(bits, -1ll << 27));
      q = math::TruncOp::create(k.b, arith::BitcastOp::create(k.b, x.getType(), high));
      return {k.fma(k.fneg(q), y, rest[0])};
    };
    Value r = k.loop(k.idx(0), k.idx(wide ? 42 : 12), 1, {x}, step)[0];
    r = k.select(k.cmpf(Real::OGE, r, y), k.fsub(r, y), r);
    Value infinite = k.cmpf(Real::OEQ, y, k.number(y, INFINITY));
    r = k.select(k.both(infinite, k.cmpf(Real::OLT, x, y)), x, r);
    r = math::CopySignOp::create(k.b, r, v[0]);
    if (truncating)
      return r;
    Value wrong = k.both(k.cmpf(Real::ONE, r, zero), k.cmpf(Real::OLT, k.fmul(r, v[1]), zero));
    return k.select(wrong, k.fadd(r, v[1]), r);
  });
}

/// base^exponent of integers modulo their width; negative exponents as the truncated quotient, 0^-n
/// as 0.
Value integerPower(TensorKernelBuilder &k, Value base, Value exponent) {
  Value zero = k.integer(base, 0), one = k.integer(base, 1);
  auto steps =
      k.loop(k.idx(0), k.idx(63), 1, {base, exponent, one}, [&](Value, ValueRange v) -> Values {
        Value odd = k.notEqual(k.iand(v[1], k.integer(v[1], 1)), k.integer(v[1], 0));
        return {k.imul(v[0], v[0]), k.shrLogic(v[1], 1), k.select(odd, k.imul(v[2], v[0]), v[2])};
      });
  Value odd = k.notEqual(k.iand(exponent, k.integer(exponent, 1)), k.integer(exponent, 0));
  Value minusOne = k.integer(base, -1);
  Value inverse = k.select(k.equal(base, one), one,
                           k.select(k.equal(base, minusOne), k.select(odd, minusOne, one), zero));
  return k.select(k.cmpi(Whole::slt, exponent, k.integer(exponent, 0)), inverse, steps[2]);
}

Value power(TensorKernelBuilder &k, ValueRange v) {
  ElementType base = k.type(k.input(0)), exponent = k.type(k.input(1));
  if (!isReal(v[0]) && !isReal(v[1]))
    return integerPower(k, v[0], convert(k, v[1], exponent, base));
  Value x = convert(k, v[0], base, ElementType::F64);
  Value y = convert(k, v[1], exponent, ElementType::F64);
  // Squares, the usual case, are not worth a logarithm.
  Value two = k.cmpf(Real::OEQ, y, k.number(y, 2));
  Value squares = two.getType() == k.i1
                      ? two
                      : Value(vector::ReductionOp::create(k.b, vector::CombiningKind::AND, two));
  Value result = k.ifElse(
      squares, x.getType(), [&]() -> Values { return {k.fmul(x, x)}; },
      [&]() -> Values { return {pow64(k, x, y)}; })[0];
  return convert(k, result, ElementType::F64, base);
}

Value shift(TensorKernelBuilder &k, ValueRange v, bool left) {
  const int64_t width = v[0].getType().getIntOrFloatBitWidth();
  Value inside = k.cmpi(Whole::ult, v[1], k.integer(v[1], width));
  Value by = k.select(inside, v[1], k.integer(v[1], 0));
  Value shifted = left ? Value(arith::ShLIOp::create(k.b, v[0], by))
                       : Value(arith::ShRUIOp::create(k.b, v[0], by));
  return k.select(inside, shifted, k.integer(v[0], 0));
}

Value sign(TensorKernelBuilder &k, Value x) {
  Value zero = k.number(x, 0), one = k.number(x, 1), minusOne = k.number(x, -1);
  if (!isReal(x))
    return k.select(k.cmpi(Whole::sgt, x, zero), one,
                    k.select(k.cmpi(Whole::slt, x, zero), minusOne, zero));
  Value result = k.select(k.cmpf(Real::OGT, x, zero), one, x); // 0 and NaN are their own signs
  return k.select(k.cmpf(Real::OLT, x, zero), minusOne, result);
}

Value isInfinite(TensorKernelBuilder &k, Value x) {
  const bool negative = k.spec.ints[0], positive = k.spec.ints[1];
  Value result = k.integer(k.like(x, k.i1), 0);
  if (negative)
    result = k.either(result, k.cmpf(Real::OEQ, x, k.number(x, -INFINITY)));
  if (positive)
    result = k.either(result, k.cmpf(Real::OEQ, x, k.number(x, INFINITY)));
  return result;
}

/// x clamped to at least zero; NaN stays.
Value relu(TensorKernelBuilder &k, Value x) {
  Value zero = k.number(x, 0);
  return k.select(isReal(x) ? k.cmpf(Real::OLT, x, zero) : k.cmpi(Whole::slt, x, zero), zero, x);
}

} // namespace

//===--- Shared -------------------------------------------------------------------------------===//

Value maximum(TensorKernelBuilder &k, Value a, Value c) {
  if (isReal(a)) // of two NaN operands the first, else the one that is NaN
    return k.select(k.either(k.cmpf(Real::OGT, a, c), k.cmpf(Real::UNO, a, a)), a, c);
  bool truth = getElementTypeOrSelf(a.getType()) == k.i1;
  return truth ? k.ior(a, c) : k.select(k.cmpi(Whole::sgt, a, c), a, c);
}

Value minimum(TensorKernelBuilder &k, Value a, Value c) {
  if (isReal(a))
    return k.select(k.either(k.cmpf(Real::OLT, a, c), k.cmpf(Real::UNO, a, a)), a, c);
  bool truth = getElementTypeOrSelf(a.getType()) == k.i1;
  return truth ? k.iand(a, c) : k.select(k.cmpi(Whole::slt, a, c), a, c);
}

Value sum(TensorKernelBuilder &k, Value a, Value c) {
  return isReal(a) ? k.fadd(a, c) : k.iadd(a, c);
}
Value multiply(TensorKernelBuilder &k, Value a, Value c) {
  return isReal(a) ? k.fmul(a, c) : k.imul(a, c);
}

Value quotient(TensorKernelBuilder &k, Value a, Value c) {
  if (isReal(a))
    return k.fdiv(a, c);
  Divisor divisor(k, c);
  Value zero = k.integer(a, 0), q = arith::DivSIOp::create(k.b, a, divisor.safe);
  q = k.select(divisor.isMinusOne, k.isub(zero, a), q);
  return k.select(divisor.isZero, zero, q);
}

Value convert(TensorKernelBuilder &k, Value v, ElementType from, ElementType to) {
  Type target = k.like(v, k.computeType(to)), element = getElementTypeOrSelf(target);
  const bool fromReal = isReal(v), toReal = isa<FloatType>(element);
  if (from == to)
    return v;
  if (to == ElementType::Bool)
    return fromReal ? k.cmpf(Real::UNE, v, k.number(v, 0)) : k.notEqual(v, k.integer(v, 0));
  if (fromReal && toReal)
    return to == ElementType::F64 ? Value(arith::ExtFOp::create(k.b, target, v))
                                  : Value(arith::TruncFOp::create(k.b, target, v));
  if (from == ElementType::Bool) {
    v = k.zeroExtend(v, k.i32);
    if (element == k.i32)
      return v;
    return toReal ? Value(arith::SIToFPOp::create(k.b, target, v)) : k.signExtend(v, element);
  }
  if (toReal)
    return arith::SIToFPOp::create(k.b, target, v);
  if (fromReal) {
    // Bounds as doubles: 2^63 is one too many, but what reaches it is replaced.
    const int bits = to == ElementType::I64 ? 64 : to == ElementType::I32 ? 32 : 8;
    const double high = to == ElementType::U8 ? 256 : std::ldexp(1.0, bits - 1);
    const double low = to == ElementType::U8 ? 0 : -high;
    Value inside =
        k.both(k.cmpf(Real::OGE, v, k.number(v, low)), k.cmpf(Real::OLT, v, k.number(v, high)));
    Value safe = k.select(inside, v, k.number(v, 0));
    Value result = arith::FPToSIOp::create(k.b, target, safe);
    const int64_t most = to == ElementType::U8    ? 255
                         : to == ElementType::I64 ? INT64_MAX
                                                  : (int64_t(1) << (bits - 1)) - 1;
    const int64_t least = to == ElementType::U8 ? 0 : -most - 1;
    Value above = k.cmpf(Real::OGE, v, k.number(v, high));
    Value below = k.cmpf(Real::OLT, v, k.number(v, low));
    return k.select(above, k.integer(target, most),
                    k.select(below, k.integer(target, least), result));
  }
  // Integers wrap; bytes are brought back into their range.
  if (element != getElementTypeOrSelf(v.getType()))
    v = element == k.i64 ? k.signExtend(v, k.i64) : k.narrow(v, element);
  if (to == ElementType::I8)
    return k.shrArith(k.shl(v, 24), 24);
  if (to == ElementType::U8)
    return k.iand(v, k.integer(v, 255));
  return v;
}

//===--- By operation -------------------------------------------------------------------------===//

bool mapVectorizes(const TensorSpec &spec) {
  auto wide = [](ElementType type) { return type == ElementType::I64; };
  const bool anyWide = llvm::any_of(spec.types, wide);
  const bool allReal = llvm::all_of(spec.types, [](ElementType type) {
    return type == ElementType::F32 || type == ElementType::F64;
  });
  switch (spec.op) {
  case TensorOp::Div:
  case TensorOp::Mod:
  case TensorOp::Pow:
    return allReal;
  case TensorOp::BitShift:
    return false;
  case TensorOp::Mul:
  case TensorOp::Cast: // between 64-bit integers and floats only AVX-512 converts vectors
    return !anyWide;
  default:
    return true;
  }
}

Value applyMap(TensorKernelBuilder &k, ValueRange v) {
  Value x = v[0];
  auto real = [&](Value (*function)(TensorKernelBuilder &, Value)) {
    return inDouble(k, x, [&](ArrayRef<Value> wide) { return function(k, wide[0]); });
  };
  switch (k.spec.op) {
  case TensorOp::Identity:
    return x;
  case TensorOp::Cast:
    return convert(k, x, k.type(k.input(0)), k.type(0));
  case TensorOp::Add:
    return sum(k, x, v[1]);
  case TensorOp::Sub:
    return isReal(x) ? k.fsub(x, v[1]) : k.isub(x, v[1]);
  case TensorOp::Mul:
    return multiply(k, x, v[1]);
  case TensorOp::Div:
    return quotient(k, x, v[1]);
  case TensorOp::Mod:
    return modulo(k, x, v[1], k.spec.ints[0] != 0);
  case TensorOp::Pow:
    return power(k, v);
  case TensorOp::Min:
    return minimum(k, x, v[1]);
  case TensorOp::Max:
    return maximum(k, x, v[1]);
  case TensorOp::And:
  case TensorOp::BitwiseAnd:
    return k.iand(x, v[1]);
  case TensorOp::Or:
  case TensorOp::BitwiseOr:
    return k.ior(x, v[1]);
  case TensorOp::Xor:
  case TensorOp::BitwiseXor:
    return k.ixor(x, v[1]);
  case TensorOp::Not:
  case TensorOp::BitwiseNot:
    return k.ixor(x, k.integer(x, -1));
  case TensorOp::Equal:
    return compare(k, Real::OEQ, Whole::eq, v);
  case TensorOp::Less:
    return compare(k, Real::OLT, Whole::slt, v);
  case TensorOp::LessOrEqual:
    return compare(k, Real::OLE, Whole::sle, v);
  case TensorOp::Greater:
    return compare(k, Real::OGT, Whole::sgt, v);
  case TensorOp::GreaterOrEqual:
    return compare(k, Real::OGE, Whole::sge, v);
  case TensorOp::Where:
    return k.select(x, v[1], v[2]);
  case TensorOp::Neg:
    return isReal(x) ? k.fneg(x) : k.isub(k.integer(x, 0), x);
  case TensorOp::Abs:
    if (isReal(x))
      return k.fabs(x);
    return k.select(k.cmpi(Whole::slt, x, k.integer(x, 0)), k.isub(k.integer(x, 0), x), x);
  case TensorOp::Sign:
    return sign(k, x);
  case TensorOp::BitShift:
    return shift(k, v, k.spec.ints[0] != 0);
  case TensorOp::Exp:
    return real(exp64);
  case TensorOp::Log:
    return real(log64);
  case TensorOp::Sqrt:
    return k.fsqrt(x);
  case TensorOp::Reciprocal:
    return k.fdiv(k.number(x, 1), x);
  case TensorOp::Sin:
    return real(sin64);
  case TensorOp::Cos:
    return real(cos64);
  case TensorOp::Tan:
    return inDouble(
        k, x, [&](ArrayRef<Value> wide) { return k.fdiv(sin64(k, wide[0]), cos64(k, wide[0])); });
  case TensorOp::Atan:
    return real(atan64);
  case TensorOp::Tanh:
    return real(tanh64);
  case TensorOp::Sigmoid:
    return inDouble(k, x, [&](ArrayRef<Value> wide) {
      Value one = k.number(wide[0], 1);
      return k.fdiv(one, k.fadd(one, exp64(k, k.fneg(wide[0]))));
    });
  case TensorOp::Erf:
    return real(erf64);
  case TensorOp::Relu:
    return relu(k, x);
  case TensorOp::Floor:
    return math::FloorOp::create(k.b, x);
  case TensorOp::Ceil:
    return math::CeilOp::create(k.b, x);
  case TensorOp::Round:
    return k.roundEven(x);
  case TensorOp::Softplus:
    return real(softplus64);
  case TensorOp::IsNaN:
    return k.cmpf(Real::UNO, x, x);
  case TensorOp::IsInf:
    return isInfinite(k, x);
  default:
    llvm_unreachable("not a map");
  }
}

} // namespace smelt
