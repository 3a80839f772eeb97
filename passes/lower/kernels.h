// The kernel generator: one function per KernelSpec, written with vector, memref, scf and arith.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/target.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <span>

namespace smelt {

/// A module with one func.func per spec, named KernelSpec::name(), for one target. Needs the arith,
/// func, llvm, math, memref, scf and vector dialects, which it loads into the context.
mlir::OwningOpRef<mlir::ModuleOp> buildKernels(mlir::MLIRContext &context,
                                               std::span<const KernelSpec> specs,
                                               const KernelTarget &target);

} // namespace smelt
