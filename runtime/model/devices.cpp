// Choosing the device that runs a model.
#include "runtime/model/devices.h"

#include "runtime/devices/cuda.h"
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

bool holds(const Model &model, GpuCodeKind kind) {
  return !model.artifact().gpuKernels(kind).empty();
}

/// Whether `auto` should take a device before others: a GPU, and not a CPU that plays one.
bool isProcessor(const VulkanDeviceInfo &info) { return info.isProcessor; }
bool isProcessor(const CudaDeviceInfo &) { return false; }

/// The first device of a family that lacks nothing, of those that are processors or of the others.
template <typename Info, typename Open>
ChosenDevice firstOf(const Result<std::vector<Info>> &devices, bool processors, GpuCodeKind kind,
                     const Open &open) {
  for (size_t i = 0; devices.ok() && i < devices->size(); ++i)
    if (isProcessor((*devices)[i]) == processors && (*devices)[i].lacks.empty())
      if (auto device = open(i); device.ok())
        return {*std::move(device), kind};
  return {};
}

ChosenDevice firstVulkan(bool processors) {
  return firstOf(vulkanDevices(), processors, GpuCodeKind::SpirV,
                 [](size_t i) { return openVulkanDevice(i); });
}

/// NVIDIA's own way before the general one; a CPU by Vulkan only where nothing else runs the model.
ChosenDevice bestDevice(const Model &model) {
  if (holds(model, GpuCodeKind::Ptx)) {
    ChosenDevice gpu = firstOf(cudaDevices(), false, GpuCodeKind::Ptx, openCudaDevice);
    if (gpu.device)
      return gpu;
  }
  if (!holds(model, GpuCodeKind::SpirV))
    return {};
  ChosenDevice gpu = firstVulkan(false);
  return gpu.device || model.onCpu().ok() ? std::move(gpu) : firstVulkan(true);
}

} // namespace

Result<ChosenDevice> chooseDevice(const Model &model, const std::string &name) {
  if (name == "cpu")
    return ChosenDevice{};
  if (name == "auto")
    return bestDevice(model);
  const bool isCuda = isOf(name, "cuda");
  if (!isCuda && !isOf(name, "vulkan"))
    return invalidArgument("unknown device '" + name +
                           "', expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N; `smelt "
                           "devices` lists them");
  const std::string family = isCuda ? "cuda" : "vulkan";
  SMELT_ASSIGN(size_t number, deviceNumber(name, family));
  ChosenDevice chosen;
  chosen.kind = isCuda ? GpuCodeKind::Ptx : GpuCodeKind::SpirV;
  if (!holds(model, chosen.kind))
    return unsupported("the artifact holds no code for " + family +
                       "; compile it with --target portable," + family);
  SMELT_ASSIGN(chosen.device, isCuda ? openCudaDevice(number) : openVulkanDevice(number));
  return chosen;
}

} // namespace smelt
