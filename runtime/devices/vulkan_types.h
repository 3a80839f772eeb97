// The part of Vulkan's binary interface that is in use here, so that neither its headers nor its
// loader are needed to build. Names and layouts are those of the Vulkan 1.1 specification without
// their prefixes; 64-bit systems only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace smelt::vulkan {

static_assert(sizeof(void *) == 8, "handles are 64 bits wide");
using Instance = struct InstanceObject *;
using PhysicalDevice = struct PhysicalDeviceObject *;
using Device = struct DeviceObject *;
using Queue = struct QueueObject *;
using CommandBuffer = struct CommandBufferObject *;
using Handle = uint64_t; ///< of everything else
using Function = void (*)();

enum Outcome : int32_t {
  Success = 0,
  OutOfHostMemory = -1,
  OutOfDeviceMemory = -2,
  InitializationFailed = -3,
  DeviceLost = -4,
  IncompatibleDriver = -9,
};

/// First member of structures that can be extended: what they are.
enum class Kind : uint32_t {
  Application = 0,
  InstanceCreate = 1,
  DeviceQueueCreate = 2,
  DeviceCreate = 3,
  Submit = 4,
  MemoryAllocate = 5,
  FenceCreate = 8,
  BufferCreate = 12,
  ShaderModuleCreate = 16,
  PipelineShaderStageCreate = 18,
  ComputePipelineCreate = 29,
  PipelineLayoutCreate = 30,
  DescriptorSetLayoutCreate = 32,
  DescriptorPoolCreate = 33,
  DescriptorSetAllocate = 34,
  WriteDescriptorSet = 35,
  CommandPoolCreate = 39,
  CommandBufferAllocate = 40,
  CommandBufferBegin = 42,
  MemoryBarrier = 46,
  PhysicalDeviceProperties2 = 1000059001,
  PhysicalDeviceMemoryProperties2 = 1000059006,
  PhysicalDeviceMaintenance3Properties = 1000168000,
  PhysicalDeviceMemoryBudgetProperties = 1000237000,
};

inline constexpr uint32_t version1_1 = 1u << 22 | 1u << 12;
inline constexpr uint32_t deviceTypeProcessor = 4;
inline constexpr uint32_t queueCompute = 0x2;
inline constexpr uint32_t memoryDeviceLocal = 0x1, memoryHostVisible = 0x2,
                          memoryHostCoherent = 0x4, memoryHostCached = 0x8;
inline constexpr uint32_t bufferTransferSource = 0x1, bufferTransferTarget = 0x2,
                          bufferStorage = 0x20;
inline constexpr uint32_t descriptorStorageBuffer = 7;
inline constexpr uint32_t stageCompute = 0x20; ///< of a shader
inline constexpr uint32_t pipelineCompute = 0x800, pipelineTransfer = 0x1000, pipelineHost = 0x4000;
inline constexpr uint32_t accessShaderRead = 0x20, accessShaderWrite = 0x40,
                          accessTransferRead = 0x800, accessTransferWrite = 0x1000,
                          accessHostRead = 0x2000, accessHostWrite = 0x4000;
inline constexpr uint32_t bindPointCompute = 1;
inline constexpr uint32_t commandPoolResetsBuffers = 0x2, commandBufferOneTime = 0x1;

struct ApplicationInfo {
  Kind kind = Kind::Application;
  const void *next = nullptr;
  const char *name;
  uint32_t version;
  const char *engineName;
  uint32_t engineVersion;
  uint32_t apiVersion;
};
struct InstanceCreateInfo {
  Kind kind = Kind::InstanceCreate;
  const void *next = nullptr;
  uint32_t flags;
  const ApplicationInfo *application;
  uint32_t layerCount;
  const char *const *layers;
  uint32_t extensionCount;
  const char *const *extensions;
};
/// Of the limits only those in use have names.
struct PhysicalDeviceProperties {
  uint32_t apiVersion, driverVersion, vendor, device, type;
  char name[256];
  uint8_t pipelineCache[16];
  struct alignas(8) Limits {
    uint32_t before[7];
    uint32_t maxStorageBufferRange;
    uint32_t between[11];
    uint32_t maxPerStageDescriptorStorageBuffers;
    uint32_t further[34];
    uint32_t maxComputeSharedMemorySize;
    uint32_t maxComputeWorkGroupCount[3];
    uint32_t maxComputeWorkGroupInvocations;
    uint32_t later[23];
    uint64_t minStorageBufferOffsetAlignment;
    uint32_t last[42];
  } limits;
  uint32_t sparse[5];
};
static_assert(sizeof(PhysicalDeviceProperties) == 824);
static_assert(offsetof(PhysicalDeviceProperties, limits) == 296);
static_assert(offsetof(PhysicalDeviceProperties::Limits, maxStorageBufferRange) == 28);
static_assert(offsetof(PhysicalDeviceProperties::Limits, maxPerStageDescriptorStorageBuffers) ==
              76);
