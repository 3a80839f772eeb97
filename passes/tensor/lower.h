// From primitives on whole tensors to a tensor program.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/lower.h"
#include "passes/lower/tensor_spec.h"
#include "passes/tensor/tensor.h"
#include "runtime/artifact/image.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace smelt {

/// What lowering a graph that runs as it stands made.
struct LoweredTensors {
  format::ModelConfig config{}; ///< sizes; generation fields are left zero
  TensorProgramImage image;
  std::vector<format::Instruction> instructions; ///< of Rows; kernel fields index `rowKernels`
  std::vector<KernelSpec> rowKernels;
  std::vector<TensorSpec> kernels; ///< their names are image.kernelNames
};

/// Lowers @main of `module` (CONTRACT tensor; every slm.linear and slm.embedding has format and
/// packed_offset). Constants, stored tensors and biases are appended to `sink`.
Result<LoweredTensors> lowerTensors(mlir::ModuleOp module, TensorWeights &stored,
                                    const WeightResolver &weights, WeightSink &sink,
                                    const LowerOptions &options);

/// Roles and partners of the graph's inputs and outputs, found by name and shape; vocabulary and
/// width of the model.
void assignRoles(mlir::func::FuncOp main, LoweredTensors &lowered);

} // namespace smelt
