// Areas on a device that keeps its memories on the host.
#include "runtime/model/gpu_area.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

class HostDevice final : public GpuDevice {
public:
  explicit HostDevice(GpuLimits bounds) : bounds(bounds) {}
  const std::string &name() const override { return title; }
  GpuLimits limits() const override { return bounds; }
  uint64_t freeBytes() const override { return 0; }
  Result<int32_t> allocate(uint64_t bytes, const std::string &, GpuTransfer) override {
    EXPECT_LE(bytes, bounds.allocationBytes);
    memories.emplace_back(bytes);
    return int32_t(memories.size()) - 1;
  }
  Status write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) override {
    ++writes;
    auto &to = memories[size_t(memory)];
    EXPECT_LE(offset + bytes.size(), to.size());
    std::copy(bytes.begin(), bytes.end(), to.begin() + std::ptrdiff_t(offset));
    return {};
  }
  Status read(int32_t, uint64_t, std::span<std::byte>) override { return unsupported("read"); }
  Status copy(std::span<const GpuCopy>) override { return unsupported("copy"); }
  Result<uint32_t> addKernel(std::span<const std::byte>, const std::string &, uint32_t) override {
    return unsupported("addKernel");
  }
  Result<uint32_t> addCall(uint32_t, std::span<const GpuOperand, format::operandCount>) override {
    return unsupported("addCall");
  }
  Status run(std::span<const int32_t, format::FieldCount>, std::span<const GpuDispatch>) override {
    return unsupported("run");
  }
  const std::string title = "a test";
  GpuLimits bounds;
  std::vector<std::vector<std::byte>> memories;
  int writes = 0;
};

/// 1000 bytes that differ, divided at 0, 128, 192 and 832; the part from 192 on is left out.
std::vector<GpuArea::Part> parts() { return {{0, 128, "a"}, {128, 64, "b"}, {832, 168, "c"}}; }
std::vector<std::byte> source() {
  std::vector<std::byte> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = std::byte(i * 7 + i / 256);
  return bytes;
}

void expectParts(const GpuArea &area, const HostDevice &device) {
  const std::vector<std::byte> from = source();
  for (const GpuArea::Part &part : parts()) {
    const GpuOperand at = area.at(part.offset);
    ASSERT_GE(at.memory, 0);
    EXPECT_EQ(at.offset % 64, 0u);
    const auto &memory = device.memories[size_t(at.memory)];
    ASSERT_LE(at.offset + part.bytes, memory.size());
    EXPECT_TRUE(std::equal(memory.begin() + std::ptrdiff_t(at.offset),
                           memory.begin() + std::ptrdiff_t(at.offset + part.bytes),
                           from.begin() + std::ptrdiff_t(part.offset)));
  }
}

TEST(GpuArea, OneMemoryHoldsWhatFits) {
  HostDevice device({});
  GpuArea area;
  ASSERT_TRUE(area.allocate(device, parts(), "all").ok());
  ASSERT_TRUE(area.write(device, source()).ok());
  EXPECT_EQ(device.memories.size(), 1u);
  EXPECT_EQ(device.writes, 2); // what lies together goes together
  expectParts(area, device);
  EXPECT_EQ(area.at(64).memory, -1); // no part begins there
}

TEST(GpuArea, SmallAllocationsDivideItBetweenParts) {
  HostDevice device({.allocationBytes = 200, .operandBytes = 168});
  GpuArea area;
  ASSERT_TRUE(area.allocate(device, parts(), "all").ok());
  ASSERT_TRUE(area.write(device, source()).ok());
  EXPECT_EQ(device.memories.size(), 2u);
  expectParts(area, device);
}

TEST(GpuArea, AnOperandBeyondWhatKernelsReachIsNamed) {
  for (GpuLimits limits : {GpuLimits{.operandBytes = 167}, GpuLimits{.allocationBytes = 167}}) {
    HostDevice device(limits);
    GpuArea area;
    const Status status = area.allocate(device, parts(), "all");
    EXPECT_EQ(status.code(), StatusCode::Unsupported);
    EXPECT_EQ(status.message(), "there are 168 bytes of c, but kernels on a test reach at most 167 "
                                "of one operand; choose another device or the CPU");
  }
}

} // namespace
