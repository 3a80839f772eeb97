// Decoding of TensorProto, which may hold its elements in any of six fields.
#include "compiler/onnx/tensors.h"

#include "mlir/IR/Builders.h"

#include <cstring>

using namespace mlir;

namespace smelt {

std::optional<StoredType> storedType(int onnxType) {
  using T = onnx::TensorProto;
  switch (onnxType) {
  case T::FLOAT:
    return StoredType::F32;
  case T::FLOAT16:
    return StoredType::F16;
  case T::BFLOAT16:
    return StoredType::BF16;
  case T::DOUBLE:
    return StoredType::F64;
  case T::INT64:
    return StoredType::I64;
  case T::INT32:
    return StoredType::I32;
  case T::INT16:
    return StoredType::I16;
  case T::INT8:
    return StoredType::I8;
  case T::UINT64:
    return StoredType::U64;
  case T::UINT32:
    return StoredType::U32;
  case T::UINT16:
    return StoredType::U16;
  case T::UINT8:
    return StoredType::U8;
  case T::BOOL:
    return StoredType::Bool;
  case T::INT4:
    return StoredType::I4;
  case T::UINT4:
    return StoredType::U4;
  default:
    return std::nullopt;
  }
}

Type elementType(MLIRContext *context, int onnxType) {
  Builder builder(context);
  std::optional<StoredType> stored = storedType(onnxType);
  if (!stored)
    return OpaqueType::get(StringAttr::get(context, "onnx"),
                           onnxType == onnx::TensorProto::STRING ? "string" : "unknown");
  switch (*stored) {
  case StoredType::F32:
    return builder.getF32Type();
  case StoredType::F16:
    return builder.getF16Type();
  case StoredType::BF16:
    return builder.getBF16Type();
  case StoredType::F64:
    return builder.getF64Type();
  case StoredType::Bool:
    return builder.getI1Type();
  case StoredType::U64:
  case StoredType::U32:
  case StoredType::U16:
  case StoredType::U8:
  case StoredType::U4:
    return builder.getIntegerType(unsigned(bitsOf(*stored)), false);
  default:
    return builder.getIntegerType(unsigned(bitsOf(*stored)));
  }
}

Type valueType(MLIRContext *context, const onnx::TypeProto &type) {
  if (!type.has_tensor_type())
    return UnrankedTensorType::get(elementType(context, 0));
  Type element = elementType(context, type.tensor_type().elem_type());
  if (!type.tensor_type().has_shape())
    return UnrankedTensorType::get(element);
  SmallVector<int64_t> shape;
  for (const auto &dim : type.tensor_type().shape().dim())
    shape.push_back(dim.has_dim_value() && dim.dim_value() >= 0 ? dim.dim_value()
                                                                : ShapedType::kDynamic);
  return RankedTensorType::get(shape, element);
}

namespace {

/// Appends `values`, each cut to `bytes` little-endian bytes.
template <typename Field>
void append(const Field &values, size_t bytes, std::vector<std::byte> &out) {
  for (auto value : values) {
    std::byte raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    out.insert(out.end(), raw, raw + bytes);
  }
}

} // namespace

Result<std::vector<std::byte>> bytesOf(const onnx::TensorProto &tensor, StoredType type) {
  std::vector<std::byte> out;
  if (tensor.has_raw_data()) {
    const auto *data = reinterpret_cast<const std::byte *>(tensor.raw_data().data());
    out.assign(data, data + tensor.raw_data().size());
  } else {
    size_t size = size_t(bitsOf(type) + 7) / 8;
    switch (type) {
    case StoredType::F32:
      append(tensor.float_data(), size, out);
      break;
    case StoredType::F64:
      append(tensor.double_data(), size, out);
      break;
    case StoredType::I64:
      append(tensor.int64_data(), size, out);
      break;
    case StoredType::U64:
    case StoredType::U32:
      append(tensor.uint64_data(), size, out);
      break;
    default:
      append(tensor.int32_data(), size, out);
      break;
    }
  }
  unsigned __int128 bits = unsigned(bitsOf(type));
  for (int64_t dim : tensor.dims()) {
    if (dim < 0 || bits > UINT64_MAX)
      return corrupt("tensor \"" + tensor.name() + "\" has an impossible shape");
    bits *= uint64_t(dim);
  }
  if ((bits + 7) / 8 != out.size())
    return corrupt("tensor \"" + tensor.name() + "\" of " + nameOf(type) + " holds " +
                   std::to_string(out.size()) + " bytes, which do not fit its shape");
  return out;
}

DenseElementsAttr denseElements(RankedTensorType type, StoredType stored,
                                std::span<const std::byte> bytes) {
  if (type.getNumElements() == 0)
    return DenseElementsAttr::get(type, ArrayRef<Attribute>{});
  if (stored == StoredType::Bool) {
    SmallVector<bool> values;
    for (std::byte byte : bytes)
      values.push_back(byte != std::byte(0));
    return DenseElementsAttr::get(type, values);
  }
  if (bitsOf(stored) == 4) {
    SmallVector<APInt> values;
    for (int64_t i = 0; i < type.getNumElements(); ++i)
      values.push_back(APInt(4, uint64_t(bytes[size_t(i / 2)]) >> (i % 2 * 4) & 15));
    return DenseElementsAttr::get(type, values);
  }
  return DenseElementsAttr::getFromRawBuffer(
      type, ArrayRef<char>(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
}

} // namespace smelt
