// The CUDA device on the tests' own driver, which has no GPU: memory, steps as graphs, and what
// goes wrong. (tests/conformance/gpu_test.cpp runs the kernels.)
#include "runtime/devices/cuda.h"

#include "tests/cuda/fake_driver.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>

using namespace smelt;

namespace {

/// Adds the field of tokens to four words: operand 1 = operand 0 + fields[FieldTokens].
std::string addKernel() {
  static_assert(format::FieldTokens == 2);
  std::string text = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry plus(\n";
  for (int i = 0; i < 10; ++i)
    text += "\t.param .u64 .ptr .global .align 1 plus_param_" + std::to_string(i) +
            (i < 9 ? ",\n" : "\n");
  return text + R"()
.maxntid 4, 1, 1
{
	.reg .b32 	%r<6>;
	.reg .b64 	%rd<8>;
	ld.param.b64 	%rd1, [plus_param_0];
	ld.param.b64 	%rd2, [plus_param_2];
	ld.param.b64 	%rd3, [plus_param_3];
	mov.u32 	%r1, %tid.x;
	mul.wide.u32 	%rd4, %r1, 4;
	add.s64 	%rd5, %rd2, %rd4;
	add.s64 	%rd6, %rd3, %rd4;
	ld.global.b32 	%r2, [%rd1+8];
	ld.global.b32 	%r3, [%rd5];
	add.s32 	%r4, %r2, %r3;
	st.global.b32 	[%rd6], %r4;
	ret;
}
)";
}

std::span<const std::byte> withZero(const std::string &text) {
  return std::as_bytes(std::span(text.c_str(), text.size() + 1));
}

class Cuda : public testing::Test {
protected:
  void SetUp() override { driverIs(""); }
  void TearDown() override { EXPECT_EQ(fakeCudaObjects(), 0) << "something was not given back"; }

  static void driverIs(const char *settings) { setenv("SMELT_FAKE_CUDA", settings, 1); }
  static std::unique_ptr<GpuDevice> opened() {
    auto device = openCudaDevice(0);
    EXPECT_TRUE(device.ok()) << device.status().message();
    return *std::move(device);
  }
  static std::string refusal(const char *settings) {
    driverIs(settings);
    auto device = openCudaDevice(0);
    EXPECT_FALSE(device.ok());
    return device.status().message();
  }
};

TEST_F(Cuda, ListsDevicesAndWhatTheyLack) {
  driverIs("devices=2");
  auto devices = cudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  ASSERT_EQ(devices->size(), 2u);
  EXPECT_EQ((*devices)[1].name, "Fake GPU 1");
  EXPECT_EQ((*devices)[1].lacks, "");
  driverIs("capability=75");
  devices = cudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  EXPECT_EQ((*devices)[0].lacks, "its compute capability is 7.5, 8.0 is needed (Ampere and newer)");
}

TEST_F(Cuda, NoDeviceIsAnEmptyList) {
  driverIs("devices=0");
  auto devices = cudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  EXPECT_TRUE(devices->empty());
}

TEST_F(Cuda, DriversThatDoNotFitAreRefused) {
  EXPECT_EQ(refusal("version=11000"), "cuda: the driver is of CUDA 11.0, 11.4 or newer is needed; "
                                      "update NVIDIA's driver");
  EXPECT_EQ(refusal("init=803"),
            "cuda: starting the driver failed: libcuda.so.1 and the kernel's driver are of "
            "different versions (reboot after an update)");
  EXPECT_EQ(refusal("capability=75"), "cuda: Fake GPU 0 cannot be used: its compute capability is "
                                      "7.5, 8.0 is needed (Ampere and newer)");
  driverIs("");
  auto device = openCudaDevice(7);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().message(), "cuda: there is no device 7, found 1 devices");
}

TEST_F(Cuda, MemoryStartsAsZerosAndKeepsWhatIsWritten) {
  auto device = opened();
  constexpr size_t bytes = (17 << 20) + 12; // more than two transfers
  auto memory = device->allocate(bytes, "a test");
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  std::vector<std::byte> read(bytes, std::byte(1));
  ASSERT_TRUE(device->read(*memory, 0, read).ok());
  EXPECT_EQ(read, std::vector<std::byte>(bytes));

  std::vector<std::byte> written(bytes - 8);
  for (size_t i = 0; i < written.size(); ++i)
    written[i] = std::byte(i * 2654435761u >> 24);
  ASSERT_TRUE(device->write(*memory, 4, written).ok());
  ASSERT_TRUE(device->read(*memory, 4, std::span(read).subspan(4, written.size())).ok());
  EXPECT_TRUE(std::equal(written.begin(), written.end(), read.begin() + 4));

  const GpuCopy copy{*memory, 4, *memory, 8 << 20, 1 << 20};
  ASSERT_TRUE(device->copy({&copy, 1}).ok());
  ASSERT_TRUE(device->read(*memory, 8 << 20, std::span(read).first(1 << 20)).ok());
  EXPECT_TRUE(std::equal(read.begin(), read.begin() + (1 << 20), written.begin()));
}

