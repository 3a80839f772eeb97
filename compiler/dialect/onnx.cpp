// Registration of the import dialect.
#include "compiler/dialect/onnx.h"

#include "mlir/IR/Builders.h"

#include "compiler/dialect/onnx_dialect.cpp.inc"

void smelt::onnx_ir::ONNXDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/onnx_ops.cpp.inc"
      >();
}

#define GET_OP_CLASSES
#include "compiler/dialect/onnx_ops.cpp.inc"
