// Dispatch from tensor primitives to their emitters.
#include "passes/lower/tensor_kernels/emit.h"

#include "passes/lower/kernels/builder.h"

namespace smelt {

void emitTensorKernel(mlir::ModuleOp module, const TensorSpec &spec, const KernelTarget &target) {
  CodeBuilder k(module, spec.name(), target);
  k.finish();
}

} // namespace smelt
