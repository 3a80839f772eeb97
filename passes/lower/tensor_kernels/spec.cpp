// The table of tensor primitives; names and checks of tensor kernel specifications.
#include "passes/lower/tensor_spec.h"

#include "passes/lower/kernel_spec.h"

#include <algorithm>
#include <cmath>

namespace smelt {

using format::ElementType;

namespace {

constexpr TensorOpInfo infos[] = {
#define TENSOR_MAP(enumerator, inputs) {#enumerator, 1, inputs, inputs, true},
#define TENSOR_OP(enumerator, outputs, least, most) {#enumerator, outputs, least, most, false},
#include "passes/lower/tensor_ops.def"
};

constexpr const char *typeNames[] = {"f32", "f64", "i64", "i32", "i8", "u8", "b"};

/// Whether the shape kernel reads the data of input `i`.
bool shapeReads(TensorOp op, size_t i) {
  switch (op) {
  case TensorOp::Range:
  case TensorOp::ConstantOfShape:
  case TensorOp::NonZero:
    return true;
  case TensorOp::Slice:
    return i >= 1;
  case TensorOp::Reshape:
  case TensorOp::Expand:
  case TensorOp::Pad:
  case TensorOp::Tile:
  case TensorOp::TopK:
  case TensorOp::OneHot:
    return i == 1;
  default:
    return false;
  }
}

std::string signedText(int64_t value) {
  std::string text = std::to_string(value);
  if (value < 0)
    text[0] = 'm';
  return text;
}

std::string realText(double value) { return std::isnan(value) ? "nan" : symbolText(value); }

} // namespace

const TensorOpInfo &tensorOpInfo(TensorOp op) { return infos[static_cast<uint32_t>(op)]; }

std::optional<TensorOp> findTensorOp(std::string_view name) {
  for (uint32_t i = 0; i < std::size(infos); ++i)
    if (infos[i].name == name)
      return TensorOp(i);
  return std::nullopt;
}

std::string TensorSpec::name() const {
  const TensorOpInfo &info = tensorOpInfo(op);
  const bool broadcast = isShape && info.isMap;
  std::string text = std::string(isShape ? "shape_" : "tensor_") +
                     (broadcast ? std::string("Map") : std::string(info.name));
  for (size_t i = 0; i < ranks.size(); ++i) {
    text += "_";
    if (!given[i]) {
      text += "none";
      continue;
    }
    if (!isShape || (i >= info.outputs && shapeReads(op, i - info.outputs)))
      text += typeNames[static_cast<uint32_t>(types[i])];
    text += "r" + std::to_string(ranks[i]);
  }
  if (!broadcast)
    for (int64_t value : ints)
      text += "_" + signedText(value);
  if (real != 0 || std::signbit(real))
    text += "_s" + realText(real);
  return text;
}

} // namespace smelt
