// Reading of stored tensors at compile time, and new ones made from them.
#include "passes/tensor/decompose/decompose.h"

#include "llvm/ADT/APFloat.h"

#include <cstring>

using namespace mlir;

namespace smelt::tensor {

std::optional<Stored> Stored::of(Builder &b, Value value) {
  Stored stored;
  std::optional<WeightView> view = value ? b.weightView(value) : std::nullopt;
  if (!view || !b.store()) {
    stored.constant = b.constant(value);
    if (!stored.constant)
      return std::nullopt;
    stored.dims.assign(stored.constant->shape.begin(), stored.constant->shape.end());
    stored.count = stored.constant->elements();
    stored.identity =
        "constant " +
        std::to_string(
            uintptr_t(value.getDefiningOp<onnx_ir::ConstantOp>().getValue().getAsOpaquePointer()));
    return stored;
  }
  int64_t expected = 1;
  for (size_t i = view->shape.size(); i-- > 0; expected *= view->shape[i])
    if (view->shape[i] != 1 && view->strides[i] != expected)
      return std::nullopt;
  stored.bytes = b.store()->bytesOf(view->id);
  stored.element = view->element;
  stored.dims.assign(view->shape.begin(), view->shape.end());
  stored.count = expected;
  unsigned bits =
      view->element.getIntOrFloatBitWidth() == 1 ? 8 : view->element.getIntOrFloatBitWidth();
  if (view->offset != 0 || stored.bytes.size() < (size_t(expected) * bits + 7) / 8)
    return std::nullopt;
  stored.identity = "row " + std::to_string(view->id);
  return stored;
}

uint8_t Stored::byte(int64_t index) const {
  return constant ? uint8_t(constant->integer(index)) : uint8_t(bytes[size_t(index)]);
}

double Stored::at(int64_t index) const {
  if (constant)
    return constant->at(index);
  auto read = [&](auto zero) {
    decltype(zero) value;
    std::memcpy(&value, bytes.data() + size_t(index) * sizeof value, sizeof value);
    return value;
  };
  if (element.isF32())
    return read(0.0f);
  if (element.isF64())
    return read(0.0);
  if (element.isF16() || element.isBF16()) {
    const llvm::fltSemantics &semantics =
        element.isF16() ? llvm::APFloat::IEEEhalf() : llvm::APFloat::BFloat();
    return llvm::APFloat(semantics, llvm::APInt(16, read(uint16_t(0)))).convertToFloat();
  }
  bool isUnsigned = element.isUnsignedInteger();
  switch (element.getIntOrFloatBitWidth()) {
  case 1:
    return read(uint8_t(0)) != 0;
  case 4: {
    int nibble = int(byte(index / 2)) >> (index % 2 * 4) & 15;
    return isUnsigned || nibble < 8 ? nibble : nibble - 16;
  }
  case 8:
    return isUnsigned ? double(read(uint8_t(0))) : double(read(int8_t(0)));
  case 16:
    return isUnsigned ? double(read(uint16_t(0))) : double(read(int16_t(0)));
  case 32:
    return isUnsigned ? double(read(uint32_t(0))) : double(read(int32_t(0)));
  default:
    return isUnsigned ? double(read(uint64_t(0))) : double(read(int64_t(0)));
  }
}

Value storedFloats(Builder &b, const std::string &key, ArrayRef<int64_t> shape,
                   llvm::function_ref<void(std::vector<float> &)> fill) {
  Value &value = b.made[key];
  if (value)
    return value;
  int64_t count = 1;
  constexpr int64_t most = int64_t(1) << 36;
  for (int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count) || count > most)
      return b.fail("its weight has an impossible shape");
  std::vector<float> values(static_cast<size_t>(count));
  fill(values);
  return value = b.addWeight(b.node().getName(), std::move(values), shape);
}

} // namespace smelt::tensor
