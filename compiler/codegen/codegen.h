// From lists of kernels to a linked shared object for every CPU target.
#pragma once

#include "compiler/codegen/kernel_cache.h"
#include "passes/lower/kernel_spec.h"
#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"
#include "runtime/base/status.h"

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace smelt {

struct CodegenOptions {
  int threads = 0;              ///< 0: one per core
  KernelCache *cache = nullptr; ///< of objects; null: none
  /// Folder that gets the assembly of every target as TARGET.s (all kernels are then compiled);
  /// empty: none.
  std::string dumpAssembly;
  std::function<void(double)> progress; ///< share done, from the calling thread
};

/// Compiles every distinct kernel, and those that kernels of the logit domain call, for every
/// target, in parallel, and links those of a target in process (lld). The shared objects have no
/// undefined symbols and need no library; they are the same for every number of threads, cached or
/// not. Tensor specs have passed TensorSpec::check().
Result<std::vector<std::vector<std::byte>>>
generateCode(std::span<const KernelSpec> specs, std::span<const TensorSpec> tensorSpecs,
             std::span<const KernelTarget *const> targets, const CodegenOptions &options);

} // namespace smelt
