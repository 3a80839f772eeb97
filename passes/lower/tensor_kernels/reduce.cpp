// Reductions, arg-reductions and the running sum.
//
// A reduction visits the reduced elements in row-major order, neighbouring reduced axes as one.
// Each run along the last of them is dealt to 16 lanes in turn, and the lanes are combined at the
// end by halves (8 + 8, 4 + 4, ...). The order depends on the shapes alone, so every target and any
// number of threads gives the same bits. Floats are added in their own type.
#include "passes/lower/tensor_kernels/emitters.h"
#include "passes/lower/tensor_kernels/scalar.h"

using namespace mlir;

namespace smelt {

namespace {

using Real = arith::CmpFPredicate;
using Whole = arith::CmpIPredicate;

/// ints of Reduce: keepdims, axes; no axes: all.
bool isReduced(const TensorSpec &spec, int axis) {
  ArrayRef<int64_t> axes = ArrayRef(spec.ints).drop_front(1);
  return axes.empty() || llvm::is_contained(axes, axis);
}

Value fold(TensorKernelBuilder &k, Value a, Value c) {
  switch (k.spec.op) {
  case TensorOp::ReduceMax:
    return maximum(k, a, c);
  case TensorOp::ReduceMin:
    return minimum(k, a, c);
  case TensorOp::ReduceProd:
    return multiply(k, a, c);
  default:
    return sum(k, a, c);
  }
}

/// The neutral element, also the result over no elements.
Value neutral(TensorKernelBuilder &k) {
  const ElementType type = k.type(1);
  Type computed = k.computeType(type);
  const bool real = isa<FloatType>(computed), most = k.spec.op == TensorOp::ReduceMin;
  if (k.spec.op == TensorOp::ReduceProd)
    return k.number(computed, 1);
  if (k.spec.op == TensorOp::ReduceSum || k.spec.op == TensorOp::ReduceMean)
    return k.number(computed, 0);
  if (real)
    return k.number(computed, most ? INFINITY : -INFINITY);
  switch (type) {
  case ElementType::I64:
    return k.integer(computed, most ? INT64_MAX : INT64_MIN);
  case ElementType::I32:
    return k.integer(computed, most ? INT32_MAX : INT32_MIN);
  case ElementType::I8:
    return k.integer(computed, most ? 127 : -128);
  case ElementType::U8:
    return k.integer(computed, most ? 255 : 0);
  default:
    return k.integer(computed, most ? 1 : 0);
  }
}

Value foldLanes(TensorKernelBuilder &k, Value v) {
  for (int64_t n = lanes / 2; n >= 1; n /= 2)
    v = fold(k, k.slice(v, 0, n), k.slice(v, n, n));
  return k.lane(v, 0);
}

} // namespace

//===--- Reduce -------------------------------------------------------------------------------===//

void shapeReduce(TensorKernelBuilder &k) {
  int out = 0;
  for (int a = 0; a < k.rank(k.input(0)); ++a)
    if (!isReduced(k.spec, a))
      k.setDim(0, out++, k.dim(k.input(0), a));
    else if (k.spec.ints[0])
      k.setDim(0, out++, k.idx(1));
}

void computeReduce(TensorKernelBuilder &k) {
  Values dims = k.dims(1), strides = k.strides(dims), keptDims;
  Value reducedCount = k.idx(1);
  for (size_t a = 0; a < dims.size(); ++a)
    if (!isReduced(k.spec, int(a)))
      keptDims.push_back(dims[a]);
  Values outStrides = k.strides(keptDims);
  Box kept(k, 2), reduced(k, 1);
  for (size_t a = 0, out = 0; a < dims.size(); ++a)
    if (isReduced(k.spec, int(a))) {
      reduced.axis(dims[a], {strides[a]});
      reducedCount = k.mul(reducedCount, dims[a]);
    } else {
      kept.axis(dims[a], {outStrides[out++], strides[a]});
    }
  kept.close();
  reduced.close();

  Value none = neutral(k), start = k.splat(none);
  Value rows = k.select(k.less(k.idx(0), reduced.inner), reduced.outer, k.idx(0));
  auto [begin, end] = k.threadShare(k.mul(kept.outer, kept.inner));
  k.loop(begin, end, 1, [&](Value at) {
    Value row = k.div(at, kept.inner), column = k.sub(at, k.mul(row, kept.inner));
    Value base = k.add(kept.offsets(row)[1], k.mul(column, kept.innerStrides[1]));
    Values folded = k.loop(k.idx(0), rows, 1, {start}, [&](Value r, ValueRange v) -> Values {
      Value from = k.add(base, reduced.offsets(r)[0]), stride = reduced.innerStrides[0];
      return k.loop(k.idx(0), reduced.inner, lanes, v, [&](Value i, ValueRange v) -> Values {
        Value n = k.min(k.sub(reduced.inner, i), k.idx(lanes));
        Value next = k.elementLanes(1, k.add(from, k.mul(i, stride)), stride, n, none);
        return {fold(k, v[0], next)};
      });
    });
    Value result = foldLanes(k, folded[0]);
    if (k.spec.op == TensorOp::ReduceMean) {
      Value count = k.fromIndex(reducedCount, k.i64);
      result = quotient(k, result, convert(k, count, ElementType::I64, k.type(1)));
    }
    k.setElement(0, at, result);
  });
}

//===--- ArgMax, ArgMin -----------------------------------------------------------------------===//

void shapeArg(TensorKernelBuilder &k) {
  const int in = k.input(0);
  int out = 0;
  for (int a = 0; a < k.rank(in); ++a)
    if (a != k.spec.ints[0])
      k.setDim(0, out++, k.dim(in, a));
    else if (k.spec.ints[1])
      k.setDim(0, out++, k.idx(1));
  k.failIf(k.equal(k.dim(in, int(k.spec.ints[0])), k.idx(0)), format::FaultShape);
}

// The first (or last) NaN wins, as in numpy.
void computeArg(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  const bool last = k.spec.ints[2] != 0, most = k.spec.op == TensorOp::ArgMax;
  Values dims = k.dims(1);
  Value length = dims[axis], stride = k.product(ArrayRef(dims).drop_front(axis + 1));
  auto better = [&](Value next, Value best) {
    if (!isa<FloatType>(next.getType())) {
      Whole order = most ? (last ? Whole::sge : Whole::sgt) : (last ? Whole::sle : Whole::slt);
      return k.cmpi(order, next, best);
    }
    Real order = most ? (last ? Real::OGE : Real::OGT) : (last ? Real::OLE : Real::OLT);
    Value isNaN = k.cmpf(Real::UNO, next, next), bestNaN = k.cmpf(Real::UNO, best, best);
    Value wins = last ? isNaN : k.both(isNaN, k.negate(bestNaN));
    return k.either(wins, k.cmpf(order, next, best));
  };
  auto [begin, end] = k.threadShare(k.count(0));
  k.loop(begin, end, 1, [&](Value at) {
    Value row = k.div(at, stride), column = k.sub(at, k.mul(row, stride));
    Value base = k.add(k.mul(k.mul(row, length), stride), column);
    Values best = k.loop(k.idx(1), length, 1, {k.element(1, base), k.idx(0)},
                         [&](Value i, ValueRange v) -> Values {
                           Value next = k.element(1, k.add(base, k.mul(i, stride)));
                           Value wins = better(next, v[0]);
                           return {k.select(wins, next, v[0]), k.select(wins, i, v[1])};
                         });
    k.store(k.data(0), at, k.fromIndex(best[1], k.i64));
  });
}

//===--- CumSum -------------------------------------------------------------------------------===//

void computeCumSum(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  const bool exclusive = k.spec.ints[1] != 0, reverse = k.spec.ints[2] != 0;
  Values dims = k.dims(1);
  Value length = dims[axis], stride = k.product(ArrayRef(dims).drop_front(axis + 1));
  Value lines = k.mul(k.product(ArrayRef(dims).take_front(axis)), stride);
  auto [begin, end] = k.threadShare(lines);
  k.loop(begin, end, 1, [&](Value line) {
    Value row = k.div(line, stride), column = k.sub(line, k.mul(row, stride));
    Value base = k.add(k.mul(k.mul(row, length), stride), column);
    Value zero = k.number(k.computeType(k.type(1)), 0);
    k.loop(k.idx(0), length, 1, {zero}, [&](Value i, ValueRange v) -> Values {
      Value position = reverse ? k.sub(k.sub(length, k.idx(1)), i) : i;
      Value at = k.add(base, k.mul(position, stride));
      Value next = sum(k, v[0], k.element(1, at));
      k.setElement(0, at, exclusive ? v[0] : next);
      return {next};
    });
  });
}

} // namespace smelt
