// A GPU as the runtime uses it: memories, kernels, calls of kernels on memories, and steps that run
// them.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/base/status.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

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
  bool waits; ///< for all that the calls before it in the step do; else it may run beside them
  bool operator==(const GpuDispatch &) const = default;
};

/// In bytes.
struct GpuCopy {
  int32_t from;
  uint64_t fromOffset;
  int32_t to;
  uint64_t toOffset, bytes;
};

/// When the host and the device see what the other has written to a memory.
enum class GpuTransfer {
  Asked,     ///< read() and write() wait until it is there
  BeforeRun, ///< write() is cheap: every run() begins with what was written last
  AfterRun,  ///< every run() of a call that has it as operand (or, where none has, every run) ends
             ///< with bringing it back, so that read() is cheap
};

/// Whether a run brings the memory back: one of its calls has it as operand, or no call at all has.
/// `Call`: a device's, with `memories`.
template <typename Call>
bool isBroughtBack(std::span<const GpuDispatch> dispatches, const std::vector<Call> &calls,
                   size_t memory) {
  auto has = [&](const Call &call) {
    return std::ranges::find(call.memories, int32_t(memory)) != call.memories.end();
  };
  return std::ranges::any_of(dispatches,
                             [&](const GpuDispatch &d) { return has(calls[d.call]); }) ||
         std::ranges::none_of(calls, has);
}

struct GpuLimits {
  uint64_t allocationBytes = ~uint64_t(0); ///< of one memory
  uint64_t operandBytes = ~uint64_t(0);    ///< that a kernel reaches of an operand
};

/// One device with everything that was made on it; gone with the object. Kernels are as
/// passes/lower/gpu_kernels.h says. Not for several threads at once. Errors: Exhausted (memory),
/// Unsupported (what the driver refuses), Internal (a lost device).
class GpuDevice {
public:
  virtual ~GpuDevice() = default;

  virtual const std::string &name() const = 0;
  virtual GpuLimits limits() const = 0;
  /// What can still be allocated, as far as the driver says.
  virtual uint64_t freeBytes() const = 0;
  /// Memory of zeros; `what` it is for, in messages.
  virtual Result<int32_t> allocate(uint64_t bytes, const std::string &what,
                                   GpuTransfer transfer = GpuTransfer::Asked) = 0;
  virtual Status write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Status read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) = 0;
  /// Copies on the device, which do not overlap, in any order.
  virtual Status copy(std::span<const GpuCopy> copies) = 0;
  /// The kernel `symbol` of a piece of code, with its workgroup's threads.
  virtual Result<uint32_t> addKernel(std::span<const std::byte> code, const std::string &symbol,
                                     uint32_t threads) = 0;
  virtual Result<uint32_t> addCall(uint32_t kernel,
                                   std::span<const GpuOperand, format::operandCount> operands) = 0;
  /// Runs the calls in this order, as far as they wait for each other, and returns when all are
  /// done. Dispatches like those of one of the last runs are not recorded again (recorded_steps.h):
  /// they cost one submission.
  virtual Status run(std::span<const int32_t, format::FieldCount> fields,
                     std::span<const GpuDispatch> dispatches) = 0;
};

} // namespace smelt
