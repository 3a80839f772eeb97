// The generator of tensor kernels, as buildKernels calls it.
#pragma once

#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"

#include "mlir/IR/BuiltinOps.h"

namespace smelt {

/// Adds the function of one specification to `module`; the dialects are loaded.
void emitTensorKernel(mlir::ModuleOp module, const TensorSpec &spec, const KernelTarget &target);

} // namespace smelt
