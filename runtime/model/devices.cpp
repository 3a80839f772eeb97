// Choosing the device that runs a model.
#include "runtime/model/devices.h"

#include "runtime/devices/vulkan.h"

#include <charconv>

namespace smelt {

using format::GpuCodeKind;

namespace {

/// The number N of "vulkan:N"; 0 without one.
Result<size_t> deviceNumber(const std::string &name, std::string_view family) {
  if (name.size() == family.size())
    return size_t(0);
  size_t number = 0;
  const char *first = name.data() + family.size() + 1, *last = name.data() + name.size();
  auto [end, error] = std::from_chars(first, last, number);
  if (error != std::errc() || end != last)
    return invalidArgument("device '" + name + "': expected a number after '" +
                           std::string(family) + ":'");
  return number;
}

bool isOf(const std::string &name, std::string_view family) {
  return name == family || name.starts_with(std::string(family) + ":");
}

/// The first device that lacks nothing, of those that are processors or of the others.
ChosenDevice firstDevice(bool isProcessor) {
  auto devices = vulkanDevices();
  for (size_t i = 0; devices.ok() && i < devices->size(); ++i)
    if ((*devices)[i].isProcessor == isProcessor && (*devices)[i].lacks.empty())
      if (auto device = openVulkanDevice(i); device.ok())
        return {*std::move(device), GpuCodeKind::SpirV};
  return {};
}

ChosenDevice bestDevice(const Model &model) {
  if (model.artifact().gpuKernels(GpuCodeKind::SpirV).empty())
    return {};
  ChosenDevice gpu = firstDevice(false);
  return gpu.device || model.onCpu().ok() ? std::move(gpu) : firstDevice(true);
}

} // namespace

Result<ChosenDevice> chooseDevice(const Model &model, const std::string &name) {
  if (name == "cpu")
    return ChosenDevice{};
  if (name == "auto")
    return bestDevice(model);
  if (!isOf(name, "vulkan"))
    return invalidArgument("unknown device '" + name +
                           "', expected auto, cpu, vulkan or vulkan:N; `smelt devices` lists them");
  SMELT_ASSIGN(size_t number, deviceNumber(name, "vulkan"));
  if (model.artifact().gpuKernels(GpuCodeKind::SpirV).empty())
    return unsupported("the artifact holds no code for Vulkan; compile it with --target "
                       "portable,vulkan");
  ChosenDevice chosen;
  SMELT_ASSIGN(chosen.device, openVulkanDevice(number));
  return chosen;
}

} // namespace smelt
