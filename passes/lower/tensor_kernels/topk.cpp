// TopK: the k largest or smallest elements along an axis, in order; of equal ones the one with the
// lower index comes first.
#include "passes/lower/tensor_kernels/emitters.h"

using namespace mlir;

namespace smelt {

using Whole = arith::CmpIPredicate;

void shapeTopK(TensorKernelBuilder &k) {
  const int in = k.input(0), wanted = k.input(1), axis = int(k.spec.ints[0]);
  k.ifThen(requireOne(k, wanted), [&] {
    Value count = k.indexElement(wanted, k.idx(0));
    Value fits = k.cmpi(Whole::ule, count, k.dim(in, axis));
    k.failIf(k.negate(fits), format::FaultShape);
    for (int out : {0, 1})
      for (int a = 0; a < k.rank(in); ++a)
        k.setDim(out, a, a == axis ? k.select(fits, count, k.idx(0)) : k.dim(in, a));
  });
}

namespace {

/// A signed integer that sorts as the element does (NaN above all), or against it for the smallest.
Value sortKey(TensorKernelBuilder &k, Value v, bool largest) {
  if (isa<FloatType>(v.getType())) {
    const bool wide = v.getType() == k.f64;
    Type integer = wide ? k.i64 : k.i32;
    Value isNaN = k.cmpf(arith::CmpFPredicate::UNO, v, v);
    v = k.fadd(v, k.number(v, 0)); // -0 and 0 are equal
    Value bits = arith::BitcastOp::create(k.b, integer, v);
    Value sign = k.shrArith(bits, wide ? 63 : 31);
    Value ordered = k.ixor(bits, k.shrLogic(sign, 1));
    Value most = k.integer(bits, wide ? INT64_MAX : INT32_MAX);
    v = k.select(isNaN, most, ordered);
  }
  return largest ? v : k.ixor(v, k.integer(v, -1));
}

} // namespace

// Each place of the result scans the whole line for the best element behind the last one taken:
// count * length steps and no memory, which suits short counts.
void computeTopK(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  const bool largest = k.spec.ints[1] != 0;
  Values dims = k.dims(2);
  Value length = dims[axis], count = k.dim(0, int(axis));
  Value stride = k.product(ArrayRef(dims).drop_front(axis + 1));
  Value lines = k.mul(k.product(ArrayRef(dims).take_front(axis)), stride);
  Type key = sortKey(k, k.number(k.computeType(k.type(2)), 0), largest).getType();
  const int64_t least = key == k.i64 ? INT64_MIN : INT32_MIN;
  auto [begin, end] = k.threadShare(lines);
  k.loop(begin, end, 1, [&](Value line) {
    Value row = k.div(line, stride), column = k.sub(line, k.mul(row, stride));
    Value from = k.add(k.mul(k.mul(row, length), stride), column);
    Value to = k.add(k.mul(k.mul(row, count), stride), column);
    Value most = k.integer(key, ~least), none = k.idx(-1);
    k.loop(k.idx(0), count, 1, {most, none}, [&](Value place, ValueRange last) -> Values {
      Value floor = k.integer(key, least);
      Values best =
          k.loop(k.idx(0), length, 1, {floor, none}, [&](Value i, ValueRange v) -> Values {
            Value next = sortKey(k, k.element(2, k.add(from, k.mul(i, stride))), largest);
            Value behind = k.either(k.cmpi(Whole::slt, next, last[0]),
                                    k.both(k.equal(next, last[0]), k.less(last[1], i)));
            Value first = k.equal(v[1], none);
            Value wins = k.both(behind, k.either(first, k.cmpi(Whole::sgt, next, v[0])));
            return {k.select(wins, next, v[0]), k.select(wins, i, v[1])};
          });
      Value at = k.add(to, k.mul(place, stride));
      k.store(k.data(0), at, k.load(k.data(2), k.add(from, k.mul(best[1], stride))));
      k.store(k.data(1), at, k.fromIndex(best[1], k.i64));
      return {best[0], best[1]};
    });
  });
}

} // namespace smelt
