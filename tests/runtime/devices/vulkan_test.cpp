// The Vulkan device on Mesa's driver for the CPU: memory, and what goes wrong.
#include "runtime/devices/vulkan.h"

#include <gtest/gtest.h>

#include <cstdlib>

using namespace smelt;

namespace {

/// Lets the loader see one driver file only.
void useDriver(const char *file) {
  for (const char *name : {"VK_DRIVER_FILES", "VK_ICD_FILENAMES"}) // the first is newer
    setenv(name, file, 1);
}

class Vulkan : public testing::Test {
protected:
  void SetUp() override { useDriver(SMELT_LAVAPIPE); }
};

TEST_F(Vulkan, ListsTheDriverOfTheCpu) {
  auto devices = vulkanDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  ASSERT_EQ(devices->size(), 1u);
  EXPECT_NE((*devices)[0].name.find("llvmpipe"), std::string::npos);
  EXPECT_TRUE((*devices)[0].isProcessor);
  EXPECT_EQ((*devices)[0].lacks, "");
}

TEST_F(Vulkan, NoDriverIsNoDevice) {
  useDriver("/dev/null");
  auto devices = vulkanDevices();
  if (devices.ok())
    EXPECT_TRUE(devices->empty());
  else
    EXPECT_EQ(devices.status().message(), "vulkan: creating an instance failed: no driver fits");
}

TEST_F(Vulkan, NumbersOfDevicesAreChecked) {
  auto device = openVulkanDevice(99);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().message(), "vulkan: there is no device 99, found 1 devices");
}

TEST_F(Vulkan, MemoryStartsAsZerosAndKeepsWhatIsWritten) {
  auto device = openVulkanDevice(0);
  ASSERT_TRUE(device.ok()) << device.status().message();
  constexpr size_t bytes = (9 << 20) + 12; // more than two transfers
  auto memory = (*device)->allocate(bytes, "a test");
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  std::vector<std::byte> read(bytes, std::byte(1));
  ASSERT_TRUE((*device)->read(*memory, 0, read).ok());
  EXPECT_EQ(read, std::vector<std::byte>(bytes));

  std::vector<std::byte> written(bytes - 8);
  for (size_t i = 0; i < written.size(); ++i)
    written[i] = std::byte(i * 2654435761u >> 24);
  ASSERT_TRUE((*device)->write(*memory, 4, written).ok());
  ASSERT_TRUE((*device)->read(*memory, 4, std::span(read).subspan(4, written.size())).ok());
  EXPECT_TRUE(std::equal(written.begin(), written.end(), read.begin() + 4));
}

TEST_F(Vulkan, RunsTransferWhatTheHostShares) {
  auto opened = openVulkanDevice(0);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  GpuDevice &device = **opened;
  const auto given = std::as_bytes(std::span("twelve bytes").first(12));
  std::vector<std::byte> seen(12);
  auto input = device.allocate(12, "a test", GpuTransfer::BeforeRun);
  auto memory = device.allocate(16, "a test", GpuTransfer::Asked);
  ASSERT_TRUE(input.ok() && memory.ok());
  ASSERT_TRUE(device.write(*input, 0, given).ok());
  const int32_t fields[format::FieldCount] = {};
  ASSERT_TRUE(device.run(fields, {}).ok());
  ASSERT_TRUE(
      device.copy(std::vector<GpuCopy>{{*input, 0, *memory, 2, 6}, {*input, 6, *memory, 8, 6}})
          .ok());
  ASSERT_TRUE(device.read(*memory, 2, seen).ok());
  EXPECT_TRUE(std::equal(seen.begin(), seen.end(), given.begin()));

  // A run recorded before knows of memory that came after it.
  auto output = device.allocate(12, "a test", GpuTransfer::AfterRun);
  ASSERT_TRUE(output.ok());
  ASSERT_TRUE(device.copy(std::vector<GpuCopy>{{*memory, 2, *output, 0, 12}}).ok());
  ASSERT_TRUE(device.read(*output, 0, seen).ok());
  EXPECT_EQ(seen, std::vector<std::byte>(12));
  ASSERT_TRUE(device.run(fields, {}).ok());
  ASSERT_TRUE(device.read(*output, 0, seen).ok());
  EXPECT_TRUE(std::equal(seen.begin(), seen.end(), given.begin()));
}

TEST_F(Vulkan, LimitsAreItsOwnOrLower) {
  auto whole = openVulkanDevice(0), small = openVulkanDevice(0, {.allocationBytes = 4096});
  ASSERT_TRUE(whole.ok() && small.ok());
  EXPECT_GE((*whole)->limits().allocationBytes, uint64_t(1) << 27); // the least that Vulkan allows
  EXPECT_GE((*whole)->limits().operandBytes, uint64_t(1) << 27);
  EXPECT_GT((*whole)->freeBytes(), 0u);
  EXPECT_EQ((*small)->limits().allocationBytes, 4096u);
  EXPECT_EQ((*small)->limits().operandBytes, (*whole)->limits().operandBytes);
  EXPECT_TRUE((*small)->allocate(4096, "a test").ok());
  auto larger = (*small)->allocate(4100, "the scratch");
  ASSERT_FALSE(larger.ok());
  EXPECT_EQ(larger.status().code(), StatusCode::Exhausted);
  EXPECT_NE(larger.status().message().find("4100 bytes for the scratch on llvmpipe"),
            std::string::npos);
  EXPECT_NE(larger.status().message().find("at most 4096 bytes"), std::string::npos);
}

TEST_F(Vulkan, TooMuchMemorySaysForWhat) {
  auto device = openVulkanDevice(0);
  ASSERT_TRUE(device.ok()) << device.status().message();
  auto memory = (*device)->allocate(uint64_t(1) << 50, "the key cache");
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), StatusCode::Exhausted) << memory.status().message();
  EXPECT_NE(memory.status().message().find("bytes for the key cache on llvmpipe"),
            std::string::npos)
      << memory.status().message();
}

} // namespace
