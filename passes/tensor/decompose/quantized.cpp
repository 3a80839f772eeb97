// QuantizeLinear, DequantizeLinear and the integer products. Stored codes are dequantized here,
// once; products of codes run as the exact float products that they are.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

/// Scales and zero points of x: one, one for each index of `axis`, or one for each block of it.
struct Steps {
  Value scale, zero;
  int64_t axis = 0, block = 0;
};

/// A vector along `axis` of a tensor of `rank`, or a scalar, so that it broadcasts.
Value along(Builder &b, Value value, int64_t axis, int64_t rank) {
  if (!value || b.rank(value) != 1)
    return value;
  if (b.dim(value, 0) == 1 || rank == 0)
    return b.squeeze(value, {0});
  SmallVector<int64_t> behind;
  for (int64_t i = axis + 1; i < rank; ++i)
    behind.push_back(i - axis);
  return b.unsqueeze(value, behind);
}

/// One value a block of `axis`, repeated to the length of x.
Value blockwise(Builder &b, Value value, Value x, int64_t axis, int64_t block) {
  if (!value)
    return value;
  int64_t rank = b.rank(value);
  Value wide = b.unsqueeze(value, {axis + 1});
  SmallVector<int64_t> ones(size_t(rank + 1), 1);
  ones[size_t(axis + 1)] = block;
  wide = b.make("Tile", {wide, b.i64(ones)});
  Value shape = b.concat({b.dimsOf(value, 0, axis), b.mul(b.dimsOf(value, axis, 1), double(block)),
                          b.dimsOf(value, axis + 1, rank - axis - 1)},
                         0);
  return b.slice(b.reshape(wide, shape, true), axis, b.i64(0), b.dimOf(x, axis));
}

Value broadcastTo(Builder &b, Value value, Value x, const Steps &steps) {
  return steps.block > 0 && b.rank(value) == b.rank(x) && b.rank(x) > 0
             ? blockwise(b, value, x, steps.axis, steps.block)
             : along(b, value, steps.axis, b.rank(x));
}

/// (x - zero) * scale, computed when the model runs.
Value dequantize(Builder &b, Value x, const Steps &steps) {
  Value y = b.toFloat(x);
  if (steps.zero)
    y = b.sub(y, broadcastTo(b, b.toFloat(steps.zero), x, steps));
  return steps.scale ? b.mul(y, broadcastTo(b, b.toFloat(steps.scale), x, steps)) : y;
}

/// The same for stored codes, as a stored tensor of floats; null if something is computed.
Value dequantizeStored(Builder &b, Value x, const Steps &steps) {
  std::optional<Stored> codes = Stored::of(b, x);
  std::optional<Stored> scale = steps.scale ? Stored::of(b, steps.scale) : std::nullopt;
  std::optional<Stored> zero = steps.zero ? Stored::of(b, steps.zero) : std::nullopt;
  if (!codes || (steps.scale && !scale) || (steps.zero && !zero) || !b.store() ||
      codes->shape().empty())
    return {};
  ArrayRef<int64_t> shape = codes->shape();
  int64_t inner = 1, length = shape[size_t(steps.axis)];
  for (size_t i = size_t(steps.axis) + 1; i < shape.size(); ++i)
    inner *= shape[i];
  auto fits = [&](const std::optional<Stored> &part) {
    if (!part || part->elements() == 1)
      return true;
    if (steps.block > 0)
      return part->elements() == codes->elements() / std::max<int64_t>(length, 1) *
                                     ((length + steps.block - 1) / steps.block);
    return part->elements() == length;
  };
  if (!fits(scale) || !fits(zero))
    return b.fail("its scales or zero points do not fit its shape");
  std::string key = "dequantized " + codes->key() + " " + (scale ? scale->key() : "") + " " +
                    (zero ? zero->key() : "") + " " + std::to_string(steps.axis) + " " +
                    std::to_string(steps.block);
  for (int64_t dim : shape)
    key += " " + std::to_string(dim);
  int64_t blocks = steps.block > 0 ? (length + steps.block - 1) / steps.block : 0;
  return storedFloats(b, key, shape, [&](std::vector<float> &values) {
    for (int64_t i = 0; i < codes->elements(); ++i) {
      int64_t outer = i / (inner * length), at = i / inner % length;
      int64_t group =
          steps.block > 0 ? (outer * blocks + at / steps.block) * inner + i % inner : at;
      auto pick = [&](const Stored &part) { return part.at(part.elements() == 1 ? 0 : group); };
      double value = codes->at(i) - (zero ? pick(*zero) : 0);
      values[size_t(i)] = float(value) * (scale ? float(pick(*scale)) : 1.0f);
    }
  });
}

