// Vulkan's loader by dlopen, an instance, and what it says about devices.
#include "runtime/devices/vulkan_loader.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>

namespace smelt::vulkan {

namespace {

/// What every kernel of ours may rely on (passes/lower/gpu_kernels.h: vulkanTarget).
constexpr uint32_t neededThreads = 128, neededSharedBytes = 16384;

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

} // namespace

Status failure(int32_t outcome, const std::string &what) {
  const bool isMemory = outcome == OutOfHostMemory || outcome == OutOfDeviceMemory;
  const StatusCode code = isMemory                ? StatusCode::Exhausted
                          : outcome == DeviceLost ? StatusCode::Internal
                                                  : StatusCode::Unsupported;
  return Status(code, "vulkan: " + what + " failed: " + describe(outcome));
}

//===--- Loader and instance ------------------------------------------------------------------===//

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

std::vector<uint64_t> freeBytesOfHeaps(const Loader &loader, PhysicalDevice device) {
  uint32_t count = 0;
  loader.EnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr);
  std::vector<ExtensionProperties> extensions(count);
  loader.EnumerateDeviceExtensionProperties(device, nullptr, &count, extensions.data());
  const bool isTold = std::any_of(extensions.begin(), extensions.end(), [](const auto &extension) {
    return std::strcmp(extension.name, "VK_EXT_memory_budget") == 0;
  });
  MemoryBudgetProperties budget{};
  MemoryProperties2 memory{};
  memory.next = isTold ? &budget : nullptr;
  loader.GetPhysicalDeviceMemoryProperties2(device, &memory);
  std::vector<uint64_t> free;
  for (uint32_t i = 0; i < memory.properties.heapCount; ++i)
    free.push_back(isTold ? budget.budget[i] - std::min(budget.budget[i], budget.usage[i])
                          : memory.properties.heaps[i].bytes);
  return free;
}

GpuLimits limitsOf(const Loader &loader, PhysicalDevice device) {
  Maintenance3Properties allocations{};
  PhysicalDeviceProperties2 properties{};
  properties.next = &allocations;
  loader.GetPhysicalDeviceProperties2(device, &properties);
  return {allocations.maxMemoryAllocationSize, properties.properties.limits.maxStorageBufferRange};
}

} // namespace smelt::vulkan
