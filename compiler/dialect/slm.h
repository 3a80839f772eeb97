// The model dialect (slm.td).
#pragma once

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "compiler/dialect/slm_dialect.h.inc"
#include "compiler/dialect/slm_enums.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/slm_ops.h.inc"

namespace smelt::slm {

/// Columns of a value tensor<?xWxf32> or of a weight tensor<NxKxf32>.
inline int64_t widthOf(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType()).getDimSize(1);
}
/// Rows of a weight tensor<NxKxf32>.
inline int64_t rowsOf(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType()).getDimSize(0);
}

} // namespace smelt::slm
