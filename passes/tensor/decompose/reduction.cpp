// Reductions, scans and softmax.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

Values reduce(Builder &b) {
  StringRef type = b.node().getType();
  Value x = b.input(0);
  int64_t rank = b.rank(x);
  std::optional<SmallVector<int64_t>> axes = b.list("axes", 1);
  bool keep = b.integer("keepdims", 1) != 0;
  if (!axes || axes->empty()) {
    if (b.integer("noop_with_empty_axes", 0) == 0) {
      axes.emplace();
      for (int64_t i = 0; i < rank; ++i)
        axes->push_back(i);
    } else {
      axes.emplace();
    }
  }
  auto plain = [&](StringRef name, Value value) {
    return axes->empty() ? value : b.reduce(name, value, *axes, keep);
  };
  bool isBool = b.element(x) && b.element(x).isInteger(1);
  if (isBool && (type == "ReduceMax" || type == "ReduceMin")) { // any or all, over nothing too
    Value found = plain(type, b.cast(x, b.at.getI32Type()));
    bool isAny = type == "ReduceMax";
    found = b.make(isAny ? "Max" : "Min", {found, b.like(found, isAny ? 0 : 1)});
    return {b.cast(found, b.at.getI1Type())};
  }
  if (type == "ReduceL1") // sum |x|
    return {plain("ReduceSum", b.unary("Abs", x))};
  if (type == "ReduceSumSquare") // sum x^2
    return {plain("ReduceSum", b.mul(x, x))};
  if (type == "ReduceL2") { // sqrt(sum x^2)
    Value sum = plain("ReduceSum", b.mul(x, x));
    return {b.isFloat(x) ? b.unary("Sqrt", sum)
                         : b.cast(b.unary("Sqrt", b.toFloat(sum)), b.element(x))};
  }
  if (type == "ReduceLogSum") // log(sum x)
    return {b.unary("Log", plain("ReduceSum", x))};
  if (type == "ReduceLogSumExp") { // max + log(sum e^(x - max))
    if (axes->empty())
      return {x};
    Value most = b.reduce("ReduceMax", x, *axes, true);
    Value sum = b.reduce("ReduceSum", b.unary("Exp", b.sub(x, most)), *axes, keep);
    return {b.add(b.unary("Log", sum), keep ? most : b.squeeze(most, *axes))};
  }
  return {plain(type, x)};
}

Values argument(Builder &b) {
  Value x = b.input(0);
  return {b.make(b.node().getType(), {x},
                 Attributes()
                     .integer("axis", b.axis(b.integer("axis", 0), b.rank(x)))
                     .integer("keepdims", b.integer("keepdims", 1) != 0)
                     .integer("select_last_index", b.integer("select_last_index", 0) != 0))};
}

Values cumulativeSum(Builder &b) {
  std::optional<int64_t> axis = b.constantInteger(b.input(1));
  if (!axis)
    return {b.fail("its axis is computed when the model runs; only a constant is supported")};
  return {b.make("CumSum", {b.input(0)},
                 Attributes()
                     .integer("axis", b.axis(*axis, b.rank(b.input(0))))
                     .integer("exclusive", b.integer("exclusive", 0) != 0)
                     .integer("reverse", b.integer("reverse", 0) != 0))};
}

Values topK(Builder &b) {
  Value x = b.input(0);
  Value k = b.has("k") ? b.i64(ArrayRef<int64_t>(b.integer("k", 1))) : b.toI64(b.input(1));
  return b.makeAll("TopK", {x, b.asVector(k)},
                   Attributes()
                       .integer("axis", b.axis(b.integer("axis", -1), b.rank(x)))
                       .integer("largest", b.integer("largest", 1) != 0)
                       .integer("sorted", b.integer("sorted", 1) != 0),
                   2);
}

/// Before opset 13 all axes from `axis` on are one.
Values softmaxes(Builder &b) {
  Value x = b.input(0), original = x;
  StringRef type = b.node().getType();
  bool isOld = b.opset() < 13;
  int64_t axis = b.axis(b.integer("axis", isOld ? 1 : -1), b.rank(x));
  bool isFlattened = isOld && axis + 1 < b.rank(x);
  if (isFlattened) {
    x = b.make("Flatten", {x}, Attributes().integer("axis", axis));
    axis = 1;
  }
  Value y;
  if (type == "Softmax") {
    y = b.softmax(x, axis);
  } else if (type == "LogSoftmax") { // x - max - log(sum e^(x - max))
    Value shifted = b.sub(x, b.reduce("ReduceMax", x, {axis}));
    y = b.sub(shifted, b.unary("Log", b.reduce("ReduceSum", b.unary("Exp", shifted), {axis})));
  } else { // Hardmax: 1 at the first of the largest
    Value at = b.make(
        "ArgMax", {x},
        Attributes().integer("axis", axis).integer("keepdims", 1).integer("select_last_index", 0));
    Value index = b.range(b.dimOf(x, axis));
    SmallVector<int64_t> behind;
    for (int64_t i = axis + 1; i < b.rank(x); ++i)
      behind.push_back(i - axis);
    y = b.cast(b.make("Equal", {b.unsqueeze(index, behind), at}), b.element(x));
  }
  if (isFlattened)
    y = b.reshape(y, b.shapeOf(original), true);
  return {y};
}

Values lpNormalization(Builder &b) {
  Value x = b.input(0);
  if (b.node().getType() == "MeanVarianceNormalization") { // (x - mean) / (std + 1e-9)
    SmallVector<int64_t> axes = b.ints("axes").value_or(SmallVector<int64_t>{0, 2, 3});
    Value centred = b.sub(x, b.reduce("ReduceMean", x, axes));
    Value variance = b.reduce("ReduceMean", b.mul(centred, centred), axes);
    return {b.div(centred, b.add(b.unary("Sqrt", variance), 1e-9))};
  }
  int64_t axis = b.axis(b.integer("axis", -1), b.rank(x));
  // x / (sum |x|^p)^(1/p), 0 where the norm is 0
  Value norm = b.integer("p", 2) == 1 ? b.reduce("ReduceSum", b.unary("Abs", x), {axis})
                                      : b.unary("Sqrt", b.reduce("ReduceSum", b.mul(x, x), {axis}));
  Value zero = b.like(x, 0);
  Value isZero = b.make("Equal", {norm, zero});
  return {b.where(isZero, zero, b.div(x, b.where(isZero, b.like(x, 1), norm)))};
}

} // namespace smelt::tensor
