// Kernels that make tensors: Range, ConstantOfShape, Shape, Size, NonZero, OneHot, EyeLike.
#include "passes/lower/tensor_kernels/emitters.h"
#include "passes/lower/tensor_kernels/scalar.h"

using namespace mlir;

namespace smelt {

namespace {

using Real = arith::CmpFPredicate;

/// Lets thread 0 do what is too small or too ordered to share.
void onFirstThread(TensorKernelBuilder &k, const std::function<void()> &body) {
  k.ifThen(k.equal(k.field(format::FieldThread), k.idx(0)), body);
}

} // namespace

Value requireOne(TensorKernelBuilder &k, int operand) {
  Value one = k.equal(k.count(operand), k.idx(1));
  k.failIf(k.negate(one), format::FaultShape);
  return one;
}

//===--- Range --------------------------------------------------------------------------------===//

// max(0, ceil((limit - start) / delta)) elements, the quotient of floats in double.
void shapeRange(TensorKernelBuilder &k) {
  Value one = k.truth(true);
  for (int i = k.input(0); i <= k.input(2); ++i)
    one = k.both(one, requireOne(k, i));
  k.ifThen(one, [&] {
    Value start = k.element(k.input(0), k.idx(0)), limit = k.element(k.input(1), k.idx(0));
    Value delta = k.element(k.input(2), k.idx(0)), zero = k.idx(0);
    if (k.isFloat(k.input(0))) {
      auto wide = [&](Value v) { return convert(k, v, k.type(k.input(0)), ElementType::F64); };
      Value steps = k.fdiv(wide(k.fsub(limit, start)), wide(delta));
      Value count = math::CeilOp::create(k.b, steps);
      Value good = k.both(k.cmpf(Real::OEQ, steps, steps),
                          k.cmpf(Real::OLT, k.fabs(count), k.number(count, 0x1p40)));
      good = k.both(good, k.cmpf(Real::UNE, delta, k.number(delta, 0)));
      k.failIf(k.negate(good), format::FaultShape);
      Value safe = k.select(good, count, k.number(count, 0));
      k.setDim(0, 0, k.max(k.toIndex(convert(k, safe, ElementType::F64, ElementType::I64)), zero));
      return;
    }
    auto wide = [&](Value v) { return k.toIndex(v); };
    Value first = wide(start), last = wide(limit), step = wide(delta);
    Value backward = k.less(step, zero);
    Value any = k.select(backward, k.less(last, first), k.less(first, last));
    // As unsigned numbers: right for the least and the largest integers.
    Value distance = k.select(backward, k.sub(first, last), k.sub(last, first));
    Value size = k.select(backward, k.sub(zero, step), step);
    size = k.select(k.equal(step, zero), k.idx(1), size);
    Value count = k.add(k.div(k.sub(distance, k.idx(1)), size), 1);
    count = k.select(any, count, zero);
    Value wrong = k.either(k.equal(step, zero),
                           k.either(k.less(count, zero), k.less(k.idx(int64_t(1) << 40), count)));
    k.failIf(wrong, format::FaultShape);
    k.setDim(0, 0, k.select(wrong, zero, count));
  });
}

// start + i * delta, floats rounded once.
void computeRange(TensorKernelBuilder &k) {
  auto [begin, end] = k.threadShare(k.count(0));
  Value start = k.element(1, k.idx(0)), delta = k.element(3, k.idx(0));
  k.loop(begin, end, 1, [&](Value at) {
    if (k.isFloat(0)) {
      Value i = convert(k, k.fromIndex(at, k.i64), ElementType::I64, k.type(0));
      return k.setElement(0, at, k.fma(i, delta, start));
    }
    k.setElement(0, at, k.iadd(start, k.imul(delta, k.fromIndex(at, start.getType()))));
  });
}

//===--- ConstantOfShape, EyeLike -------------------------------------------------------------===//

void shapeConstantOfShape(TensorKernelBuilder &k) {
  const int shape = k.input(0);
  Value fits = k.equal(k.dim(shape, 0), k.idx(k.rank(0)));
  k.failIf(k.negate(fits), format::FaultShape);
  k.ifThen(fits, [&] {
    for (int a = 0; a < k.rank(0); ++a) {
      Value length = k.indexElement(shape, k.idx(a));
      k.failIf(k.less(length, k.idx(0)), format::FaultShape);
      k.setDim(0, a, k.max(length, k.idx(0)));
    }
  });
}

void computeConstantOfShape(TensorKernelBuilder &k) {
  Type memory = k.memoryType(k.type(0));
  const int64_t whole = k.spec.ints.empty() ? 0 : k.spec.ints[0];
  Value value = k.isFloat(0) ? k.number(memory, k.spec.real) : k.integer(memory, whole);
  auto [begin, end] = k.threadShare(k.count(0));
  k.loop(begin, end, 1, [&](Value at) { k.store(k.data(0), at, value); });
}

void computeEyeLike(TensorKernelBuilder &k) {
  Value rows = k.dim(0, 0), cols = k.dim(0, 1);
  Type memory = k.memoryType(k.type(0));
  auto [begin, end] = k.threadShare(rows);
  k.loop(begin, end, 1, [&](Value row) {
    Value diagonal = k.add(row, std::clamp<int64_t>(k.spec.ints[0], -(1ll << 40), 1ll << 40));
    k.loop(k.idx(0), cols, 1, [&](Value col) {
      Value value = k.select(k.equal(col, diagonal), k.number(memory, 1), k.number(memory, 0));
      k.store(k.data(0), k.add(k.mul(row, cols), col), value);
    });
  });
}

//===--- Shape, Size --------------------------------------------------------------------------===//

void shapeShape(TensorKernelBuilder &k) { k.setDim(0, 0, k.idx(k.spec.ints[1] - k.spec.ints[0])); }

void computeShape(TensorKernelBuilder &k) {
  onFirstThread(k, [&] {
    for (int64_t a = k.spec.ints[0]; a < k.spec.ints[1]; ++a)
      k.store(k.data(0), k.idx(a - k.spec.ints[0]), k.fromIndex(k.dim(1, int(a)), k.i64));
  });
}

void shapeScalar(TensorKernelBuilder &) {}

void computeSize(TensorKernelBuilder &k) {
  onFirstThread(k, [&] { k.store(k.data(0), k.idx(0), k.fromIndex(k.count(1), k.i64)); });
}

//===--- NonZero ------------------------------------------------------------------------------===//

static Value isNonZero(TensorKernelBuilder &k, int operand, Value at) {
  return convert(k, k.element(operand, at), k.type(operand), ElementType::Bool);
}

void shapeNonZero(TensorKernelBuilder &k) {
  const int in = k.input(0);
  k.setDim(0, 0, k.idx(k.rank(in)));
  Values count =
      k.loop(k.idx(0), k.count(in), 1, {k.idx(0)}, [&](Value at, ValueRange v) -> Values {
        return {k.add(v[0], k.select(isNonZero(k, in, at), k.idx(1), k.idx(0)))};
      });
  k.setDim(0, 1, count[0]);
}

void computeNonZero(TensorKernelBuilder &k) {
  Values dims = k.dims(1);
  Value found = k.dim(0, 1);
  onFirstThread(k, [&] {
    k.loop(k.idx(0), k.count(1), 1, {k.idx(0)}, [&](Value at, ValueRange v) -> Values {
      Value hit = k.both(isNonZero(k, 1, at), k.less(v[0], found));
      k.ifThen(hit, [&] {
        Value rest = at;
        for (size_t a = dims.size(); a-- > 0;) {
          Value next = k.div(rest, dims[a]), coordinate = k.sub(rest, k.mul(next, dims[a]));
          k.store(k.data(0), k.add(k.mul(found, int64_t(a)), v[0]), k.fromIndex(coordinate, k.i64));
          rest = next;
        }
      });
      return {k.add(v[0], k.select(hit, k.idx(1), k.idx(0)))};
    });
  });
}

//===--- OneHot -------------------------------------------------------------------------------===//

/// An element of any numeric type as index.
static Value anyIndex(TensorKernelBuilder &k, int operand, Value at) {
  return k.toIndex(convert(k, k.element(operand, at), k.type(operand), ElementType::I64));
}

void shapeOneHot(TensorKernelBuilder &k) {
  const int indices = k.input(0), depth = k.input(1);
  k.failIf(k.notEqual(k.dim(k.input(2), 0), k.idx(2)), format::FaultShape);
  k.ifThen(requireOne(k, depth), [&] {
    for (int a = 0, from = 0; a < k.rank(0); ++a)
      if (a == k.spec.ints[0]) {
        Value length = anyIndex(k, depth, k.idx(0));
        k.failIf(k.less(length, k.idx(1)), format::FaultShape);
        k.setDim(0, a, k.max(length, k.idx(0)));
      } else {
        k.setDim(0, a, k.dim(indices, from++));
      }
  });
}

// Indices out of [-depth, depth) give a row of off values.
void computeOneHot(TensorKernelBuilder &k) {
  const size_t axis = size_t(k.spec.ints[0]);
  Values dims = k.dims(0);
  Value depth = dims[axis], stride = k.product(ArrayRef(dims).drop_front(axis + 1));
  Value off = k.load(k.data(3), k.idx(0)), on = k.load(k.data(3), k.idx(1));
  auto [begin, end] = k.threadShare(k.count(0));
  k.loop(begin, end, 1, [&](Value at) {
    Value line = k.div(at, stride), column = k.sub(at, k.mul(line, stride));
    Value row = k.div(line, depth), position = k.sub(line, k.mul(row, depth));
    Value wanted = anyIndex(k, 1, k.add(k.mul(row, stride), column));
    wanted = k.select(k.less(wanted, k.idx(0)), k.add(wanted, depth), wanted);
    k.store(k.data(0), at, k.select(k.equal(wanted, position), on, off));
  });
}

} // namespace smelt
