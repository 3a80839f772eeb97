// Vulkan devices; the loader is found at run time.
#pragma once

#include "runtime/devices/gpu.h"

#include <memory>
#include <vector>

namespace smelt {

/// One device of the system, in the loader's order.
struct VulkanDeviceInfo {
  std::string name;
  bool isProcessor = false; ///< an implementation on the CPU, as Mesa's lavapipe is
  std::string lacks;        ///< why it cannot be used; empty: it can
};

/// NotFound: there is no Vulkan loader; Unsupported: it is too old.
Result<std::vector<VulkanDeviceInfo>> vulkanDevices();

/// Opens the device with this number of vulkanDevices(), to be used within `atMost` and its own
/// limits.
Result<std::unique_ptr<GpuDevice>> openVulkanDevice(size_t number, const GpuLimits &atMost = {});

} // namespace smelt
