// The kernel generator: one function per KernelSpec, written with vector, memref, scf and arith.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <span>

namespace smelt {

/// A module with one func.func per spec, named by its name(), for one target; specs of equal names
/// give one function. Tensor specs have passed TensorSpec::check(). Needs the arith, func, llvm,
/// math, memref, scf and vector dialects, which it loads into the context.
mlir::OwningOpRef<mlir::ModuleOp> buildKernels(mlir::MLIRContext &context,
                                               std::span<const KernelSpec> specs,
                                               std::span<const TensorSpec> tensorSpecs,
                                               const KernelTarget &target);

} // namespace smelt
