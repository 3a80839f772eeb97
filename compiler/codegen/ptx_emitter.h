// PTX of single GPU kernels, as NVIDIA's driver takes it.
#pragma once

#include "passes/lower/gpu_kernels.h"
#include "runtime/base/status.h"

#include <memory>
#include <string>

namespace smelt {

/// Compiles one kernel at a time. An emitter belongs to one thread.
class PtxEmitter {
public:
  /// Unsupported: LLVM has no back end for NVIDIA's devices.
  static Result<std::unique_ptr<PtxEmitter>> create(const GpuTarget &target);
  ~PtxEmitter();
  PtxEmitter(const PtxEmitter &) = delete;
  PtxEmitter &operator=(const PtxEmitter &) = delete;

  /// A module with one entry point, named by the spec; its parameters are the pointers that
  /// gpu_kernels.h lists.
  Result<std::string> emit(const KernelSpec &spec);

private:
  struct State;
  explicit PtxEmitter(std::unique_ptr<State> state);
  std::unique_ptr<State> state;
};

} // namespace smelt
