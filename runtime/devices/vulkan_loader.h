// Vulkan's loader and what it says about devices.
#pragma once

#include "runtime/devices/vulkan.h"
#include "runtime/devices/vulkan_types.h"

#include <memory>
#include <string>
#include <vector>

namespace smelt::vulkan {

/// Bindings of a kernel: fields, where operands start, operands.
inline constexpr uint32_t bindingCount = 2 + format::operandCount;

/// What a Vulkan call that was to do `what` has refused.
Status failure(int32_t outcome, const std::string &what);

/// Returns the failure of a Vulkan call to the caller.
#define VULKAN_TRY(call, what)                                                                     \
  do {                                                                                             \
    if (int32_t outcome = (call); outcome != Success)                                              \
      return failure(outcome, what);                                                               \
  } while (false)

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

/// The first queue family that computes; none: -1.
int64_t computeFamily(const Loader &loader, PhysicalDevice device);

/// Whether the device can be used.
VulkanDeviceInfo infoOf(const Loader &loader, PhysicalDevice device);

/// Bytes of every heap that are still free, as far as the driver says (VK_EXT_memory_budget), else
/// its size.
std::vector<uint64_t> freeBytesOfHeaps(const Loader &loader, PhysicalDevice device);

/// The largest memory and the largest binding of it.
GpuLimits limitsOf(const Loader &loader, PhysicalDevice device);

} // namespace smelt::vulkan
