// ONNX files as IR, one node at a time: `importOnnx` is the whole interface.
#pragma once

#include "compiler/onnx/dequantize.h"
#include "compiler/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <memory>
#include <string>

namespace smelt {

/// A model as it stands in the file.
struct ImportedModel {
  /// One `func.func @main` of onnx.node, onnx.weight, onnx.constant and onnx.none. Its arguments
  /// and results carry `onnx.name` and `onnx.dims` (each a number or a symbol as text); the module
  /// carries `onnx.producer`, `onnx.ir_version`, `onnx.opsets`, and `onnx.quantized` if weights
  /// were given quantized (dequantize.h).
  mlir::OwningOpRef<mlir::ModuleOp> module;
  /// Rows that onnx.weight and onnx.constant name by id.
  std::shared_ptr<WeightStore> weights;
};

/// Loads the dialects it needs into `context`. Fails on a file that is not ONNX, is truncated, or
/// names data that is missing, lies outside the model's folder or does not fit its shape; never
/// because an op is unknown.
Result<ImportedModel> importOnnx(mlir::MLIRContext &context, const std::string &path,
                                 IntegerProducts products = IntegerProducts::Float);

} // namespace smelt
