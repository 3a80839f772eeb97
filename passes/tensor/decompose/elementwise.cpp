// Elementwise ops: renaming of attributes, variadic forms, activation functions.
#include "passes/tensor/decompose/decompose.h"

#include <cmath>

using namespace mlir;

namespace smelt::tensor {

namespace {

Values inputsOf(Builder &b) {
  Values values;
  for (unsigned i = 0; i < b.inputs(); ++i)
    values.push_back(b.input(i));
  return values;
}

} // namespace

// silu(x) = x * sigmoid(x)
Value silu(Builder &b, Value x) { return b.mul(x, b.unary("Sigmoid", x)); }

Values sameMap(Builder &b) {
  if (b.has("broadcast") || b.has("axis")) {
    b.fail("broadcasting by attributes, as before opset 7, is not supported");
    return {};
  }
  return {b.make(b.node().getType(), inputsOf(b))};
}

Values attributedMap(Builder &b) {
  StringRef type = b.node().getType();
  Attributes attributes;
  if (type == "Mod")
    attributes.integer("fmod", b.integer("fmod", 0));
  if (type == "BitShift")
    attributes.integer("left", b.string("direction", "LEFT") == "LEFT");
  if (type == "IsInf")
    attributes.integer("detect_negative", b.integer("detect_negative", 1))
        .integer("detect_positive", b.integer("detect_positive", 1));
  return {b.make(type, inputsOf(b), attributes)};
}

Values variadic(Builder &b) {
  StringRef type = b.node().getType();
  StringRef step = type == "Sum" || type == "Mean" ? "Add" : type;
  Value result = b.input(0);
  for (unsigned i = 1; i < b.inputs(); ++i)
    result = b.make(step, {result, b.input(i)});
  if (type == "Mean")
    result = b.div(result, double(b.inputs()));
  return {result};
}

Values castTo(Builder &b) {
  if (b.node().getType() == "CastLike")
    return {b.cast(b.input(0), b.element(b.input(1)))};
  int64_t to = b.integer("to", 0);
  Type element = computedTypeOf(to, b.at.getContext());
  if (to == 21 || to == 22)
    element = {}; // 4-bit whole numbers are only stored
  if (!element) {
    b.fail("element type " + llvm::Twine(to) + " is not computed with");
    return {};
  }
  return {b.cast(b.input(0), element)};
}

Values clip(Builder &b) {
  Value x = b.input(0), low = b.input(1), high = b.input(2);
  if (b.has("min"))
    low = b.like(x, b.real("min", 0));
  if (b.has("max"))
    high = b.like(x, b.real("max", 0));
  if (low)
    x = b.make("Max", {x, low});
  if (high)
    x = b.make("Min", {x, high});
  return {x};
}

Values gelu(Builder &b) {
  StringRef type = b.node().getType();
  Value x = b.input(0);
  if (type == "QuickGelu") // x * sigmoid(alpha * x)
    return {b.mul(x, b.unary("Sigmoid", b.mul(x, b.real("alpha", 1.702))))};
  if (b.input(1)) // BiasGelu, FastGelu
    x = b.add(x, b.input(1));
  Value inner;
  if (type == "FastGelu" || b.string("approximate", "none") == "tanh") {
    // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    Value cube = b.mul(b.mul(x, x), x);
    inner = b.unary("Tanh", b.mul(b.add(x, b.mul(cube, 0.044715)), std::sqrt(2 / M_PI)));
  } else { // 0.5 x (1 + erf(x / sqrt 2))
    inner = b.unary("Erf", b.mul(x, M_SQRT1_2));
  }
  return {b.mul(b.mul(x, b.add(inner, 1.0)), 0.5)};
}

Values activation(Builder &b) {
  StringRef type = b.node().getType();
  Value x = b.input(0), zero = b.like(x, 0);
  auto positive = [&] { return b.make("Greater", {x, zero}); };
  auto expMinusOne = [&](double alpha) { return b.sub(b.unary("Exp", b.div(x, alpha)), 1.0); };
  double alpha = b.real("alpha", 1);
  if (type == "LeakyRelu") // x < 0 ? alpha x : x
    return {b.where(b.make("Less", {x, zero}), b.mul(x, b.real("alpha", 0.01)), x)};
  if (type == "PRelu")
    return {b.where(b.make("Less", {x, zero}), b.mul(x, b.input(1)), x)};
  if (type == "Elu") // x > 0 ? x : alpha (e^x - 1)
    return {b.where(positive(), x, b.mul(expMinusOne(1), alpha))};
  if (type == "Celu") // x > 0 ? x : alpha (e^(x / alpha) - 1)
    return {b.where(positive(), x, b.mul(expMinusOne(alpha), alpha))};
  if (type == "Selu") // gamma (x > 0 ? x : alpha (e^x - 1))
    return {
        b.mul(b.where(positive(), x, b.mul(expMinusOne(1), b.real("alpha", 1.6732632423543772))),
              b.real("gamma", 1.0507009873554805))};
  auto clamped = [&](Value y) { return b.make("Min", {b.make("Max", {y, zero}), b.like(x, 1)}); };
  if (type == "HardSigmoid") // clamp(alpha x + beta, 0, 1)
    return {clamped(b.add(b.mul(x, b.real("alpha", 0.2)), b.real("beta", 0.5)))};
  if (type == "HardSwish") // x clamp(x / 6 + 1 / 2, 0, 1)
    return {b.mul(x, clamped(b.add(b.mul(x, 1.0 / 6), 0.5)))};
  if (type == "Swish") // x sigmoid(alpha x)
    return {b.mul(x, b.unary("Sigmoid", b.mul(x, alpha)))};
  if (type == "Mish") // x tanh(softplus(x))
    return {b.mul(x, b.unary("Tanh", b.unary("Softplus", x)))};
  if (type == "Softsign") // x / (1 + |x|)
    return {b.div(x, b.add(b.unary("Abs", x), 1.0))};
  if (type == "ThresholdedRelu") // x > alpha ? x : 0
    return {b.where(b.make("Greater", {x, b.like(x, alpha)}), x, zero)};
  if (type == "Sinh" || type == "Cosh") { // (e^x -+ e^-x) / 2
    Value up = b.unary("Exp", x), down = b.unary("Exp", b.unary("Neg", x));
    return {b.mul(type == "Sinh" ? b.sub(up, down) : b.add(up, down), 0.5)};
  }
  if (type == "Shrink") { // x < -lambd ? x + bias : x > lambd ? x - bias : 0
    double lambda = b.real("lambd", 0.5), bias = b.real("bias", 0);
    Value above = b.where(b.make("Greater", {x, b.like(x, lambda)}), b.sub(x, bias), zero);
    return {b.where(b.make("Less", {x, b.like(x, -lambda)}), b.add(x, bias), above)};
  }
  b.fail("there is no formula for it");
  return {};
}

Values dropout(Builder &b) {
  Values results{b.input(0)};
  if (b.node()->getNumResults() > 1 && b.uses(1)) {
    b.fail("the mask of a dropout is only there in training");
    return {};
  }
  results.resize(b.node()->getNumResults());
  return results;
}

} // namespace smelt::tensor
