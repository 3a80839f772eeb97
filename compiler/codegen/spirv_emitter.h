// SPIR-V of single GPU kernels, as Vulkan takes it.
#pragma once

#include "passes/lower/gpu_kernels.h"
#include "runtime/base/status.h"

#include <memory>
#include <vector>

namespace smelt {

/// Compiles one kernel at a time. An emitter belongs to one thread.
class SpirvEmitter {
public:
  explicit SpirvEmitter(const GpuTarget &target);
  ~SpirvEmitter();
  SpirvEmitter(const SpirvEmitter &) = delete;
  SpirvEmitter &operator=(const SpirvEmitter &) = delete;

  /// A module with one entry point, named by the spec; its arguments are bindings 0, 1, ... of
  /// descriptor set 0.
  Result<std::vector<uint32_t>> emit(const KernelSpec &spec);

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace smelt
