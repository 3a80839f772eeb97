// Vulkan compute: a device, its memories, pipelines and command buffers.
#include "runtime/devices/recorded_steps.h"
#include "runtime/devices/vulkan_loader.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace smelt {

using namespace vulkan;

namespace {

//===--- Device -------------------------------------------------------------------------------===//

class VulkanDevice final : public GpuDevice {
public:
  explicit VulkanDevice(std::shared_ptr<Loader> loader) : loader(std::move(loader)) {}
  ~VulkanDevice() override;
  Status open(PhysicalDevice which, const GpuLimits &atMost);

  const std::string &name() const override { return deviceName; }
  GpuLimits limits() const override { return bounds; }
  uint64_t freeBytes() const override;
  Result<int32_t> allocate(uint64_t bytes, const std::string &what, GpuTransfer transfer) override;
  Status write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) override;
  Status read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) override;
  Status copy(std::span<const GpuCopy> copies) override;
  /// The code says itself how many threads it has.
  Result<uint32_t> addKernel(std::span<const std::byte> code, const std::string &symbol,
                             uint32_t) override;
  Result<uint32_t> addCall(uint32_t kernel,
                           std::span<const GpuOperand, format::operandCount> operands) override;
  Status run(std::span<const int32_t, format::FieldCount> fields,
             std::span<const GpuDispatch> dispatches) override;

private:
  struct Buffer {
    Handle buffer = 0, memory = 0;
    uint64_t bytes = 0;
    std::byte *mapped = nullptr; ///< of memory that the host sees
  };
  struct Memory {
    Buffer onDevice, onHost; ///< the second only where a run transfers it
    GpuTransfer transfer;
  };
  struct Kernel {
    Handle module, pipeline;
  };
  struct Call {
    uint32_t kernel;
    Handle set;
    std::array<int32_t, format::operandCount> memories;
  };
  /// Descriptor sets of so many calls, and where their operands start.
  struct CallBlock {
    Handle pool = 0;
    Buffer offsets;
    uint32_t used = 0;
  };
  static constexpr uint32_t callsOfBlock = 256;
  static constexpr uint64_t offsetStride = 256; ///< no device aligns bindings more
  static constexpr uint64_t stagingBytes = 4 << 20;
  static constexpr size_t fieldsMemory = 0; ///< of memories: the fields of the step

#define GLOBAL(name, result, parameters)
#define INSTANCE(name, result, parameters)
#define DEVICE(name, result, parameters) result(*name) parameters = nullptr;
#include "runtime/devices/vulkan_functions.def"

  std::shared_ptr<Loader> loader;
  std::string deviceName;
  PhysicalDevice physical = nullptr;
  Device device = nullptr;
  Queue queue = nullptr;
  MemoryProperties memoryTypes{};
  GpuLimits bounds;
  uint64_t bindingAlignment = 1;
  Handle setLayout = 0, pipelineLayout = 0, commandPool = 0, fence = 0;
  CommandBuffer once = nullptr; ///< recorded anew for every transfer
  Buffer staging;
  std::vector<Memory> memories;
  std::vector<Kernel> kernels;
  std::vector<CallBlock> callBlocks;
  std::vector<Call> calls;
  RecordedSteps<CommandBuffer> steps;

  Status createDevice();
  Status createLayouts();
  Result<CommandBuffer> createCommands();
  uint32_t memoryType(uint32_t usable, uint32_t flags) const;
  Result<Buffer> create(uint64_t bytes, bool forHost, const std::string &what);
  void destroy(Buffer &buffer);
  Status addCallBlock();
  Status begin(CommandBuffer commands, uint32_t flags);
  Status submit(CommandBuffer commands);
  void order(CommandBuffer commands, uint32_t from, uint32_t to);
  void copy(CommandBuffer commands, const Buffer &from, uint64_t fromOffset, const Buffer &to,
            uint64_t toOffset, uint64_t bytes);
  Status record(CommandBuffer commands, std::span<const GpuDispatch> dispatches);
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
  for (Memory &memory : memories) {
    destroy(memory.onDevice);
    destroy(memory.onHost);
  }
  destroy(staging);
  DestroyFence(device, fence, nullptr);
  DestroyCommandPool(device, commandPool, nullptr); // with the recorded steps
  DestroyPipelineLayout(device, pipelineLayout, nullptr);
  DestroyDescriptorSetLayout(device, setLayout, nullptr);
  DestroyDevice(device, nullptr);
}

