// The GPU kernel generator: one gpu.func per KernelSpec, for every route to a device.
#pragma once

#include "passes/lower/gpu_target.h"
#include "passes/lower/kernel_spec.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <array>

namespace smelt {

/// How a kernel is started: grid (groups, ceil(rows / rowsPerGroup), position blocks or 1).
struct GpuLaunch {
  int64_t threads = 1;      ///< of a workgroup
  int64_t groups = 1;       ///< first dimension of the grid
  int64_t rowsPerGroup = 1; ///< of the spec's domain
  /// That shall fit a multiprocessor's 65,536 registers together: bounds those of a thread.
  int64_t residentThreads = 256;
  bool overPositions = false; ///< third dimension: blocks of attentionBlock positions from 0
};
GpuLaunch launchOf(const KernelSpec &spec, const GpuTarget &target);

/// What takes the kernel's place from format::gpuWideRows rows on, if anything does.
std::optional<KernelSpec> wideForm(const KernelSpec &spec, const GpuTarget &target);

/// Arguments of a GPU kernel, all arrays of int32: the step fields (format::StepField), where each
/// operand starts in its array (in words), then the operands of the CPU kernel. PTX reads no such
/// starts: its arguments are addresses.
inline constexpr int64_t gpuLeadingArguments = 2;

/// The kernels that find the likeliest token of rows of `cols` logits, in the order in which they
/// run (gpu_kernels/argmax.cpp).
std::array<KernelSpec, 2> argmaxSpecs(int64_t cols);

/// Those that find the few likeliest (gpu_kernels/candidates.cpp).
std::array<KernelSpec, 2> candidateSpecs(int64_t cols);

/// A module with one gpu.module with one gpu.func, named by the spec's name(). Every operand means
/// what it means to the CPU kernel (passes/lower/kernels/*.cpp), in the same layouts; sums are
/// added in another order, the same for every number of rows. Loads the dialects it uses.
mlir::OwningOpRef<mlir::ModuleOp> buildGpuKernel(mlir::MLIRContext &context, const KernelSpec &spec,
                                                 const GpuTarget &target);

} // namespace smelt
