// Convolution and pooling: windows over the spatial axes of [n, channels, spatial...].
//
// Every output element visits its window in row-major order, channels outermost; sums are chains of
// fma in the element type.
#include "passes/lower/tensor_kernels/emitters.h"
#include "passes/lower/tensor_kernels/scalar.h"

using namespace mlir;

namespace smelt {

namespace {

using Whole = arith::CmpIPredicate;
using Real = arith::CmpFPredicate;

/// The attributes of a window; each has one entry a spatial axis.
struct Window {
  ArrayRef<int64_t> strides, dilations, before, after;
  /// `first`: where they begin in the ints.
  Window(TensorKernelBuilder &k, size_t first) {
    const size_t n = size_t(k.rank(0)) - 2;
    ArrayRef<int64_t> ints(k.spec.ints);
    strides = ints.slice(first, n);
    dilations = ints.slice(first + n, n);
    before = ints.slice(first + 2 * n, n);
    after = ints.slice(first + 3 * n, n);
  }
};

/// Sets an output's spatial length: places of a window of `kernel` taps; at least one tap of a
/// window that is added by rounding up lies within the input.
void setPlaces(TensorKernelBuilder &k, const Window &w, size_t s, Value kernel, bool roundUp) {
  const int axis = int(s) + 2;
  Value length = k.dim(k.input(0), axis);
  Value span = k.add(k.mul(k.sub(kernel, k.idx(1)), w.dilations[s]), 1);
  Value padded = k.add(length, w.before[s] + w.after[s]);
  Value room = k.sub(padded, span);
  Value wrong = k.either(k.less(room, k.idx(0)), k.less(kernel, k.idx(1)));
  k.failIf(wrong, format::FaultShape);
  room = k.max(room, k.idx(0));
  Value places = k.add(k.div(roundUp ? k.add(room, w.strides[s] - 1) : room, w.strides[s]), 1);
  if (roundUp) {
    Value lastStart = k.mul(k.sub(places, k.idx(1)), w.strides[s]);
    Value outside = k.lessEqual(k.add(length, w.before[s]), lastStart);
    places = k.select(outside, k.sub(places, k.idx(1)), places);
  }
  k.setDim(0, axis, k.select(wrong, k.idx(0), places));
}

/// Loops over the taps of the window at output place `place` [spatial]: body(carried, flat tap,
/// input position, whether it lies in the input). The position counts from the channel's first
/// element.
Values forTaps(TensorKernelBuilder &k, const Window &w, ArrayRef<Value> kernel,
               ArrayRef<Value> place, int in, Values carried,
               const std::function<Values(ValueRange, Value, Value, Value)> &body) {
  std::function<Values(size_t, Value, Value, Value, ValueRange)> axis =
      [&](size_t s, Value tap, Value position, Value inside, ValueRange carried) -> Values {
    if (s == kernel.size())
      return body(carried, tap, position, inside);
    Value length = k.dim(in, int(s) + 2);
    Value start = k.sub(k.mul(place[s], w.strides[s]), k.idx(w.before[s]));
    return k.loop(k.idx(0), kernel[s], 1, carried, [&](Value t, ValueRange carried) -> Values {
      Value at = k.add(start, k.mul(t, w.dilations[s]));
      Value within = k.both(inside, k.cmpi(Whole::ult, at, length));
      return axis(s + 1, k.add(k.mul(tap, kernel[s]), t), k.add(k.mul(position, length), at),
                  within, carried);
    });
  };
  return axis(0, k.idx(0), k.idx(0), k.truth(true), carried);
}

/// The spatial place of element `at` of the output and its channel, counted over all batches.
std::pair<Values, Value> splitPlace(TensorKernelBuilder &k, Value at) {
  const size_t n = size_t(k.rank(0)) - 2;
  Values place(n);
  for (size_t s = n; s-- > 0;) {
    Value length = k.dim(0, int(s) + 2), next = k.div(at, length);
    place[s] = k.sub(at, k.mul(next, length));
    at = next;
  }
  return {place, at};
}

Values spatial(TensorKernelBuilder &k, int operand) {
  Values dims = k.dims(operand);
  return Values(ArrayRef(dims).drop_front(2));
}

} // namespace

//===--- Conv ---------------------------------------------------------------------------------===//

void shapeConv(TensorKernelBuilder &k) {
  const int x = k.input(0), weights = k.input(1), bias = k.input(2);
  const int64_t group = k.spec.ints[0];
  Value outputs = k.dim(weights, 0);
  Value wrong = k.notEqual(k.dim(x, 1), k.mul(k.dim(weights, 1), group));
  wrong = k.either(wrong, k.notEqual(k.rem(outputs, group), k.idx(0)));
  if (k.has(bias))
    wrong = k.either(wrong, k.notEqual(k.dim(bias, 0), outputs));
  k.failIf(wrong, format::FaultShape);
  k.setDim(0, 0, k.dim(x, 0));
  k.setDim(0, 1, outputs);
  Window w(k, 1);
  for (size_t s = 0; s + 2 < size_t(k.rank(0)); ++s)
    setPlaces(k, w, s, k.dim(weights, int(s) + 2), false);
}

void computeConv(TensorKernelBuilder &k) {
  const int64_t group = k.spec.ints[0];
  Window w(k, 1);
  Value channels = k.dim(1, 1), perGroup = k.dim(2, 1), outputs = k.dim(0, 1);
  Values kernel = spatial(k, 2), inSpatial = spatial(k, 1);
  Value taps = k.product(kernel), plane = k.product(inSpatial);
  Value outputsPerGroup = k.div(outputs, group);
  auto [begin, end] = k.threadShare(k.count(0));
  k.loop(begin, end, 1, [&](Value at) {
    auto [place, row] = splitPlace(k, at);
    Value batch = k.div(row, outputs), output = k.sub(row, k.mul(batch, outputs));
    Value firstChannel =
        k.add(k.mul(batch, channels), k.mul(k.div(output, outputsPerGroup), perGroup));
    Value start = k.has(3) ? k.element(3, output) : k.number(k.computeType(k.type(0)), 0);
    Values total = k.loop(
        k.idx(0), perGroup, 1, {start}, [&, place = place](Value c, ValueRange carried) -> Values {
          Value in = k.mul(k.add(firstChannel, c), plane);
          Value weight = k.mul(k.add(k.mul(output, perGroup), c), taps);
          return forTaps(k, w, kernel, place, 1, Values(carried),
                         [&](ValueRange v, Value tap, Value position, Value inside) -> Values {
                           return k.ifElse(
                               inside, v[0].getType(),
                               [&]() -> Values {
                                 return {k.fma(k.element(1, k.add(in, position)),
                                               k.element(2, k.add(weight, tap)), v[0])};
                               },
                               [&]() -> Values { return {v[0]}; });
                         });
        });
    k.setElement(0, at, total[0]);
  });
}

//===--- Pools --------------------------------------------------------------------------------===//

// ints: kernel, strides, dilations, pads before, pads after, ceil_mode, count_include_pad.
void shapePool(TensorKernelBuilder &k) {
  const int x = k.input(0);
  const size_t n = size_t(k.rank(0)) - 2;
  Window w(k, n);
  for (int a : {0, 1})
    k.setDim(0, a, k.dim(x, a));
  for (size_t s = 0; s < n; ++s)
    setPlaces(k, w, s, k.idx(k.spec.ints[s]), k.spec.ints[5 * n] != 0);
}

void computePool(TensorKernelBuilder &k) {
  const size_t n = size_t(k.rank(0)) - 2;
  const bool average = k.spec.op == TensorOp::AveragePool, withPads = k.spec.ints[5 * n + 1] != 0;
  Window w(k, n);
  Values kernel, inSpatial = spatial(k, 1);
  for (size_t s = 0; s < n; ++s)
    kernel.push_back(k.idx(k.spec.ints[s]));
  Value plane = k.product(inSpatial);
  Type computed = k.computeType(k.type(0));
  Value start = k.number(computed, average ? 0 : -INFINITY);
  auto [begin, end] = k.threadShare(k.count(0));
  k.loop(begin, end, 1, [&](Value at) {
    auto [place, row] = splitPlace(k, at);
    Value in = k.mul(row, plane), one = k.number(computed, 1), zero = k.number(computed, 0);
    // How many taps count: those in the input, or in the padded input too.
    Values result =
        forTaps(k, w, kernel, place, 1, {start, zero},
                [&](ValueRange v, Value, Value position, Value inside) -> Values {
                  return k.ifElse(
                      inside, {computed, computed},
                      [&]() -> Values {
                        Value x = k.element(1, k.add(in, position));
                        return {average ? k.fadd(v[0], x) : maximum(k, v[0], x), k.fadd(v[1], one)};
                      },
                      [&]() -> Values { return {v[0], v[1]}; });
                });
    Value value = result[0];
    if (average) {
      Value count = result[1];
      if (withPads) {
        count = one;
        for (size_t s = 0; s < n; ++s) {
          // Taps before the end of the padded input.
          Value room = k.sub(k.add(k.dim(1, int(s) + 2), w.before[s] + w.after[s]),
                             k.mul(place[s], w.strides[s]));
          Value here = k.min(k.ceilDiv(room, w.dilations[s]), kernel[s]);
          Value whole = k.fromIndex(here, k.i64);
          count = k.fmul(count, convert(k, whole, ElementType::I64, k.type(0)));
        }
      }
      value = k.fdiv(value, count);
    }
    k.setElement(0, at, value);
  });
}

} // namespace smelt
