// The kernel generator: one function per KernelSpec, written with vector, memref, scf and arith.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <optional>

namespace smelt {

/// A module with one func.func, named by the spec's name(), for one target. A kernel that has a
/// calledForm() only calls that, which the module declares. Loads the arith, func,
/// llvm, math, memref, scf and vector dialects into the context.
mlir::OwningOpRef<mlir::ModuleOp> buildKernel(mlir::MLIRContext &context, const KernelSpec &spec,
                                              const KernelTarget &target);
/// The same for a spec that has passed TensorSpec::check().
mlir::OwningOpRef<mlir::ModuleOp> buildKernel(mlir::MLIRContext &context, const TensorSpec &spec,
                                              const KernelTarget &target);

/// Whether a kernel of this kind writes operand `index`.
bool writesOperand(const KernelSpec &spec, size_t index);

/// The kernel that does the work of `spec` with other arguments: that of the token domain for one
/// of the logit domain; one that is told its outputs and strides for linears and attention of many
/// rows, which take long to compile and differ in little else. None: it does its own work.
std::optional<KernelSpec> calledForm(const KernelSpec &spec);

} // namespace smelt
