// A CUDA device: its memories, modules, and steps as graphs.
#include "runtime/devices/cuda.h"

#include "runtime/devices/cuda_driver.h"
#include "runtime/devices/recorded_steps.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace smelt {

using namespace cuda;

namespace {

class CudaDevice final : public GpuDevice {
public:
  explicit CudaDevice(std::shared_ptr<Driver> driver) : driver(std::move(driver)) {}
  ~CudaDevice() override;
  Status open(int32_t number);

  const std::string &name() const override { return deviceName; }
  /// Kernels count words in signed 32 bits.
  GpuLimits limits() const override { return {~uint64_t(0), uint64_t(1) << 33}; }
  uint64_t freeBytes() const override;
  Result<int32_t> allocate(uint64_t bytes, const std::string &what, GpuTransfer transfer) override;
  Status write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) override;
  Status read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) override;
  Status copy(std::span<const GpuCopy> copies) override;
  Result<uint32_t> addKernel(std::span<const std::byte> code, const std::string &symbol,
                             uint32_t threads) override;
  Result<uint32_t> addCall(uint32_t kernel,
                           std::span<const GpuOperand, format::operandCount> operands) override;
  Status run(std::span<const int32_t, format::FieldCount> fields,
             std::span<const GpuDispatch> dispatches) override;

private:
  struct Memory {
    Pointer onDevice = 0;
    std::byte *onHost = nullptr; ///< pinned, of memories that are transferred by runs
    uint64_t bytes = 0;
    GpuTransfer transfer = GpuTransfer::Asked;
  };
  struct Kernel {
    Module module = nullptr;
    Function function = nullptr;
    uint32_t threads = 0;
  };
  struct Call {
    uint32_t kernel;
    std::array<Pointer, format::operandCount> operands;
    std::array<int32_t, format::operandCount> memories;
  };
  static constexpr uint64_t stagingBytes = 8 << 20;
  static constexpr size_t fieldsMemory = 0;

  std::shared_ptr<Driver> driver;
  std::string deviceName;
  Device device = 0;
  Context context = nullptr;
  Stream stream = nullptr;
  std::byte *staging = nullptr;
  std::vector<Memory> memories;
  std::vector<Kernel> kernels;
  std::vector<Call> calls;
  RecordedSteps<GraphExec> steps;

  Result<std::byte *> pinned(uint64_t bytes, const std::string &what);
  Status finish();
  Status enqueue(std::span<const GpuDispatch> dispatches);
  Result<GraphExec> record(std::span<const GpuDispatch> dispatches);
};

CudaDevice::~CudaDevice() {
  if (!context)
    return;
  {
    const Current current(*driver, context);
    if (stream)
      driver->StreamSynchronize(stream);
    steps.clear([&](GraphExec step) { driver->GraphExecDestroy(step); });
    for (const Kernel &kernel : kernels)
      driver->ModuleUnload(kernel.module);
    for (const Memory &memory : memories) {
      driver->MemFree(memory.onDevice);
      if (memory.onHost)
        driver->MemFreeHost(memory.onHost);
    }
    if (staging)
      driver->MemFreeHost(staging);
    if (stream)
      driver->StreamDestroy(stream);
  }
  driver->DevicePrimaryCtxRelease(device);
}

Status CudaDevice::open(int32_t number) {
  SMELT_ASSIGN(CudaDeviceInfo info, driver->infoOf(number));
  deviceName = info.name;
  CUDA_TRY(*driver, DeviceGet(&device, number), "finding " + deviceName);
  CUDA_TRY(*driver, DevicePrimaryCtxRetain(&context, device), "opening " + deviceName);
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  CUDA_TRY(*driver, StreamCreate(&stream, streamNonBlocking), "creating a stream");
  SMELT_ASSIGN(staging, pinned(stagingBytes, "transfers"));
  return allocate(format::FieldCount * sizeof(int32_t), "the step's fields", GpuTransfer::BeforeRun)
      .status();
}

/// Waits for all that the stream was given.
Status CudaDevice::finish() {
  CUDA_TRY(*driver, StreamSynchronize(stream), "work on " + deviceName);
  return {};
}

//===--- Memory -------------------------------------------------------------------------------===//

Result<std::byte *> CudaDevice::pinned(uint64_t bytes, const std::string &what) {
  void *memory = nullptr;
  CUDA_TRY(*driver, MemHostAlloc(&memory, bytes, 0),
           "pinning " + std::to_string(bytes) + " bytes for " + what);
  std::memset(memory, 0, bytes);
  return static_cast<std::byte *>(memory);
}

uint64_t CudaDevice::freeBytes() const {
  const Current current(*driver, context);
  size_t free = 0, total = 0;
  return driver->MemGetInfo(&free, &total) == Success ? free : 0;
}

