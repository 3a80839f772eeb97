// Vulkan compute: the loader by dlopen, a device, its memories, pipelines and command buffers.
#include "runtime/devices/vulkan.h"

#include "runtime/devices/vulkan_types.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <dlfcn.h>

namespace smelt {

using namespace vulkan;

namespace {

/// What every kernel of ours may rely on (passes/lower/gpu_kernels.h: vulkanTarget).
constexpr uint32_t neededThreads = 128, neededSharedBytes = 16384;
/// Bindings of a kernel: fields, where operands start, operands.
constexpr uint32_t bindingCount = 2 + format::operandCount;

std::string describe(int32_t outcome) {
  switch (outcome) {
  case OutOfHostMemory:
    return "out of memory";
  case OutOfDeviceMemory:
    return "out of device memory";
  case InitializationFailed:
    return "the driver could not be initialized";
  case DeviceLost:
    return "the device was lost (its driver was reset, or it was taken away)";
  case IncompatibleDriver:
    return "no driver fits";
  }
  return "error " + std::to_string(outcome);
}

Status failure(int32_t outcome, const std::string &what) {
  const bool isMemory = outcome == OutOfHostMemory || outcome == OutOfDeviceMemory;
  const StatusCode code = isMemory                ? StatusCode::Exhausted
                          : outcome == DeviceLost ? StatusCode::Internal
                                                  : StatusCode::Unsupported;
  return Status(code, "vulkan: " + what + " failed: " + describe(outcome));
}

/// Returns the failure of a Vulkan call to the caller.
#define VULKAN_TRY(call, what)                                                                     \
  do {                                                                                             \
    if (int32_t outcome = (call); outcome != Success)                                              \
      return failure(outcome, what);                                                               \
  } while (false)

//===--- Loader and instance ------------------------------------------------------------------===//

/// The loader, an instance, and the functions found with it.
class Loader {
public:
  static Result<std::shared_ptr<Loader>> open();
  ~Loader();

#define GLOBAL(name, result, parameters) result(*name) parameters = nullptr;
#define INSTANCE GLOBAL
#define DEVICE(name, result, parameters)
#include "runtime/devices/vulkan_functions.def"

  std::vector<PhysicalDevice> devices;

private:
  void *library = nullptr;
  Instance instance = nullptr;