static_assert(offsetof(PhysicalDeviceProperties::Limits, maxComputeSharedMemorySize) == 216);
static_assert(offsetof(PhysicalDeviceProperties::Limits, minStorageBufferOffsetAlignment) == 328);
struct MemoryProperties {
  uint32_t typeCount;
  struct {
    uint32_t flags, heap;
  } types[32];
  uint32_t heapCount;
  struct {
    uint64_t bytes;
    uint32_t flags;
  } heaps[16];
};
static_assert(sizeof(MemoryProperties) == 520);
struct PhysicalDeviceProperties2 {
  Kind kind = Kind::PhysicalDeviceProperties2;
  void *next = nullptr;
  PhysicalDeviceProperties properties;
};
struct Maintenance3Properties {
  Kind kind = Kind::PhysicalDeviceMaintenance3Properties;
  void *next = nullptr;
  uint32_t maxPerSetDescriptors;
  uint64_t maxMemoryAllocationSize;
};
struct MemoryProperties2 {
  Kind kind = Kind::PhysicalDeviceMemoryProperties2;
  void *next = nullptr;
  MemoryProperties properties;
};
/// Of VK_EXT_memory_budget: what this process may use of every heap, and what it uses.
struct MemoryBudgetProperties {
  Kind kind = Kind::PhysicalDeviceMemoryBudgetProperties;
  void *next = nullptr;
  uint64_t budget[16], usage[16];
};
struct ExtensionProperties {
  char name[256];
  uint32_t version;
};
struct QueueFamilyProperties {
  uint32_t flags, count, timestampBits, granularity[3];
};
struct DeviceQueueCreateInfo {
  Kind kind = Kind::DeviceQueueCreate;
  const void *next = nullptr;
  uint32_t flags, family, count;
  const float *priorities;
};
struct DeviceCreateInfo {
  Kind kind = Kind::DeviceCreate;
  const void *next = nullptr;
  uint32_t flags, queueCount;
  const DeviceQueueCreateInfo *queues;
  uint32_t layerCount;
  const char *const *layers;
  uint32_t extensionCount;
  const char *const *extensions;
  const void *features;
};
struct BufferCreateInfo {
  Kind kind = Kind::BufferCreate;
  const void *next = nullptr;
  uint32_t flags;
  uint64_t bytes;
  uint32_t usage, sharing, familyCount;
  const uint32_t *families;
};
struct MemoryRequirements {
  uint64_t bytes, alignment;
  uint32_t types; ///< bit i: type i will do
};
struct MemoryAllocateInfo {
  Kind kind = Kind::MemoryAllocate;
  const void *next = nullptr;
  uint64_t bytes;
  uint32_t type;
};
struct ShaderModuleCreateInfo {
  Kind kind = Kind::ShaderModuleCreate;
  const void *next = nullptr;
  uint32_t flags;
  size_t bytes;
  const uint32_t *code;
};
struct DescriptorSetLayoutBinding {
  uint32_t binding, type, count, stages;
  const void *samplers;
};
struct DescriptorSetLayoutCreateInfo {
  Kind kind = Kind::DescriptorSetLayoutCreate;
  const void *next = nullptr;
  uint32_t flags, count;
  const DescriptorSetLayoutBinding *bindings;
};
struct PipelineLayoutCreateInfo {
  Kind kind = Kind::PipelineLayoutCreate;
  const void *next = nullptr;
  uint32_t flags, setCount;
  const Handle *sets;
  uint32_t constantCount;
  const void *constants;
};
struct PipelineShaderStageCreateInfo {
  Kind kind = Kind::PipelineShaderStageCreate;
  const void *next = nullptr;
  uint32_t flags, stage;
  Handle module;
  const char *entry;
  const void *specialization;
};
struct ComputePipelineCreateInfo {
  Kind kind = Kind::ComputePipelineCreate;
  const void *next = nullptr;
  uint32_t flags;
  PipelineShaderStageCreateInfo stage;
  Handle layout, base;
  int32_t baseIndex;
};
struct DescriptorPoolSize {
  uint32_t type, count;
};
struct DescriptorPoolCreateInfo {
  Kind kind = Kind::DescriptorPoolCreate;
  const void *next = nullptr;
  uint32_t flags, sets, sizeCount;
  const DescriptorPoolSize *sizes;
};
struct DescriptorSetAllocateInfo {
  Kind kind = Kind::DescriptorSetAllocate;
  const void *next = nullptr;
  Handle pool;
  uint32_t count;
  const Handle *layouts;
};
struct DescriptorBufferInfo {
  Handle buffer;
  uint64_t offset, bytes;
};
struct WriteDescriptorSet {
  Kind kind = Kind::WriteDescriptorSet;
  const void *next = nullptr;
  Handle set;
  uint32_t binding, element, count, type;
  const void *images;
  const DescriptorBufferInfo *buffers;
  const void *texels;
};
struct CommandPoolCreateInfo {
  Kind kind = Kind::CommandPoolCreate;
  const void *next = nullptr;
  uint32_t flags, family;
};
struct CommandBufferAllocateInfo {
  Kind kind = Kind::CommandBufferAllocate;
  const void *next = nullptr;
  Handle pool;
  uint32_t level, count;
};
struct CommandBufferBeginInfo {
  Kind kind = Kind::CommandBufferBegin;
  const void *next = nullptr;
  uint32_t flags;
  const void *inheritance;
};
struct MemoryBarrier {
  Kind kind = Kind::MemoryBarrier;
  const void *next = nullptr;
  uint32_t before, after;
};
struct BufferCopy {
  uint64_t from, to, bytes;
};
struct SubmitInfo {
  Kind kind = Kind::Submit;
  const void *next = nullptr;
  uint32_t waitCount;
  const Handle *waits;
  const uint32_t *waitStages;
  uint32_t commandCount;
  const CommandBuffer *commands;
  uint32_t signalCount;
  const Handle *signals;
};
struct FenceCreateInfo {
  Kind kind = Kind::FenceCreate;
  const void *next = nullptr;
  uint32_t flags;
};

} // namespace smelt::vulkan