Result<int32_t> CudaDevice::allocate(uint64_t bytes, const std::string &what,
                                     GpuTransfer transfer) {
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  Memory memory;
  memory.bytes = (std::max<uint64_t>(bytes, 1) + 3) / 4 * 4;
  if (int32_t outcome = driver->MemAlloc(&memory.onDevice, memory.bytes); outcome != Success) {
    Status refused = driver->failure(outcome, "allocating " + std::to_string(memory.bytes) +
                                                  " bytes for " + what + " on " + deviceName);
    return outcome == OutOfMemory
               ? Status(refused.code(),
                        refused.message() + ", " + std::to_string(freeBytes()) + " bytes are free")
               : refused;
  }
  memories.push_back(memory);
  CUDA_TRY(*driver, MemsetD32Async(memory.onDevice, 0, memory.bytes / 4, stream),
           "clearing " + what);
  SMELT_TRY(finish());
  if (transfer != GpuTransfer::Asked) {
    SMELT_ASSIGN(memories.back().onHost, pinned(memory.bytes, what));
    memories.back().transfer = transfer;
    // Recorded steps do not know of it.
    steps.clear([&](GraphExec step) { driver->GraphExecDestroy(step); });
  }
  return int32_t(memories.size()) - 1;
}

Status CudaDevice::write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) {
  const Memory &to = memories[size_t(memory)];
  if (to.transfer == GpuTransfer::BeforeRun) {
    std::memcpy(to.onHost + offset, bytes.data(), bytes.size());
    return {};
  }
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  for (size_t done = 0; done < bytes.size();) {
    const size_t part = std::min<size_t>(bytes.size() - done, stagingBytes);
    std::memcpy(staging, bytes.data() + done, part);
    CUDA_TRY(*driver, MemcpyHtoDAsync(to.onDevice + offset + done, staging, part, stream),
             "writing to " + deviceName);
    SMELT_TRY(finish());
    done += part;
  }
  return {};
}

Status CudaDevice::read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) {
  const Memory &from = memories[size_t(memory)];
  if (from.transfer == GpuTransfer::AfterRun) {
    std::memcpy(bytes.data(), from.onHost + offset, bytes.size());
    return {};
  }
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  for (size_t done = 0; done < bytes.size();) {
    const size_t part = std::min<size_t>(bytes.size() - done, stagingBytes);
    CUDA_TRY(*driver, MemcpyDtoHAsync(staging, from.onDevice + offset + done, part, stream),
             "reading from " + deviceName);
    SMELT_TRY(finish());
    std::memcpy(bytes.data() + done, staging, part);
    done += part;
  }
  return {};
}

Status CudaDevice::copy(std::span<const GpuCopy> copies) {
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  for (const GpuCopy &c : copies)
    CUDA_TRY(*driver,
             MemcpyDtoDAsync(memories[size_t(c.to)].onDevice + c.toOffset,
                             memories[size_t(c.from)].onDevice + c.fromOffset, c.bytes, stream),
             "copying on " + deviceName);
  return finish();
}

//===--- Kernels and calls --------------------------------------------------------------------===//

Result<uint32_t> CudaDevice::addKernel(std::span<const std::byte> code, const std::string &symbol,
                                       uint32_t threads) {
  if (code.empty() || code.back() != std::byte(0))
    return corrupt("cuda: the code of " + symbol + " does not end with a zero, as text must");
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  std::array<char, 4096> log{};
  std::array<int32_t, 2> options{jitErrorLog, jitErrorLogBytes};
  std::array<void *, 2> values{log.data(), reinterpret_cast<void *>(log.size() - 1)};
  Kernel kernel;
  kernel.threads = threads;
  if (int32_t outcome = driver->ModuleLoadDataEx(&kernel.module, code.data(), options.size(),
                                                 options.data(), values.data());
      outcome != Success) {
    Status refused = driver->failure(outcome, "compiling " + symbol + " for " + deviceName);
    return log[0] ? Status(refused.code(), refused.message() + "; it says: " + log.data())
                  : refused;
  }
  kernels.push_back(kernel);
  CUDA_TRY(*driver, ModuleGetFunction(&kernels.back().function, kernel.module, symbol.c_str()),
           "finding " + symbol);
  return uint32_t(kernels.size()) - 1;
}

Result<uint32_t> CudaDevice::addCall(uint32_t kernel,
                                     std::span<const GpuOperand, format::operandCount> operands) {
  Call call{kernel, {}, {}};
  for (size_t i = 0; i < operands.size(); ++i)
    if ((call.memories[i] = operands[i].memory) >= 0)
      call.operands[i] = memories[size_t(operands[i].memory)].onDevice + operands[i].offset;
  calls.push_back(call);
  return uint32_t(calls.size()) - 1;
}

