// Kernels that move elements by indices in data: Gather, GatherElements, GatherND, ScatterElements,
// ScatterND.
//
// A scatter deals the output to the threads: each copies its share of the data and then makes the
// updates that fall into it, in the order of the indices, so that the result does not depend on the
// number of threads.
#include "passes/lower/tensor_kernels/emitters.h"
#include "passes/lower/tensor_kernels/scalar.h"

using namespace mlir;

namespace smelt {

namespace {

using Whole = arith::CmpIPredicate;

/// The index at `at` of `operand`, counted from the end where negative, and whether it is in range;
/// sets the fault where not.
std::pair<Value, Value> checkedIndex(TensorKernelBuilder &k, int operand, Value at, Value length) {
  Value value = k.indexElement(operand, at);
  value = k.select(k.less(value, k.idx(0)), k.add(value, length), value);
  Value inside = k.cmpi(Whole::ult, value, length);
  k.failIf(k.negate(inside), format::FaultIndex);
  return {value, inside};
}

/// The offset that the `depth` indices from `at` of `operand` make in `dims`, and whether all are
/// in range.
std::pair<Value, Value> tupleOffset(TensorKernelBuilder &k, int operand, Value at,
                                    ArrayRef<Value> dims, ArrayRef<Value> strides) {
  Value offset = k.idx(0), inside = k.truth(true);
  for (size_t i = 0; i < dims.size(); ++i) {
    auto [value, good] = checkedIndex(k, operand, k.add(at, int64_t(i)), dims[i]);
    offset = k.add(offset, k.mul(value, strides[i]));
    inside = k.both(inside, good);
  }
  return {offset, inside};
}

/// What a reduction makes of the old and the new value.
Value combine(TensorKernelBuilder &k, int64_t reduction, Value old, Value update) {
  switch (reduction) {
  case 1:
    return sum(k, old, update);
  case 2:
    return multiply(k, old, update);
  case 3:
    return maximum(k, old, update);
  case 4:
    return minimum(k, old, update);
  default:
    return update;
  }
}

/// A fault unless dims [from, from + count) of `a` and [fromB, ...) of `b` are equal.
void requireEqual(TensorKernelBuilder &k, int a, int from, int b, int fromB, int count) {
  Value wrong = k.truth(false);
  for (int i = 0; i < count; ++i)
    wrong = k.either(wrong, k.notEqual(k.dim(a, from + i), k.dim(b, fromB + i)));
  k.failIf(wrong, format::FaultShape);
}

} // namespace

//===--- Gather -------------------------------------------------------------------------------===//

void shapeGather(TensorKernelBuilder &k) {
  const int in = k.input(0), indices = k.input(1), axis = int(k.spec.ints[0]);
  int out = 0;
  for (int a = 0; a < k.rank(in); ++a)
    if (a != axis)
      k.setDim(0, out++, k.dim(in, a));
    else
      for (int i = 0; i < k.rank(indices); ++i)
        k.setDim(0, out++, k.dim(indices, i));
}

void computeGather(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  Values dims = k.dims(1);
  Value length = dims[axis], run = k.product(ArrayRef(dims).drop_front(axis + 1));
  Value indices = k.count(2), outer = k.product(ArrayRef(dims).take_front(axis));
  auto [begin, end] = k.threadShare(k.mul(outer, indices));
  k.loop(begin, end, 1, [&](Value item) {
    Value row = k.div(item, indices), i = k.sub(item, k.mul(row, indices));
    auto [value, inside] = checkedIndex(k, 2, i, length);
    Value from = k.mul(k.add(k.mul(row, length), value), run);
    k.ifThen(inside, [&] { copyRun(k, 1, k.mul(item, run), from, run); });
  });
}

void shapeGatherElements(TensorKernelBuilder &k) {
  const int in = k.input(0), indices = k.input(1);
  Value wrong = k.truth(false);
  for (int a = 0; a < k.rank(0); ++a) {
    if (a != k.spec.ints[0])
      wrong = k.either(wrong, k.less(k.dim(in, a), k.dim(indices, a)));
    k.setDim(0, a, k.dim(indices, a));
  }
  k.failIf(wrong, format::FaultShape);
}

void computeGatherElements(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  Values dims = k.dims(1), strides = k.strides(dims), outStrides = k.strides(k.dims(0));
  Box box(k, 2);
  for (size_t a = 0; a < dims.size(); ++a)
    box.axis(k.dim(0, int(a)), {outStrides[a], a == axis ? k.idx(0) : strides[a]});
  box.close();
  box.forRuns([&](ValueRange offsets, Value first, Value last) {
    k.loop(first, last, 1, [&](Value i) {
      Value at = k.add(offsets[0], i);
      auto [value, inside] = checkedIndex(k, 2, at, dims[axis]);
      Value from =
          k.add(k.add(offsets[1], k.mul(i, box.innerStrides[1])), k.mul(value, strides[axis]));
      k.ifThen(inside, [&] { k.store(k.data(0), at, k.load(k.data(1), from)); });
    });
  });
}

// Index tuples of `depth` numbers pick slices of the axes after batch + depth.
static int gatherDepth(TensorKernelBuilder &k) {
  const int in = k.input(0), indices = k.input(1), batch = int(k.spec.ints[0]);
  return k.rank(in) + k.rank(indices) - 1 - batch - k.rank(0);
}

void shapeGatherND(TensorKernelBuilder &k) {
  const int in = k.input(0), indices = k.input(1), batch = int(k.spec.ints[0]);
  const int depth = gatherDepth(k), tuples = k.rank(indices) - 1;
  requireEqual(k, in, 0, indices, 0, batch);
  k.failIf(k.notEqual(k.dim(indices, tuples), k.idx(depth)), format::FaultShape);
  int out = 0;
  for (int a = 0; a < tuples; ++a)
    k.setDim(0, out++, k.dim(indices, a));
  for (int a = batch + depth; a < k.rank(in); ++a)
    k.setDim(0, out++, k.dim(in, a));
}

void computeGatherND(TensorKernelBuilder &k) {
  const size_t batch = size_t(k.spec.ints[0]), depth = size_t(gatherDepth(k));
  Values dims = k.dims(1), strides = k.strides(dims), indexDims = k.dims(2);
  Value run = k.product(ArrayRef(dims).drop_front(batch + depth));
  Value perBatch = k.product(ArrayRef(indexDims).drop_front(batch).drop_back());
  Value batchSize = k.product(ArrayRef(dims).drop_front(batch));
  auto [begin, end] = k.threadShare(k.product(ArrayRef(indexDims).drop_back()));
  k.loop(begin, end, 1, [&](Value item) {
    auto [offset, inside] =
        tupleOffset(k, 2, k.mul(item, int64_t(depth)), ArrayRef(dims).slice(batch, depth),
                    ArrayRef(strides).slice(batch, depth));
    Value from = k.add(k.mul(k.div(item, perBatch), batchSize), offset);
    k.ifThen(inside, [&] { copyRun(k, 1, k.mul(item, run), from, run); });
  });
}

//===--- Scatter ------------------------------------------------------------------------------===//

void shapeScatterElements(TensorKernelBuilder &k) {
  const int in = k.input(0), indices = k.input(1);
  Value wrong = k.truth(false);
  for (int a = 0; a < k.rank(0); ++a) {
    if (a != k.spec.ints[0])
      wrong = k.either(wrong, k.less(k.dim(in, a), k.dim(indices, a)));
    k.setDim(0, a, k.dim(in, a));
  }
  k.failIf(wrong, format::FaultShape);
  requireEqual(k, indices, 0, k.input(2), 0, k.rank(0));
}

void computeScatterElements(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  auto [begin, end] = k.threadShare(k.count(0));
  Value first = begin, size = k.sub(end, begin);
  copyRun(k, 1, first, first, size);

  Values dims = k.dims(1), strides = k.strides(dims), indexDims = k.dims(2);
  Values indexStrides = k.strides(indexDims);
  Box box(k, 2); // indices and updates, the data at coordinate 0 of the axis
  for (size_t a = 0; a < dims.size(); ++a)
    box.axis(indexDims[a], {indexStrides[a], a == axis ? k.idx(0) : strides[a]});
  box.close();
  Value some = k.less(k.idx(0), box.inner);
  k.loop(k.idx(0), k.select(some, box.outer, k.idx(0)), 1, [&](Value row) {
    Values offsets = box.offsets(row);
    k.loop(k.idx(0), box.inner, 1, [&](Value i) {
      Value at = k.add(offsets[0], i);
      auto [value, inside] = checkedIndex(k, 2, at, dims[axis]);
      Value to =
          k.add(k.add(offsets[1], k.mul(i, box.innerStrides[1])), k.mul(value, strides[axis]));
      Value mine = k.both(inside, k.cmpi(Whole::ult, k.sub(to, first), size));
      k.ifThen(mine, [&] {
        k.setElement(0, to, combine(k, k.spec.ints[1], k.element(0, to), k.element(3, at)));
      });
    });
  });
}

static int scatterDepth(TensorKernelBuilder &k) {
  return k.rank(k.input(0)) + k.rank(k.input(1)) - 1 - k.rank(k.input(2));
}

void shapeScatterND(TensorKernelBuilder &k) {
  const int in = k.input(0), indices = k.input(1), updates = k.input(2);
  const int depth = scatterDepth(k), tuples = k.rank(indices) - 1;
  k.failIf(k.notEqual(k.dim(indices, tuples), k.idx(depth)), format::FaultShape);
  requireEqual(k, indices, 0, updates, 0, tuples);
  requireEqual(k, in, depth, updates, tuples, k.rank(in) - depth);
  for (int a = 0; a < k.rank(0); ++a)
    k.setDim(0, a, k.dim(in, a));
}

void computeScatterND(TensorKernelBuilder &k) {
  const size_t depth = size_t(scatterDepth(k));
  Values dims = k.dims(1), strides = k.strides(dims), indexDims = k.dims(2);
  Value run = k.product(ArrayRef(dims).drop_front(depth));
  auto [begin, end] = k.threadShare(k.count(0));
  Value first = begin, last = end;
  copyRun(k, 1, first, first, k.sub(last, first));
  k.loop(k.idx(0), k.product(ArrayRef(indexDims).drop_back()), 1, [&](Value tuple) {
    auto [offset, inside] =
        tupleOffset(k, 2, k.mul(tuple, int64_t(depth)), ArrayRef(dims).take_front(depth),
                    ArrayRef(strides).take_front(depth));
    Value slice = offset;
    k.ifThen(inside, [&] {
      // The part of the slice that is in this thread's share.
      Value from = k.max(slice, first), to = k.min(k.add(slice, run), last);
      Value source = k.sub(k.mul(tuple, run), slice);
      k.loop(from, k.max(from, to), 1, [&](Value at) {
        Value update = k.element(3, k.add(source, at));
        k.setElement(0, at, combine(k, k.spec.ints[0], k.element(0, at), update));
      });
    });
  });
}

} // namespace smelt
