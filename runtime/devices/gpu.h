// A GPU as the runtime uses it: memories, kernels, calls of kernels on memories, and steps that run
// them.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace smelt {

/// Where an operand of a call starts; no memory: null.
struct GpuOperand {
  int32_t memory = -1;
  uint64_t offset = 0; ///< bytes, a multiple of 4
};

/// A call and how many workgroups of it run.
struct GpuDispatch {
  uint32_t call;
  uint32_t groups[3];
};

/// One device with everything that was made on it; gone with the object. Kernels are as
/// passes/lower/gpu_kernels.h says. Not for several threads at once. Errors: Exhausted (memory),
/// Unsupported (what the driver refuses), Internal (a lost device).
class GpuDevice {
public:
  virtual ~GpuDevice() = default;

  virtual const std::string &name() const = 0;
  /// Memory of zeros; `what` it is for, in messages.
  virtual Result<int32_t> allocate(uint64_t bytes, const std::string &what) = 0;
  virtual Status write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Status read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) = 0;
  /// The kernel `symbol` of a piece of code.
  virtual Result<uint32_t> addKernel(std::span<const std::byte> code,
                                     const std::string &symbol) = 0;
  virtual Result<uint32_t> addCall(uint32_t kernel,
                                   std::span<const GpuOperand, format::operandCount> operands) = 0;
  /// Runs the calls one after the other, each seeing what those before it wrote, and waits.
  virtual Status run(std::span<const int32_t, format::FieldCount> fields,
                     std::span<const GpuDispatch> dispatches) = 0;
};

} // namespace smelt
