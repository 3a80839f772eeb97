// Kernels that move elements by strides alone: Transpose, Expand, Slice, Concat, Tile; and Pad and
// Trilu, which move and fill.
#include "passes/lower/tensor_kernels/emitters.h"

using namespace mlir;

namespace smelt {

using Whole = arith::CmpIPredicate;

//===--- Transpose, Expand --------------------------------------------------------------------===//

void shapeTranspose(TensorKernelBuilder &k) {
  for (int a = 0; a < k.rank(0); ++a)
    k.setDim(0, a, k.dim(k.input(0), int(k.spec.ints[size_t(a)])));
}

void computeTranspose(TensorKernelBuilder &k) {
  Values strides = k.strides(k.dims(1)), outStrides = k.strides(k.dims(0));
  Box box(k, 2);
  for (int a = 0; a < k.rank(0); ++a)
    box.axis(k.dim(0, a), {outStrides[size_t(a)], strides[size_t(k.spec.ints[size_t(a)])]});
  copyBox(k, box, 1, k.idx(0), k.idx(0));
}

void shapeExpand(TensorKernelBuilder &k) {
  const int in = k.input(0), shape = k.input(1), rank = k.rank(0), inRank = k.rank(in);
  Value given = k.dim(shape, 0);
  // The output has the larger rank: the input's, or the length of the shape.
  Value fits = k.lessEqual(given, k.idx(rank));
  if (inRank < rank)
    fits = k.equal(given, k.idx(rank));
  k.failIf(k.negate(fits), format::FaultShape);
  k.ifThen(fits, [&] {
    Value missing = k.sub(k.idx(rank), given), wrong = k.truth(false), one = k.idx(1);
    for (int a = 0; a < rank; ++a) {
      Value own = a < rank - inRank ? one : k.dim(in, a - (rank - inRank));
      Value wanted = k.ifElse(
          k.lessEqual(missing, k.idx(a)), k.index,
          [&]() -> Values { return {k.indexElement(shape, k.sub(k.idx(a), missing))}; },
          [&]() -> Values { return {one}; })[0];
      Value ownOne = k.equal(own, one);
      Value good = k.either(k.either(ownOne, k.equal(wanted, one)), k.equal(own, wanted));
      wrong = k.either(wrong, k.either(k.negate(good), k.less(wanted, k.idx(0))));
      k.setDim(0, a, k.max(k.select(ownOne, wanted, own), k.idx(0)));
    }
    k.failIf(wrong, format::FaultShape);
  });
}

void computeExpand(TensorKernelBuilder &k) {
  Box box(k, 2);
  addBroadcastAxes(k, box, {0, 1});
  copyBox(k, box, 1, k.idx(0), k.idx(0));
}

//===--- Slice --------------------------------------------------------------------------------===//

namespace {

struct SliceRange {
  Value start, step, count;
};

/// Elements start, start + step, ... of entry `i` of the slice's axes, by ONNX' clamping; a step of
/// 0 takes none.
SliceRange sliceRange(TensorKernelBuilder &k, int i, Value length) {
  Value zero = k.idx(0), at = k.idx(i);
  Value start = k.indexElement(k.input(1), at), end = k.indexElement(k.input(2), at);
  Value step = k.has(k.input(3)) ? k.indexElement(k.input(3), at) : k.idx(1);
  auto fromEnd = [&](Value v) { return k.select(k.less(v, zero), k.add(v, length), v); };
  Value backward = k.less(step, zero), last = k.sub(length, k.idx(1));
  // Forward: both bounds in [0, length]; backward: start in [0, length - 1], end in [-1, length -
  // 1].
  Value top = k.select(backward, last, length);
  start = k.min(k.max(fromEnd(start), zero), top);
  end = k.min(k.max(fromEnd(end), k.select(backward, k.idx(-1), zero)), top);
  Value distance = k.select(backward, k.sub(start, end), k.sub(end, start));
  // |step| as an unsigned number: right for the least integer too.
  Value size = k.max(k.select(backward, k.sub(zero, step), step), k.idx(1));
  size = k.select(k.equal(step, k.idx(INT64_MIN)), k.idx(INT64_MAX), size);
  Value count = k.add(k.div(k.max(k.sub(distance, k.idx(1)), zero), size), 1);
  Value none = k.either(k.lessEqual(distance, zero), k.equal(step, zero));
  return {start, step, k.select(none, zero, count)};
}

} // namespace

void shapeSlice(TensorKernelBuilder &k) {
  const int in = k.input(0);
  const ArrayRef<int64_t> axes = k.spec.ints;
  Value fits = k.truth(true), entries = k.idx(int64_t(axes.size()));
  for (int i = k.input(1); k.has(i); ++i)
    fits = k.both(fits, k.equal(k.dim(i, 0), entries));
  k.failIf(k.negate(fits), format::FaultShape);
  k.ifThen(fits, [&] {
    for (int a = 0; a < k.rank(0); ++a) {
      const auto *entry = llvm::find(axes, a);
      if (entry == axes.end()) {
        k.setDim(0, a, k.dim(in, a));
        continue;
      }
      SliceRange range = sliceRange(k, int(entry - axes.begin()), k.dim(in, a));
      k.failIf(k.equal(range.step, k.idx(0)), format::FaultShape);
      k.setDim(0, a, range.count);
    }
  });
}

void computeSlice(TensorKernelBuilder &k) {
  const ArrayRef<int64_t> axes = k.spec.ints;
  Values strides = k.strides(k.dims(1)), outStrides = k.strides(k.dims(0));
  Value base = k.idx(0);
  Box box(k, 2);
  for (int a = 0; a < k.rank(0); ++a) {
    Value stride = strides[size_t(a)];
    const auto *entry = llvm::find(axes, a);
    if (entry != axes.end()) {
      SliceRange range = sliceRange(k, int(entry - axes.begin()), k.dim(1, a));
      base = k.add(base, k.mul(range.start, stride));
      stride = k.mul(stride, range.step);
    }
    box.axis(k.dim(0, a), {outStrides[size_t(a)], stride});
  }
  copyBox(k, box, 1, k.idx(0), base);
}

//===--- Concat, Tile -------------------------------------------------------------------------===//

void shapeConcat(TensorKernelBuilder &k) {
  Value wrong = k.truth(false);
  for (int a = 0; a < k.rank(0); ++a) {
    Value first = k.dim(k.input(0), a), second = k.dim(k.input(1), a);
    if (a == k.spec.ints[0]) {
      k.setDim(0, a, k.add(first, second));
      continue;
    }
    wrong = k.either(wrong, k.notEqual(first, second));
    k.setDim(0, a, first);
  }
  k.failIf(wrong, format::FaultShape);
}

void computeConcat(TensorKernelBuilder &k) {
  // Every operand is [rows, run] with a run of its own.
  const size_t axis = size_t(k.spec.ints[0]);
  auto run = [&](int operand) {
    Values dims = k.dims(operand);
    return k.product(ArrayRef(dims).drop_front(axis));
  };
  Values dims = k.dims(0);
  Value rows = k.product(ArrayRef(dims).take_front(axis)), outRun = run(0), offset = k.idx(0);
  for (int operand : {1, 2}) {
    Box box(k, 2);
    Value inRun = run(operand);
    box.axis(rows, {outRun, inRun});
    box.axis(inRun, {k.idx(1), k.idx(1)});
    copyBox(k, box, operand, offset, k.idx(0));
    offset = inRun;
  }
}

void shapeTile(TensorKernelBuilder &k) {
  const int in = k.input(0), repeats = k.input(1);
  Value fits = k.equal(k.dim(repeats, 0), k.idx(k.rank(in)));
  k.failIf(k.negate(fits), format::FaultShape);
  k.ifThen(fits, [&] {
    for (int a = 0; a < k.rank(in); ++a) {
      Value repeat = k.indexElement(repeats, k.idx(a));
      // A repeat that no memory could hold overflows otherwise.
      Value wrong = k.either(k.less(repeat, k.idx(0)), k.less(k.idx(int64_t(1) << 40), repeat));
      k.failIf(wrong, format::FaultShape);
      k.setDim(0, a, k.mul(k.dim(in, a), k.select(wrong, k.idx(0), repeat)));
    }
  });
}

void computeTile(TensorKernelBuilder &k) {
  Values strides = k.strides(k.dims(1)), outStrides = k.strides(k.dims(0));
  Box box(k, 2);
  for (int a = 0; a < k.rank(0); ++a) {
    Value length = k.dim(1, a), outStride = outStrides[size_t(a)];
    Value repeats = k.div(k.dim(0, a), k.max(length, k.idx(1)));
    box.axis(repeats, {k.mul(outStride, length), k.idx(0)});
    box.axis(length, {outStride, strides[size_t(a)]});
  }
  copyBox(k, box, 1, k.idx(0), k.idx(0));
}

//===--- Pad ----------------------------------------------------------------------------------===//

namespace {

enum PadMode { PadConstant, PadEdge, PadReflect, PadWrap };

/// The axes that a Pad names, by its ints.
SmallVector<int64_t> padAxes(TensorKernelBuilder &k) {
  ArrayRef<int64_t> named = ArrayRef(k.spec.ints).drop_front(1);
  if (!named.empty())
    return SmallVector<int64_t>(named);
  return llvm::to_vector(llvm::seq<int64_t>(0, k.rank(0)));
}

} // namespace

void shapePad(TensorKernelBuilder &k) {
  const int in = k.input(0), pads = k.input(1);
  SmallVector<int64_t> axes = padAxes(k);
  const int64_t count = int64_t(axes.size());
  Value fits = k.equal(k.dim(pads, 0), k.idx(2 * count));
  if (k.has(k.input(2)))
    requireOne(k, k.input(2));
  k.failIf(k.negate(fits), format::FaultShape);
  k.ifThen(fits, [&] {
    Value wrong = k.truth(false), most = k.idx(int64_t(1) << 40);
    for (int a = 0; a < k.rank(0); ++a) {
      Value length = k.dim(in, a);
      const auto *entry = llvm::find(axes, a);
      if (entry == axes.end()) {
        k.setDim(0, a, length);
        continue;
      }
      Value before = k.indexElement(pads, k.idx(entry - axes.begin()));
      Value after = k.indexElement(pads, k.idx(count + (entry - axes.begin())));
      for (Value pad : {before, after})
        wrong = k.either(wrong, k.either(k.less(most, pad), k.less(pad, k.sub(k.idx(0), most))));
      Value padded = k.add(length, k.add(before, after));
      wrong = k.either(wrong, k.less(padded, k.idx(0)));
      if (k.spec.ints[0] != PadConstant) // nothing to repeat
        wrong = k.either(wrong, k.both(k.equal(length, k.idx(0)), k.less(k.idx(0), padded)));
      k.setDim(0, a, k.max(padded, k.idx(0)));
    }
    k.failIf(wrong, format::FaultShape);
  });
}

void computePad(TensorKernelBuilder &k) {
  const int pads = k.input(1), valueOperand = k.input(2);
  const int64_t mode = k.spec.ints[0];
  SmallVector<int64_t> axes = padAxes(k);
  Values strides = k.strides(k.dims(1));
  Type memory = k.memoryType(k.type(0));
  Value fill = k.has(valueOperand) ? k.load(k.data(valueOperand), k.idx(0)) : k.number(memory, 0);
  SmallVector<Value> before(size_t(k.rank(0)), k.idx(0));
  for (auto [i, axis] : llvm::enumerate(axes))
    before[size_t(axis)] = k.indexElement(pads, k.idx(int64_t(i)));

  auto floorRem = [&](Value a, Value n) {
    Value r = arith::RemSIOp::create(k.b, a, n);
    return k.select(k.less(r, k.idx(0)), k.add(r, n), r);
  };
  auto [begin, end] = k.threadShare(k.count(0));
  k.loop(begin, end, 1, [&](Value at) {
    Value rest = at, source = k.idx(0), inside = k.truth(true), zero = k.idx(0);
    for (int a = k.rank(0) - 1; a >= 0; --a) {
      Value next = k.div(rest, k.dim(0, a)), length = k.dim(1, a);
      Value c = k.sub(k.sub(rest, k.mul(next, k.dim(0, a))), before[size_t(a)]);
      rest = next;
      Value last = k.sub(length, k.idx(1));
      if (mode == PadEdge) {
        c = k.min(k.max(c, zero), last);
      } else if (mode == PadWrap) {
        c = floorRem(c, length);
      } else if (mode == PadReflect) {
        Value period = k.max(k.add(last, last), k.idx(1));
        c = floorRem(c, period);
        c = k.select(k.less(last, c), k.sub(period, c), c);
      } else {
        inside = k.both(inside, k.cmpi(Whole::ult, c, length));
      }
      source = k.add(source, k.mul(c, strides[size_t(a)]));
    }
    Value element = k.ifElse(
        inside, memory, [&]() -> Values { return {k.load(k.data(1), source)}; },
        [&]() -> Values { return {fill}; })[0];
    k.store(k.data(0), at, element);
  });
}

//===--- Trilu --------------------------------------------------------------------------------===//

void shapeLikeInput(TensorKernelBuilder &k) {
  for (int a = 0; a < k.rank(0); ++a)
    k.setDim(0, a, k.dim(k.input(0), a));
}

void shapeTrilu(TensorKernelBuilder &k) {
  shapeLikeInput(k);
  if (k.has(k.input(1)))
    requireOne(k, k.input(1));
}

void computeTrilu(TensorKernelBuilder &k) {
  const bool upper = k.spec.ints[0] != 0;
  const int rank = k.rank(0);
  Value rows = k.dim(0, rank - 2), cols = k.dim(0, rank - 1);
  Value diagonal = k.has(2) ? k.indexElement(2, k.idx(0)) : k.idx(0);
  // Far diagonals must not overflow row + diagonal.
  Value far = k.idx(int64_t(1) << 40);
  diagonal = k.max(k.min(diagonal, far), k.sub(k.idx(0), far));
  Values dims = k.dims(0);
  auto [begin, end] = k.threadShare(k.product(ArrayRef(dims).drop_back()));
  Value zero = k.number(k.memoryType(k.type(0)), 0);
  k.loop(begin, end, 1, [&](Value row) {
    Value edge = k.add(k.rem(row, rows), diagonal), base = k.mul(row, cols);
    k.loop(k.idx(0), cols, 1, [&](Value col) {
      Value kept = upper ? k.lessEqual(edge, col) : k.lessEqual(col, edge);
      Value at = k.add(base, col);
      k.store(k.data(0), at, k.select(kept, k.load(k.data(1), at), zero));
    });
  });
}

} // namespace smelt