//===--- Steps --------------------------------------------------------------------------------===//

/// Gives the stream what a step does. It keeps the order, so that calls need not say what they wait
/// for.
Status CudaDevice::enqueue(std::span<const GpuDispatch> dispatches) {
  for (const Memory &memory : memories)
    if (memory.transfer == GpuTransfer::BeforeRun)
      CUDA_TRY(*driver, MemcpyHtoDAsync(memory.onDevice, memory.onHost, memory.bytes, stream),
               "writing to " + deviceName);
  for (const GpuDispatch &dispatch : dispatches) {
    Call &call = calls[dispatch.call];
    const Kernel &kernel = kernels[call.kernel];
    // Operands start where they are pointed to: nothing reads how far they are from there.
    Pointer noOffsets = 0;
    std::array<void *, 2 + format::operandCount> parameters{&memories[fieldsMemory].onDevice,
                                                            &noOffsets};
    for (size_t i = 0; i < call.operands.size(); ++i)
      parameters[2 + i] = &call.operands[i];
    CUDA_TRY(*driver,
             LaunchKernel(kernel.function, dispatch.groups[0], dispatch.groups[1],
                          dispatch.groups[2], kernel.threads, 1, 1, 0, stream, parameters.data(),
                          nullptr),
             "starting a kernel on " + deviceName);
  }
  for (size_t i = 0; i < memories.size(); ++i)
    if (memories[i].transfer == GpuTransfer::AfterRun && isBroughtBack(dispatches, calls, i))
      CUDA_TRY(*driver,
               MemcpyDtoHAsync(memories[i].onHost, memories[i].onDevice, memories[i].bytes, stream),
               "reading from " + deviceName);
  return {};
}

/// A whole step as a graph, to be launched any number of times.
Result<GraphExec> CudaDevice::record(std::span<const GpuDispatch> dispatches) {
  CUDA_TRY(*driver, StreamBeginCapture(stream, captureThreadLocal), "recording a step");
  Status given = enqueue(dispatches);
  Graph graph = nullptr;
  const int32_t ended = driver->StreamEndCapture(stream, &graph);
  GraphExec step = nullptr;
  int32_t made = Success;
  if (given.ok() && ended == Success)
    made = driver->GraphInstantiateWithFlags(&step, graph, 0);
  if (graph)
    driver->GraphDestroy(graph);
  SMELT_TRY(std::move(given));
  for (int32_t outcome : {ended, made})
    if (outcome != Success)
      return driver->failure(outcome, "recording a step");
  return step;
}

Status CudaDevice::run(std::span<const int32_t, format::FieldCount> fields,
                       std::span<const GpuDispatch> dispatches) {
  SMELT_TRY(write(fieldsMemory, 0, std::as_bytes(fields)));
  const Current current(*driver, context);
  SMELT_TRY(current.status());
  auto *known = steps.find(dispatches);
  GraphExec step = known ? known->recording : nullptr;
  if (!known) {
    SMELT_ASSIGN(step, record(dispatches));
    if (GraphExec dropped = steps.add(dispatches, step))
      driver->GraphExecDestroy(dropped);
  }
  CUDA_TRY(*driver, GraphLaunch(step, stream), "starting a step on " + deviceName);
  return finish();
}

} // namespace

Result<std::vector<CudaDeviceInfo>> cudaDevices() {
  SMELT_ASSIGN(std::shared_ptr<Driver> driver, Driver::open());
  std::vector<CudaDeviceInfo> devices;
  for (int32_t i = 0; i < driver->deviceCount; ++i) {
    SMELT_ASSIGN(CudaDeviceInfo info, driver->infoOf(i));
    devices.push_back(std::move(info));
  }
  return devices;
}

Result<std::unique_ptr<GpuDevice>> openCudaDevice(size_t number) {
  SMELT_ASSIGN(std::shared_ptr<Driver> driver, Driver::open());
  if (number >= size_t(driver->deviceCount))
    return invalidArgument("cuda: there is no device " + std::to_string(number) + ", found " +
                           std::to_string(driver->deviceCount) + " devices");
  SMELT_ASSIGN(CudaDeviceInfo info, driver->infoOf(int32_t(number)));
  if (!info.lacks.empty())
    return unsupported("cuda: " + info.name + " cannot be used: " + info.lacks);
  auto device = std::make_unique<CudaDevice>(driver);
  SMELT_TRY(device->open(int32_t(number)));
  return std::unique_ptr<GpuDevice>(std::move(device));
}

} // namespace smelt