TEST_F(Cuda, TooMuchMemorySaysForWhat) {
  driverIs("memory=1000000");
  auto device = opened();
  auto memory = device->allocate(2000000, "the key cache");
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), StatusCode::Exhausted);
  EXPECT_EQ(memory.status().message(),
            "cuda: allocating 2000000 bytes for the key cache on Fake GPU 0 failed: out of device "
            "memory, " +
                std::to_string(device->freeBytes()) + " bytes are free");
  EXPECT_GT(device->freeBytes(), 900000u);
}

/// A device with the kernel and one call of it.
struct Adder {
  std::unique_ptr<GpuDevice> device;
  int32_t in = -1, out = -1;
  uint32_t call = 0;

  explicit Adder(std::unique_ptr<GpuDevice> opened) : device(std::move(opened)) {
    in = *device->allocate(32, "the input", GpuTransfer::BeforeRun);
    out = *device->allocate(16, "the result", GpuTransfer::AfterRun);
    const std::string text = addKernel();
    const uint32_t kernel = *device->addKernel(withZero(text), "plus", 4);
    std::array<GpuOperand, format::operandCount> operands;
    operands[0] = {in, 16};
    operands[1] = {out, 0};
    call = *device->addCall(kernel, operands);
  }

  Result<std::array<int32_t, 4>> run(int32_t tokens, std::array<int32_t, 4> input) {
    SMELT_TRY(device->write(in, 16, std::as_bytes(std::span(input))));
    std::array<int32_t, format::FieldCount> fields{};
    fields[format::FieldTokens] = tokens;
    const GpuDispatch dispatch{call, {1, 1, 1}, true};
    SMELT_TRY(device->run(fields, {&dispatch, 1}));
    std::array<int32_t, 4> result;
    SMELT_TRY(device->read(out, 0, std::as_writable_bytes(std::span(result))));
    return result;
  }
};

TEST_F(Cuda, AStepIsOneLaunchOfARecordedGraph) {
  Adder adder(opened());
  for (int32_t tokens : {5, 6, 7}) {
    auto result = adder.run(tokens, {1, 2, 3, 4});
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(*result, (std::array{1 + tokens, 2 + tokens, 3 + tokens, 4 + tokens}));
  }
  EXPECT_EQ(fakeCudaGraphLaunches(), 3);
  EXPECT_EQ(fakeCudaPlainLaunches(), 0);
  // A memory that runs must transfer makes recordings out of date.
  ASSERT_TRUE(adder.device->allocate(4, "one more", GpuTransfer::AfterRun).ok());
  auto result = adder.run(1, {0, 0, 0, 0});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(*result, (std::array{1, 1, 1, 1}));
}

TEST_F(Cuda, ALostDeviceStaysLost) {
  Adder adder(opened());
  ASSERT_TRUE(adder.run(1, {}).ok());
  driverIs("lost=1"); // settings are read when the driver is started
  ASSERT_TRUE(cudaDevices().ok());
  for (int i = 0; i < 2; ++i) {
    auto result = adder.run(1, {});
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), StatusCode::Internal);
    EXPECT_NE(result.status().message().find(
                  "the device was lost (an illegal memory access was encountered)"),
              std::string::npos)
        << result.status().message();
  }
}

TEST_F(Cuda, CodeThatTheDriverRefusesIsExplained) {
  auto device = opened();
  std::string text = addKernel();
  auto kernel = device->addKernel(withZero(text).first(text.size()), "plus", 4);
  ASSERT_FALSE(kernel.ok());
  EXPECT_EQ(kernel.status().message(),
            "cuda: the code of plus does not end with a zero, as text must");
  text.replace(text.find("add.s32"), 7, "dad.s32");
  kernel = device->addKernel(withZero(text), "plus", 4);
  ASSERT_FALSE(kernel.ok());
  EXPECT_EQ(kernel.status().message(),
            "cuda: compiling plus for Fake GPU 0 failed: a PTX JIT compilation failed; it says: "
            "line 29: unknown instruction dad.s32");
  driverIs("jit=222");
  device = opened();
  kernel = device->addKernel(withZero(text), "plus", 4);
  ASSERT_FALSE(kernel.ok());
  EXPECT_EQ(kernel.status().message(), "cuda: compiling plus for Fake GPU 0 failed: the driver is "
                                       "too old for this code; update NVIDIA's driver");
}

} // namespace