Status VulkanDevice::open(PhysicalDevice which, const GpuLimits &atMost) {
  physical = which;
  const GpuLimits own = limitsOf(*loader, physical);
  bounds = {std::min(own.allocationBytes, atMost.allocationBytes),
            std::min(own.operandBytes, atMost.operandBytes)};
  SMELT_TRY(createDevice());
  SMELT_TRY(createLayouts());
  SMELT_ASSIGN(staging, create(stagingBytes, true, "transfers"));
  return allocate(format::FieldCount * sizeof(int32_t), "the step's fields", GpuTransfer::BeforeRun)
      .status();
}

Status VulkanDevice::createDevice() {
  PhysicalDeviceProperties properties{};
  loader->GetPhysicalDeviceProperties(physical, &properties);
  deviceName = properties.name;
  bindingAlignment = std::max<uint64_t>(4, properties.limits.minStorageBufferOffsetAlignment);
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
  SMELT_ASSIGN(once, createCommands());
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

/// The first type with these flags among the usable ones (bit i: type i); none: typeCount.
uint32_t VulkanDevice::memoryType(uint32_t usable, uint32_t flags) const {
  uint32_t type = 0;
  while (type < memoryTypes.typeCount &&
         !(usable >> type & 1 && (memoryTypes.types[type].flags & flags) == flags))
    ++type;
  return type;
}

Result<VulkanDevice::Buffer> VulkanDevice::create(uint64_t bytes, bool forHost,
                                                  const std::string &what) {
  Buffer made;
  made.bytes = (std::max<uint64_t>(bytes, 1) + 3) / 4 * 4;
  const std::string name =
      "allocating " + std::to_string(made.bytes) + " bytes for " + what + " on " + deviceName;
  BufferCreateInfo info{};
  info.bytes = made.bytes;
  info.usage = bufferStorage | bufferTransferSource | bufferTransferTarget;
  VULKAN_TRY(CreateBuffer(device, &info, nullptr, &made.buffer), name);
  MemoryRequirements needs{};
  GetBufferMemoryRequirements(device, made.buffer, &needs);
  MemoryAllocateInfo allocation{};
  allocation.bytes = needs.bytes;
  if (forHost) {
    // What the host reads is slow without its caches.
    constexpr uint32_t coherent = memoryHostVisible | memoryHostCoherent;
    allocation.type = memoryType(needs.types, coherent | memoryHostCached);
    if (allocation.type == memoryTypes.typeCount)
      allocation.type = memoryType(needs.types, coherent);
  } else {
    allocation.type = memoryType(needs.types, memoryDeviceLocal);
  }
  int32_t outcome = OutOfDeviceMemory;
  if (allocation.type < memoryTypes.typeCount)
    outcome = AllocateMemory(device, &allocation, nullptr, &made.memory);
  if (outcome == Success)
    outcome = BindBufferMemory(device, made.buffer, made.memory, 0);
  void *mapped = nullptr;
  if (outcome == Success && forHost)
    outcome = MapMemory(device, made.memory, 0, made.bytes, 0, &mapped);
  if (outcome != Success) {
    destroy(made);
    return failure(outcome, name);
  }
  made.mapped = static_cast<std::byte *>(mapped);
  return made;
}

void VulkanDevice::destroy(Buffer &buffer) {
  if (buffer.buffer)
    DestroyBuffer(device, buffer.buffer, nullptr);
  if (buffer.memory)
    FreeMemory(device, buffer.memory, nullptr);
  buffer = {};
}

uint64_t VulkanDevice::freeBytes() const {
  const uint32_t type = memoryType(~0u, memoryDeviceLocal);
  return type == memoryTypes.typeCount
             ? 0
             : freeBytesOfHeaps(*loader, physical)[memoryTypes.types[type].heap];
}

Result<int32_t> VulkanDevice::allocate(uint64_t bytes, const std::string &what,
                                       GpuTransfer transfer) {
  if (bytes > bounds.allocationBytes)
    return exhausted("vulkan: allocating " + std::to_string(bytes) + " bytes for " + what + " on " +
                     deviceName + " failed: one memory has at most " +
                     std::to_string(bounds.allocationBytes) + " bytes there");
  memories.push_back({{}, {}, GpuTransfer::Asked});
  Memory &memory = memories.back();
  SMELT_ASSIGN(memory.onDevice, create(bytes, false, what));
  SMELT_TRY(begin(once, commandBufferOneTime));
  CmdFillBuffer(once, memory.onDevice.buffer, 0, memory.onDevice.bytes, 0);
  SMELT_TRY(submit(once));
  if (transfer != GpuTransfer::Asked) {
    SMELT_ASSIGN(memory.onHost, create(bytes, true, what));
    std::memset(memory.onHost.mapped, 0, memory.onHost.bytes);
    memory.transfer = transfer;
    // Recorded steps do not know of it.
    steps.clear(
        [&](CommandBuffer commands) { FreeCommandBuffers(device, commandPool, 1, &commands); });
  }
  return int32_t(memories.size()) - 1;
}

Status VulkanDevice::write(int32_t memory, uint64_t offset, std::span<const std::byte> bytes) {
  const Memory &to = memories[size_t(memory)];
  if (to.transfer == GpuTransfer::BeforeRun) {
    std::memcpy(to.onHost.mapped + offset, bytes.data(), bytes.size());
    return {};
  }
  for (size_t done = 0; done < bytes.size();) {
    const size_t part = std::min<size_t>(bytes.size() - done, stagingBytes);
    std::memcpy(staging.mapped, bytes.data() + done, part);
    SMELT_TRY(begin(once, commandBufferOneTime));
    copy(once, staging, 0, to.onDevice, offset + done, part);
    SMELT_TRY(submit(once));
    done += part;
  }
  return {};
}

Status VulkanDevice::read(int32_t memory, uint64_t offset, std::span<std::byte> bytes) {
  const Memory &from = memories[size_t(memory)];
  if (from.transfer == GpuTransfer::AfterRun) {
    std::memcpy(bytes.data(), from.onHost.mapped + offset, bytes.size());
    return {};
  }
  for (size_t done = 0; done < bytes.size();) {
    const size_t part = std::min<size_t>(bytes.size() - done, stagingBytes);
    SMELT_TRY(begin(once, commandBufferOneTime));
    copy(once, from.onDevice, offset + done, staging, 0, part);
    SMELT_TRY(submit(once));
    std::memcpy(bytes.data() + done, staging.mapped, part);
    done += part;
  }
  return {};
}

Status VulkanDevice::copy(std::span<const GpuCopy> copies) {
  SMELT_TRY(begin(once, commandBufferOneTime));
  for (const GpuCopy &c : copies)
    copy(once, memories[size_t(c.from)].onDevice, c.fromOffset, memories[size_t(c.to)].onDevice,
         c.toOffset, c.bytes);
  return submit(once);
}

//===--- Kernels and calls --------------------------------------------------------------------===//

Result<uint32_t> VulkanDevice::addKernel(std::span<const std::byte> code, const std::string &symbol,
                                         uint32_t) {
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
  Call call{kernel, 0, {}};
  DescriptorSetAllocateInfo info{};
  info.pool = block.pool;
  info.count = 1;
  info.layouts = &setLayout;
  VULKAN_TRY(AllocateDescriptorSets(device, &info, &call.set), "creating descriptors");

  // Bindings start at aligned places; what is left to the operand is given in words.
  std::array<DescriptorBufferInfo, bindingCount> buffers;
  const Buffer &fields = memories[fieldsMemory].onDevice;
  buffers[0] = {fields.buffer, 0, fields.bytes};
  buffers[1] = {block.offsets.buffer, offsetsAt, offsetStride};
  std::array<int32_t, format::operandCount> rest{};
  for (size_t i = 0; i < operands.size(); ++i) {
    call.memories[i] = operands[i].memory;
    if (operands[i].memory < 0) {
      buffers[2 + i] = buffers[0];
      continue;
    }
    const Buffer &memory = memories[size_t(operands[i].memory)].onDevice;
    const uint64_t start = operands[i].offset / bindingAlignment * bindingAlignment;
    buffers[2 + i] = {memory.buffer, start, std::min(memory.bytes - start, bounds.operandBytes)};
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

Result<CommandBuffer> VulkanDevice::createCommands() {
  CommandBufferAllocateInfo info{};
  info.pool = commandPool;
  info.count = 1;
  CommandBuffer commands = nullptr;
  VULKAN_TRY(AllocateCommandBuffers(device, &info, &commands), "creating a command buffer");
  return commands;
}

/// What is recorded sees all that was submitted before.
Status VulkanDevice::begin(CommandBuffer commands, uint32_t flags) {
  CommandBufferBeginInfo info{};
  info.flags = flags;
  VULKAN_TRY(BeginCommandBuffer(commands, &info), "recording commands");
  order(commands, pipelineCompute | pipelineTransfer, pipelineCompute | pipelineTransfer);
  return {};
}

/// Ends the recording, if it is not one that has run before, runs it and waits.
Status VulkanDevice::submit(CommandBuffer commands) {
  if (commands == once) {
    order(commands, pipelineTransfer, pipelineHost);
    VULKAN_TRY(EndCommandBuffer(commands), "recording commands");
  }
  SubmitInfo info{};
  info.commandCount = 1;
  info.commands = &commands;
  VULKAN_TRY(QueueSubmit(queue, 1, &info, fence), "starting work on " + deviceName);
  VULKAN_TRY(WaitForFences(device, 1, &fence, 1, ~uint64_t(0)), "work on " + deviceName);
  VULKAN_TRY(ResetFences(device, 1, &fence), "resetting a fence");
  return {};
}

/// What is recorded from here on, of the stages `to` (the host among them), sees what those of
/// `from` have written before. No stage is named in vain: devices empty caches for the host.
void VulkanDevice::order(CommandBuffer commands, uint32_t from, uint32_t to) {
  MemoryBarrier memory{};
  if (from & pipelineCompute)
    memory.before |= accessShaderWrite;
  if (from & pipelineTransfer)
    memory.before |= accessTransferWrite;
  if (to & pipelineCompute)
    memory.after |= accessShaderRead | accessShaderWrite;
  if (to & pipelineTransfer)
    memory.after |= accessTransferRead | accessTransferWrite;
  if (to & pipelineHost)
    memory.after |= accessHostRead;
  CmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

void VulkanDevice::copy(CommandBuffer commands, const Buffer &from, uint64_t fromOffset,
                        const Buffer &to, uint64_t toOffset, uint64_t bytes) {
  const BufferCopy region{fromOffset, toOffset, bytes};
  CmdCopyBuffer(commands, from.buffer, to.buffer, 1, &region);
}

/// A whole step, to be submitted any number of times.
Status VulkanDevice::record(CommandBuffer commands, std::span<const GpuDispatch> dispatches) {
  SMELT_TRY(begin(commands, 0));
  for (const Memory &memory : memories)
    if (memory.transfer == GpuTransfer::BeforeRun)
      copy(commands, memory.onHost, 0, memory.onDevice, 0, memory.onDevice.bytes);
  order(commands, pipelineTransfer, pipelineCompute);
  uint32_t bound = ~0u;
  for (const GpuDispatch &dispatch : dispatches) {
    const Call &call = calls[dispatch.call];
    if (dispatch.waits)
      order(commands, pipelineCompute, pipelineCompute);
    if (call.kernel != bound)
      CmdBindPipeline(commands, bindPointCompute, kernels[call.kernel].pipeline);
    bound = call.kernel;
    CmdBindDescriptorSets(commands, bindPointCompute, pipelineLayout, 0, 1, &call.set, 0, nullptr);
    CmdDispatch(commands, dispatch.groups[0], dispatch.groups[1], dispatch.groups[2]);
  }
  order(commands, pipelineCompute, pipelineTransfer);
  for (size_t i = 0; i < memories.size(); ++i)
    if (const Memory &memory = memories[i];
        memory.transfer == GpuTransfer::AfterRun && isBroughtBack(dispatches, calls, i))
      copy(commands, memory.onDevice, 0, memory.onHost, 0, memory.onDevice.bytes);
  order(commands, pipelineTransfer, pipelineHost);
  VULKAN_TRY(EndCommandBuffer(commands), "recording commands");
  return {};
}

Status VulkanDevice::run(std::span<const int32_t, format::FieldCount> fields,
                         std::span<const GpuDispatch> dispatches) {
  SMELT_TRY(write(fieldsMemory, 0, std::as_bytes(fields)));
  if (auto *step = steps.find(dispatches))
    return submit(step->recording);
  SMELT_ASSIGN(CommandBuffer commands, createCommands());
  Status recorded = record(commands, dispatches);
  CommandBuffer dropped = recorded.ok() ? steps.add(dispatches, commands) : commands;
  if (dropped)
    FreeCommandBuffers(device, commandPool, 1, &dropped);
  SMELT_TRY(std::move(recorded));
  return submit(commands);
}

} // namespace

Result<std::vector<VulkanDeviceInfo>> vulkanDevices() {
  SMELT_ASSIGN(std::shared_ptr<Loader> loader, Loader::open());
  std::vector<VulkanDeviceInfo> devices;
  for (PhysicalDevice device : loader->devices)
    devices.push_back(infoOf(*loader, device));
  return devices;
}

Result<std::unique_ptr<GpuDevice>> openVulkanDevice(size_t number, const GpuLimits &atMost) {
  SMELT_ASSIGN(std::shared_ptr<Loader> loader, Loader::open());
  if (number >= loader->devices.size())
    return invalidArgument("vulkan: there is no device " + std::to_string(number) + ", found " +
                           std::to_string(loader->devices.size()) + " devices");
  const VulkanDeviceInfo info = infoOf(*loader, loader->devices[number]);
  if (!info.lacks.empty())
    return unsupported("vulkan: " + info.name + " cannot be used: " + info.lacks);
  auto device = std::make_unique<VulkanDevice>(loader);
  SMELT_TRY(device->open(loader->devices[number], atMost));
  return std::unique_ptr<GpuDevice>(std::move(device));
}

} // namespace smelt