Value dequantized(Builder &b, Value x, const Steps &steps) {
  Value stored = dequantizeStored(b, x, steps);
  return stored || b.failed() ? stored : dequantize(b, x, steps);
}

/// round(x / scale) + zero, saturated to the range of ONNX type `type`.
Value quantize(Builder &b, Value x, const Steps &steps, int64_t type) {
  Value q = b.unary("Round", b.div(b.toFloat(x), broadcastTo(b, b.toFloat(steps.scale), x, steps)));
  if (steps.zero)
    q = b.add(q, broadcastTo(b, b.toFloat(steps.zero), x, steps));
  double low, high;
  switch (type) {
  case 2:
    low = 0, high = 255;
    break;
  case 3:
    low = -128, high = 127;
    break;
  case 4:
    low = 0, high = 65535;
    break;
  case 5:
    low = -32768, high = 32767;
    break;
  case 21:
    low = 0, high = 15;
    break;
  case 22:
    low = -8, high = 7;
    break;
  default:
    return b.fail("codes of element type " + llvm::Twine(type) + " are not supported");
  }
  q = b.make("Min", {b.make("Max", {q, b.like(q, low)}), b.like(q, high)});
  return b.cast(q, computedTypeOf(type, b.at.getContext()));
}

/// The ONNX type of codes: said by an attribute, by import for the result, by the zero point, or
/// uint8.
int64_t codeType(Builder &b, Value zero) {
  if (int64_t said = b.integer("output_dtype", 0))
    return said;
  auto type = dyn_cast<RankedTensorType>(b.node()->getResult(0).getType());
  if (!type || !isa<IntegerType>(type.getElementType()))
    type = zero ? dyn_cast<RankedTensorType>(zero.getType()) : RankedTensorType();
  if (!type)
    return 2;
  // Import names the stored type; a computed one is a byte.
  Type element = type.getElementType();
  bool isUnsigned = element.isUnsignedInteger();
  switch (element.getIntOrFloatBitWidth()) {
  case 4:
    return isUnsigned ? 21 : 22;
  case 16:
    return isUnsigned ? 4 : 5;
  default:
    return isUnsigned ? 2 : 3;
  }
}

Steps stepsOf(Builder &b, Value x, Value scale, Value zero) {
  Steps steps{scale, zero, 0, b.integer("block_size", 0)};
  if (b.rank(x) > 0 && b.rank(scale) > 0 && (steps.block > 0 || b.dim(scale, 0) != 1))
    steps.axis = b.axis(b.integer("axis", 1), b.rank(x));
  return steps;
}

/// (a - zero) x (w - zero) of codes, as floats: exact below 2^24.
Value codeProduct(Builder &b, Value a, Value w, Value aZero, Value wZero) {
  int64_t rank = b.rank(a);
  Value left = b.toFloat(a);
  if (aZero) // one, or one a row
    left = b.sub(left, b.rank(aZero) == 1 && b.dim(aZero, 0) != 1 && rank >= 2
                           ? b.unsqueeze(b.toFloat(aZero), {1})
                           : along(b, b.toFloat(aZero), rank - 1, rank));
  Steps steps{{}, wZero, std::max<int64_t>(0, b.rank(w) - 1), 0};
  return product(b, left, dequantized(b, w, steps));
}

} // namespace

Values dequantizeLinear(Builder &b) {
  Value x = b.input(0), scale = b.input(1);
  return {dequantized(b, x, stepsOf(b, x, scale, b.input(2)))};
}

