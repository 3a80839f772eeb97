// ONNX tensors as weight store rows, MLIR types and attributes.
#pragma once

#include "compiler/weights/weight_store.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

#include <onnx/onnx_pb.h>

#include <optional>

namespace smelt {

/// The stored type of an ONNX element type, or nothing for strings, complex numbers and 8-bit
/// floats.
std::optional<StoredType> storedType(int onnxType);
/// The IR type; an opaque one where `storedType` has none.
mlir::Type elementType(mlir::MLIRContext *context, int onnxType);
/// tensor<...> of a declared type; an unranked one where shape or type is unknown.
mlir::Type valueType(mlir::MLIRContext *context, const onnx::TypeProto &type);

/// Little-endian elements of a tensor that protobuf parsed. Fails if the count does not fit its
/// shape.
Result<std::vector<std::byte>> bytesOf(const onnx::TensorProto &tensor, StoredType type);
/// The same as an attribute.
mlir::DenseElementsAttr denseElements(mlir::RankedTensorType type, StoredType stored,
                                      std::span<const std::byte> bytes);

} // namespace smelt