  Status start();
};

Result<std::shared_ptr<Loader>> Loader::open() {
  auto loader = std::make_shared<Loader>();
  SMELT_TRY(loader->start());
  return loader;
}

Loader::~Loader() {
  if (instance)
    DestroyInstance(instance, nullptr);
  if (library)
    dlclose(library);
}

Status Loader::start() {
  library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return notFound("vulkan: there is no loader on this system (libvulkan.so.1; Debian and Ubuntu: "
                    "package libvulkan1 and a driver)");
  auto find = reinterpret_cast<Function (*)(Instance, const char *)>(
      dlsym(library, "vkGetInstanceProcAddr"));
  if (!find)
    return unsupported("vulkan: libvulkan.so.1 has no vkGetInstanceProcAddr");
#define GLOBAL(name, result, parameters)                                                           \
  name = reinterpret_cast<result(*) parameters>(find(nullptr, "vk" #name));
#define INSTANCE(name, result, parameters)
#define DEVICE(name, result, parameters)
#include "runtime/devices/vulkan_functions.def"
  uint32_t version = 0;
  if (!EnumerateInstanceVersion || !CreateInstance || EnumerateInstanceVersion(&version) != 0 ||
      version < version1_1)
    return unsupported("vulkan: the loader is older than Vulkan 1.1");

  ApplicationInfo application{};
  application.name = application.engineName = "smelt";
  application.apiVersion = version1_1;
  InstanceCreateInfo info{};
  info.application = &application;
  VULKAN_TRY(CreateInstance(&info, nullptr, &instance), "creating an instance");
#define GLOBAL(name, result, parameters)
#define INSTANCE(name, result, parameters)                                                         \
  name = reinterpret_cast<result(*) parameters>(find(instance, "vk" #name));
#define DEVICE(name, result, parameters)
#include "runtime/devices/vulkan_functions.def"
  uint32_t count = 0;
  VULKAN_TRY(EnumeratePhysicalDevices(instance, &count, nullptr), "listing devices");
  devices.resize(count);
  VULKAN_TRY(EnumeratePhysicalDevices(instance, &count, devices.data()), "listing devices");
  devices.resize(count);
  return {};
}

/// The first queue family that computes; none: -1.
int64_t computeFamily(const Loader &loader, PhysicalDevice device) {
  uint32_t count = 0;
  loader.GetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
  std::vector<QueueFamilyProperties> families(count);
  loader.GetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
  for (uint32_t i = 0; i < count; ++i)
    if (families[i].flags & queueCompute && families[i].count)
      return i;
  return -1;
}

VulkanDeviceInfo infoOf(const Loader &loader, PhysicalDevice device) {
  PhysicalDeviceProperties properties{};
  loader.GetPhysicalDeviceProperties(device, &properties);
  const PhysicalDeviceProperties::Limits &limits = properties.limits;
  VulkanDeviceInfo info{properties.name, properties.type == deviceTypeProcessor, {}};
  auto tooFew = [&](uint64_t found, uint64_t needed, const char *what) {
    if (found < needed && info.lacks.empty())
      info.lacks = "it has " + std::to_string(found) + " " + what + ", " + std::to_string(needed) +
                   " are needed";
  };
  if (properties.apiVersion < version1_1)
    info.lacks = "its driver is older than Vulkan 1.1";
  else if (computeFamily(loader, device) < 0)
    info.lacks = "it does not compute";
  tooFew(limits.maxComputeWorkGroupInvocations, neededThreads, "threads in a workgroup");
  tooFew(limits.maxComputeSharedMemorySize, neededSharedBytes, "bytes of workgroup memory");
  tooFew(limits.maxPerStageDescriptorStorageBuffers, bindingCount, "storage buffers");
  return info;
}

//===--- Device -------------------------------------------------------------------------------===//

class VulkanDevice final : public GpuDevice {
public:
  explicit VulkanDevice(std::shared_ptr<Loader> loader) : loader(std::move(loader)) {}
  ~VulkanDevice() override;
  Status open(PhysicalDevice physical);

  const std::string &name() const override { return deviceName; }
  Result<int32_t> allocate(uint64_t bytes, const std::string &what) override;
  Status write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) override;
  Status read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) override;
  Result<uint32_t> addKernel(std::span<const std::byte> code, const std::string &symbol) override;
  Result<uint32_t> addCall(uint32_t kernel,
                           std::span<const GpuOperand, format::operandCount> operands) override;
  Status run(std::span<const int32_t, format::FieldCount> fields,
             std::span<const GpuDispatch> dispatches) override;

private:
  struct Memory {
    Handle buffer = 0, memory = 0;
    uint64_t bytes = 0;
    std::byte *mapped = nullptr; ///< of memory that the host writes
  };
  struct Kernel {
    Handle module, pipeline;
  };
  struct Call {
    uint32_t kernel;
    Handle set;
  };
  /// Descriptor sets of so many calls, and where their operands start.
  struct CallBlock {
    Handle pool = 0;
    Memory offsets;
    uint32_t used = 0;
  };
  static constexpr uint32_t callsOfBlock = 256;
  static constexpr uint64_t offsetStride = 256; ///< no device aligns bindings more
  static constexpr uint64_t stagingBytes = 4 << 20;

#define GLOBAL(name, result, parameters)
#define INSTANCE(name, result, parameters)
#define DEVICE(name, result, parameters) result(*name) parameters = nullptr;
#include "runtime/devices/vulkan_functions.def"

  std::shared_ptr<Loader> loader;
  std::string deviceName;
  Device device = nullptr;
  Queue queue = nullptr;
  MemoryProperties memoryTypes{};
  uint64_t bindingAlignment = 1, largestBinding = 0;
  Handle setLayout = 0, pipelineLayout = 0, commandPool = 0, fence = 0;
  CommandBuffer commands = nullptr;
  Memory stepFields, staging;
  std::vector<Memory> memories;
  std::vector<Kernel> kernels;
  std::vector<CallBlock> callBlocks;
  std::vector<Call> calls;

  Status createDevice(PhysicalDevice physical);
  Status createLayouts();
  Result<Memory> create(uint64_t bytes, bool forHost, const std::string &what);
  void destroy(Memory &memory);
  Status addCallBlock();
  Status begin();
  Status submit();
  void barrier(uint32_t from, uint32_t fromAccess, uint32_t to, uint32_t toAccess);
  Status copy(const Memory &from, uint64_t fromOffset, const Memory &to, uint64_t toOffset,
              uint64_t bytes);
};

VulkanDevice::~VulkanDevice() {
  if (!device)
    return;
  DeviceWaitIdle(device);
  for (Kernel &kernel : kernels) {
    DestroyPipeline(device, kernel.pipeline, nullptr);
    DestroyShaderModule(device, kernel.module, nullptr);
  }
  for (CallBlock &block : callBlocks) {
    DestroyDescriptorPool(device, block.pool, nullptr);
    destroy(block.offsets);
  }
  for (Memory &memory : memories)
    destroy(memory);
  destroy(stepFields);
  destroy(staging);
  DestroyFence(device, fence, nullptr);
  DestroyCommandPool(device, commandPool, nullptr);
  DestroyPipelineLayout(device, pipelineLayout, nullptr);
  DestroyDescriptorSetLayout(device, setLayout, nullptr);
  DestroyDevice(device, nullptr);
}

Status VulkanDevice::open(PhysicalDevice physical) {
  SMELT_TRY(createDevice(physical));
  SMELT_TRY(createLayouts());
  SMELT_ASSIGN(stepFields, create(format::FieldCount * sizeof(int32_t), true, "the step's fields"));
  SMELT_ASSIGN(staging, create(stagingBytes, true, "transfers"));
  return {};
}

Status VulkanDevice::createDevice(PhysicalDevice physical) {
  PhysicalDeviceProperties properties{};
  loader->GetPhysicalDeviceProperties(physical, &properties);
  deviceName = properties.name;
  bindingAlignment = std::max<uint64_t>(4, properties.limits.minStorageBufferOffsetAlignment);
  largestBinding = properties.limits.maxStorageBufferRange;
  loader->GetPhysicalDeviceMemoryProperties(physical, &memoryTypes);

  const uint32_t family = uint32_t(computeFamily(*loader, physical));
  const float priority = 1;
  DeviceQueueCreateInfo queueInfo{};
  queueInfo.family = family;
  queueInfo.count = 1;
  queueInfo.priorities = &priority;
  DeviceCreateInfo info{};
  info.queueCount = 1;
  info.queues = &queueInfo;
  VULKAN_TRY(loader->CreateDevice(physical, &info, nullptr, &device), "opening " + deviceName);
#define GLOBAL(name, result, parameters)
#define INSTANCE(name, result, parameters)
#define DEVICE(name, result, parameters)                                                           \
  name = reinterpret_cast<result(*) parameters>(loader->GetDeviceProcAddr(device, "vk" #name));
#include "runtime/devices/vulkan_functions.def"
  GetDeviceQueue(device, family, 0, &queue);

  CommandPoolCreateInfo pool{};
  pool.flags = commandPoolResetsBuffers;
  pool.family = family;
  VULKAN_TRY(CreateCommandPool(device, &pool, nullptr, &commandPool), "creating a command pool");
  CommandBufferAllocateInfo buffer{};
  buffer.pool = commandPool;
  buffer.count = 1;
  VULKAN_TRY(AllocateCommandBuffers(device, &buffer, &commands), "creating a command buffer");
  FenceCreateInfo fenceInfo{};
  VULKAN_TRY(CreateFence(device, &fenceInfo, nullptr, &fence), "creating a fence");
  return {};
}

/// All kernels have the same bindings.
Status VulkanDevice::createLayouts() {
  std::array<DescriptorSetLayoutBinding, bindingCount> bindings{};
  for (uint32_t i = 0; i < bindingCount; ++i)
    bindings[i] = {i, descriptorStorageBuffer, 1, stageCompute, nullptr};
  DescriptorSetLayoutCreateInfo set{};
  set.count = bindingCount;
  set.bindings = bindings.data();
  VULKAN_TRY(CreateDescriptorSetLayout(device, &set, nullptr, &setLayout), "creating a layout");
  PipelineLayoutCreateInfo layout{};
  layout.setCount = 1;
  layout.sets = &setLayout;
  VULKAN_TRY(CreatePipelineLayout(device, &layout, nullptr, &pipelineLayout), "creating a layout");
  return {};
}

//===--- Memory -------------------------------------------------------------------------------===//

Result<VulkanDevice::Memory> VulkanDevice::create(uint64_t bytes, bool forHost,
                                                  const std::string &what) {
  Memory memory;
  memory.bytes = (std::max<uint64_t>(bytes, 1) + 3) / 4 * 4;
  const std::string name =
      "allocating " + std::to_string(memory.bytes) + " bytes for " + what + " on " + deviceName;
  BufferCreateInfo info{};
  info.bytes = memory.bytes;
  info.usage = bufferStorage | bufferTransferSource | bufferTransferTarget;
  VULKAN_TRY(CreateBuffer(device, &info, nullptr, &memory.buffer), name);
  MemoryRequirements needs{};
  GetBufferMemoryRequirements(device, memory.buffer, &needs);
  const uint32_t wanted =
      forHost ? memoryHostVisible | memoryHostCoherent : uint32_t(memoryDeviceLocal);
  MemoryAllocateInfo allocation{};
  allocation.bytes = needs.bytes;
  allocation.type = memoryTypes.typeCount;
  for (uint32_t i = memoryTypes.typeCount; i-- > 0;)
    if (needs.types >> i & 1 && (memoryTypes.types[i].flags & wanted) == wanted)
      allocation.type = i;
  int32_t outcome = OutOfDeviceMemory;
  if (allocation.type < memoryTypes.typeCount)
    outcome = AllocateMemory(device, &allocation, nullptr, &memory.memory);
  if (outcome == Success)
    outcome = BindBufferMemory(device, memory.buffer, memory.memory, 0);
  void *mapped = nullptr;
  if (outcome == Success && forHost)
    outcome = MapMemory(device, memory.memory, 0, memory.bytes, 0, &mapped);
  if (outcome != Success) {
    destroy(memory);
    return failure(outcome, name);
  }
  memory.mapped = static_cast<std::byte *>(mapped);
  return memory;
}

void VulkanDevice::destroy(Memory &memory) {
  if (memory.buffer)
    DestroyBuffer(device, memory.buffer, nullptr);
  if (memory.memory)
    FreeMemory(device, memory.memory, nullptr);
  memory = {};
}

Result<int32_t> VulkanDevice::allocate(uint64_t bytes, const std::string &what) {
  SMELT_ASSIGN(Memory memory, create(bytes, false, what));
  memories.push_back(memory);
  SMELT_TRY(begin());
  CmdFillBuffer(commands, memory.buffer, 0, memory.bytes, 0);
  SMELT_TRY(submit());
  return int32_t(memories.size()) - 1;
}

Status VulkanDevice::copy(const Memory &from, uint64_t fromOffset, const Memory &to,
                          uint64_t toOffset, uint64_t bytes) {
  SMELT_TRY(begin());
  const BufferCopy region{fromOffset, toOffset, bytes};
  CmdCopyBuffer(commands, from.buffer, to.buffer, 1, &region);
  barrier(pipelineTransfer, accessTransferWrite, pipelineHost, accessHostRead);
  return submit();
}

Status VulkanDevice::write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const size_t part = std::min<size_t>(bytes.size() - done, stagingBytes);
    std::memcpy(staging.mapped, bytes.data() + done, part);
    SMELT_TRY(copy(staging, 0, memories[size_t(memory)], offset + done, part));
    done += part;
  }
  return {};
}

Status VulkanDevice::read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const size_t part = std::min<size_t>(bytes.size() - done, stagingBytes);
    SMELT_TRY(copy(memories[size_t(memory)], offset + done, staging, 0, part));
    std::memcpy(bytes.data() + done, staging.mapped, part);
    done += part;
  }
  return {};
}

//===--- Kernels and calls --------------------------------------------------------------------===//

Result<uint32_t> VulkanDevice::addKernel(std::span<const std::byte> code,
                                         const std::string &symbol) {
  Kernel kernel{};
  std::vector<uint32_t> words(code.size() / sizeof(uint32_t));
  std::memcpy(words.data(), code.data(), words.size() * sizeof(uint32_t));
  ShaderModuleCreateInfo module{};
  module.bytes = words.size() * sizeof(uint32_t);
  module.code = words.data();
  VULKAN_TRY(CreateShaderModule(device, &module, nullptr, &kernel.module), "loading " + symbol);
  kernels.push_back(kernel);
  ComputePipelineCreateInfo info{};
  info.stage.stage = stageCompute;
  info.stage.module = kernel.module;
  info.stage.entry = symbol.c_str();
  info.layout = pipelineLayout;
  VULKAN_TRY(CreateComputePipelines(device, 0, 1, &info, nullptr, &kernels.back().pipeline),
             "compiling " + symbol);
  return uint32_t(kernels.size()) - 1;
}

Status VulkanDevice::addCallBlock() {
  CallBlock block;
  const DescriptorPoolSize size{descriptorStorageBuffer, callsOfBlock * bindingCount};
  DescriptorPoolCreateInfo info{};
  info.sets = callsOfBlock;
  info.sizeCount = 1;
  info.sizes = &size;
  VULKAN_TRY(CreateDescriptorPool(device, &info, nullptr, &block.pool), "creating descriptors");
  callBlocks.push_back(block);
  SMELT_ASSIGN(callBlocks.back().offsets,
               create(callsOfBlock * offsetStride, true, "the operands of kernels"));
  return {};
}

Result<uint32_t> VulkanDevice::addCall(uint32_t kernel,
                                       std::span<const GpuOperand, format::operandCount> operands) {
  if (callBlocks.empty() || callBlocks.back().used == callsOfBlock)
    SMELT_TRY(addCallBlock());
  CallBlock &block = callBlocks.back();
  const uint64_t offsetsAt = offsetStride * block.used++;
  Call call{kernel, 0};
  DescriptorSetAllocateInfo info{};
  info.pool = block.pool;
  info.count = 1;
  info.layouts = &setLayout;
  VULKAN_TRY(AllocateDescriptorSets(device, &info, &call.set), "creating descriptors");

  // Bindings start at aligned places; what is left to the operand is given in words.
  std::array<DescriptorBufferInfo, bindingCount> buffers;
  buffers[0] = {stepFields.buffer, 0, stepFields.bytes};
  buffers[1] = {block.offsets.buffer, offsetsAt, offsetStride};
  std::array<int32_t, format::operandCount> rest{};
  for (size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].memory < 0) {
      buffers[2 + i] = buffers[0];
      continue;
    }
    const Memory &memory = memories[size_t(operands[i].memory)];
    const uint64_t start = operands[i].offset / bindingAlignment * bindingAlignment;
    buffers[2 + i] = {memory.buffer, start, std::min(memory.bytes - start, largestBinding)};
    rest[i] = int32_t((operands[i].offset - start) / sizeof(int32_t));
  }
  std::memcpy(block.offsets.mapped + offsetsAt, rest.data(), sizeof rest);
  std::array<WriteDescriptorSet, bindingCount> writes{};
  for (uint32_t i = 0; i < bindingCount; ++i) {
    writes[i].set = call.set;
    writes[i].binding = i;
    writes[i].count = 1;
    writes[i].type = descriptorStorageBuffer;
    writes[i].buffers = &buffers[i];
  }
  UpdateDescriptorSets(device, bindingCount, writes.data(), 0, nullptr);
  calls.push_back(call);
  return uint32_t(calls.size()) - 1;
}

