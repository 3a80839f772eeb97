// Parts are put one behind the other until the next one would make a memory too large.
#include "runtime/model/gpu_area.h"

#include "runtime/formats/formats.h"

#include <algorithm>

namespace smelt {

/// What kernels rely on where operands begin (runtime/artifact/format.h).
constexpr uint64_t partAlignment = 64;

Status checkOperandBytes(const GpuDevice &device, uint64_t bytes, const std::string &what) {
  const GpuLimits limits = device.limits();
  const uint64_t most = std::min(limits.operandBytes, limits.allocationBytes);
  if (bytes <= most)
    return {};
  return unsupported("there are " + std::to_string(bytes) + " bytes of " + what +
                     ", but kernels on " + device.name() + " reach at most " +
                     std::to_string(most) + " of one operand; choose another device or the CPU");
}

Status GpuArea::allocate(GpuDevice &device, std::vector<Part> given, const std::string &what) {
  parts = std::move(given);
  const GpuLimits limits = device.limits();
  size_t first = 0; // of the memory that is being filled
  uint64_t filled = 0;
  auto finish = [&](size_t end) -> Status {
    if (first == end)
      return {};
    SMELT_ASSIGN(int32_t memory, device.allocate(filled, what));
    for (size_t i = first; i < end; ++i)
      parts[i].place.memory = memory;
    ++memoryCount;
    total += filled;
    first = end;
    filled = 0;
    return {};
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    Part &part = parts[i];
    SMELT_TRY(checkOperandBytes(device, part.bytes, part.what));
    if (filled + part.bytes > limits.allocationBytes)
      SMELT_TRY(finish(i));
    part.place.offset = filled;
    filled += uint64_t(roundUp(int64_t(part.bytes), int64_t(partAlignment)));
    filled = std::min(filled, limits.allocationBytes); // behind the last part
  }
  return finish(parts.size());
}

Status GpuArea::write(GpuDevice &device, std::span<const std::byte> from) const {
  // What lies together on both sides goes together.
  for (size_t i = 0; i < parts.size();) {
    const Part &begin = parts[i];
    uint64_t bytes = begin.bytes;
    for (++i; i < parts.size() && parts[i].place.memory == begin.place.memory &&
              parts[i].offset == begin.offset + bytes &&
              parts[i].place.offset == begin.place.offset + bytes;
         ++i)
      bytes += parts[i].bytes;
    const uint64_t held = std::min<uint64_t>(bytes, from.size() - begin.offset);
    SMELT_TRY(
        device.write(begin.place.memory, begin.place.offset, from.subspan(begin.offset, held)));
  }
  return {};
}

GpuOperand GpuArea::at(uint64_t offset) const {
  auto found = std::lower_bound(parts.begin(), parts.end(), offset,
                                [](const Part &part, uint64_t at) { return part.offset < at; });
  return found != parts.end() && found->offset == offset ? found->place : GpuOperand{};
}

} // namespace smelt
