// The code of a program's kernels for one family of GPUs, as a section of the artifact.
#pragma once

#include "passes/lower/gpu_kernels.h"
#include "runtime/artifact/format.h"
#include "runtime/base/status.h"

#include <cstddef>
#include <span>
#include <vector>

namespace smelt {

/// A GpuCode section (runtime/artifact/format.h): all kernels of the program, in its order.
Result<std::vector<std::byte>> generateGpuCode(std::span<const KernelSpec> specs,
                                               const GpuTarget &target);

/// A GpuArgmax or GpuCandidates section: argmaxSpecs() or candidateSpecs().
Result<std::vector<std::byte>> generateLogitKernels(std::span<const KernelSpec> specs,
                                                    const GpuTarget &target);

} // namespace smelt