Values quantizeLinear(Builder &b) {
  Value x = b.input(0), scale = b.input(1), zero = b.input(2);
  return {quantize(b, x, stepsOf(b, x, scale, zero), codeType(b, zero))};
}

// scale = (max(0, max x) - min(0, min x)) / 255; zero = round(-min / scale)
Values dynamicQuantizeLinear(Builder &b) {
  Value x = b.input(0), none = b.like(x, 0);
  SmallVector<int64_t> axes;
  for (int64_t i = 0; i < b.rank(x); ++i)
    axes.push_back(i);
  auto over = [&](StringRef type) { return axes.empty() ? x : b.reduce(type, x, axes, false); };
  Value high = b.make("Max", {over("ReduceMax"), none});
  Value low = b.make("Min", {over("ReduceMin"), none});
  Value scale = b.div(b.sub(high, low), 255.0);
  Value divisor = b.where(b.make("Equal", {scale, none}), b.like(x, 1), scale);
  Value zero = b.unary("Round", b.div(b.unary("Neg", low), divisor));
  zero = b.make("Min", {b.make("Max", {zero, none}), b.like(x, 255)});
  Value codes = quantize(b, x, {divisor, zero, 0, 0}, 2);
  return {codes, scale, b.cast(zero, b.at.getIntegerType(8, false))};
}

Values matmulInteger(Builder &b) {
  Value y = codeProduct(b, b.input(0), b.input(1), b.input(2), b.input(3));
  return {b.cast(b.unary("Round", y), b.at.getI32Type())};
}

// MatMulIntegerToFloat(a, b, a scale, b scale, a zero, b zero, bias)
// DynamicQuantizeMatMul(a, b, b scale, b zero, bias): a is float, and is quantized on the way
Values matmulIntegerToFloat(Builder &b) {
  if (b.node().getType() == "DynamicQuantizeMatMul") {
    Value w = b.input(1);
    int64_t rank = b.rank(w);
    Steps steps{b.input(2), b.input(3), std::max<int64_t>(0, rank - 1), 0};
    Value y = product(b, b.input(0), dequantized(b, w, steps));
    return {b.input(4) ? b.add(y, b.input(4)) : y};
  }
  Value y = codeProduct(b, b.input(0), b.input(1), b.input(4), b.input(5));
  y = b.mul(b.mul(y, b.input(2)), b.input(3));
  return {b.input(6) ? b.add(y, b.input(6)) : y};
}

// QLinearMatMul(a, a scale, a zero, b, b scale, b zero, y scale, y zero)
Values qlinearMatmul(Builder &b) {
  Value a = b.input(0), w = b.input(3);
  auto last = [&](Value x) { return std::max<int64_t>(0, b.rank(x) - 1); };
  int64_t row = std::max<int64_t>(0, b.rank(a) - 2);
  Value left = dequantized(b, a, {b.input(1), b.input(2), row, 0});
  Value right = dequantized(b, w, {b.input(4), b.input(5), last(w), 0});
  Value y = product(b, left, right);
  return {quantize(b, y, {b.input(6), b.input(7), std::max<int64_t>(0, b.rank(y) - 2), 0},
                   codeType(b, b.input(7)))};
}

// QLinearAdd, QLinearMul(a, scale, zero, b, scale, zero, y scale, y zero)
// QLinearSigmoid(x, scale, zero, y scale, y zero)
Values qlinearMap(Builder &b) {
  StringRef type = b.node().getType();
  Value x = dequantize(b, b.input(0), {b.input(1), b.input(2), 0, 0});
  bool isUnary = type == "QLinearSigmoid";
  Value y = isUnary ? b.unary("Sigmoid", x)
                    : b.make(type.drop_front(StringRef("QLinear").size()),
                             {x, dequantize(b, b.input(3), {b.input(4), b.input(5), 0, 0})});
  Value scale = b.input(isUnary ? 3 : 6), zero = b.input(isUnary ? 4 : 7);
  return {quantize(b, y, {scale, zero, 0, 0}, codeType(b, zero))};
}

} // namespace smelt::tensor
