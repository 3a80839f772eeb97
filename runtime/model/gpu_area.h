// An area of operands on a GPU, in as many memories as the device's largest allocation asks for.
#pragma once

#include "runtime/devices/gpu.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// Unsupported where kernels of the device do not reach so many bytes of one operand; `what` it is,
/// in messages.
Status checkOperandBytes(const GpuDevice &device, uint64_t bytes, const std::string &what);

/// Parts that operands lie in, each whole in one memory. Small parts share one.
class GpuArea {
public:
  struct Part {
    uint64_t offset;       ///< in the area of the artifact or the host
    uint64_t bytes;        ///< a multiple of 4
    std::string what;      ///< in messages: "the weights of a linear"
    GpuOperand place = {}; ///< on the device, once allocated
  };

  /// `parts`: in order of their offsets, none over another; `what`: all of them together.
  /// Unsupported: a part is larger than a kernel of this device reaches; Exhausted: its memory.
  Status allocate(GpuDevice &device, std::vector<Part> parts, const std::string &what);
  /// Copies every part from where it begins in `from`.
  Status write(GpuDevice &device, std::span<const std::byte> from) const;
  /// Where the part that begins at `offset` lies.
  GpuOperand at(uint64_t offset) const;

  uint64_t bytes() const { return total; }
  size_t memories() const { return memoryCount; }

private:
  std::vector<Part> parts;
  uint64_t total = 0;
  size_t memoryCount = 0;
};

} // namespace smelt