//===--- Steps --------------------------------------------------------------------------------===//

Status VulkanDevice::begin() {
  CommandBufferBeginInfo info{};
  info.flags = commandBufferOneTime;
  VULKAN_TRY(BeginCommandBuffer(commands, &info), "recording commands");
  return {};
}

Status VulkanDevice::submit() {
  VULKAN_TRY(EndCommandBuffer(commands), "recording commands");
  SubmitInfo info{};
  info.commandCount = 1;
  info.commands = &commands;
  VULKAN_TRY(QueueSubmit(queue, 1, &info, fence), "starting work on " + deviceName);
  VULKAN_TRY(WaitForFences(device, 1, &fence, 1, ~uint64_t(0)), "work on " + deviceName);
  VULKAN_TRY(ResetFences(device, 1, &fence), "resetting a fence");
  return {};
}

void VulkanDevice::barrier(uint32_t from, uint32_t fromAccess, uint32_t to, uint32_t toAccess) {
  MemoryBarrier memory{};
  memory.before = fromAccess;
  memory.after = toAccess;
  CmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

Status VulkanDevice::run(std::span<const int32_t, format::FieldCount> fields,
                         std::span<const GpuDispatch> dispatches) {
  std::memcpy(stepFields.mapped, fields.data(), fields.size_bytes());
  SMELT_TRY(begin());
  for (const GpuDispatch &dispatch : dispatches) {
    const Call &call = calls[dispatch.call];
    CmdBindPipeline(commands, bindPointCompute, kernels[call.kernel].pipeline);
    CmdBindDescriptorSets(commands, bindPointCompute, pipelineLayout, 0, 1, &call.set, 0, nullptr);
    CmdDispatch(commands, dispatch.groups[0], dispatch.groups[1], dispatch.groups[2]);
    barrier(pipelineCompute, accessShaderWrite, pipelineCompute | pipelineTransfer,
            accessShaderRead | accessShaderWrite | accessTransferRead | accessTransferWrite);
  }
  return submit();
}

} // namespace

Result<std::vector<VulkanDeviceInfo>> vulkanDevices() {
  SMELT_ASSIGN(std::shared_ptr<Loader> loader, Loader::open());
  std::vector<VulkanDeviceInfo> devices;
  for (PhysicalDevice device : loader->devices)
    devices.push_back(infoOf(*loader, device));
  return devices;
}

Result<std::unique_ptr<GpuDevice>> openVulkanDevice(size_t number) {
  SMELT_ASSIGN(std::shared_ptr<Loader> loader, Loader::open());
  if (number >= loader->devices.size())
    return invalidArgument("vulkan: there is no device " + std::to_string(number) + ", found " +
                           std::to_string(loader->devices.size()) + " devices");
  const VulkanDeviceInfo info = infoOf(*loader, loader->devices[number]);
  if (!info.lacks.empty())
    return unsupported("vulkan: " + info.name + " cannot be used: " + info.lacks);
  auto device = std::make_unique<VulkanDevice>(loader);
  SMELT_TRY(device->open(loader->devices[number]));
  return std::unique_ptr<GpuDevice>(std::move(device));
}

} // namespace smelt
