// smelt devices: the devices of this machine by the names that --device takes.
#include "runtime/devices/cpu.h"
#include "runtime/devices/cuda.h"
#include "runtime/devices/vulkan.h"
#include "runtime/tools/commands.h"

#include <cstdio>

namespace smelt::cli {

namespace {

const char *noteOn(const VulkanDeviceInfo &info) {
  return info.isProcessor ? "; runs on the CPU, so that `auto` does not take it" : "";
}
const char *noteOn(const CudaDeviceInfo &) { return ""; }

/// Lists the devices of a family, or says why there are none.
template <typename Info>
void printFamily(const char *family, const Result<std::vector<Info>> &devices) {
  if (!devices.ok())
    std::printf("%-9s not used: %s\n", family, devices.status().message().c_str());
  else if (devices->empty())
    std::printf("%-9s not used: the driver finds no device\n", family);
  for (size_t i = 0; devices.ok() && i < devices->size(); ++i) {
    const Info &info = (*devices)[i];
    const std::string name = family + (":" + std::to_string(i));
    const std::string note = info.lacks.empty() ? noteOn(info) : "; not used: " + info.lacks;
    std::printf("%-9s %s%s\n", name.c_str(), info.name.c_str(), note.c_str());
  }
}

} // namespace

Status commandDevices(const Arguments &) {
  std::string code;
  for (const CpuTarget &target : cpuTargets())
    if (missingFeatures(target).empty())
      code += (code.empty() ? "" : ", ") + std::string(target.name);
  std::printf("cpu       %u cores; runs code for %s\n", defaultThreads(),
              code.empty() ? "no target that this smelt knows" : code.c_str());
  printFamily("cuda", cudaDevices());
  printFamily("vulkan", vulkanDevices());
  return {};
}

} // namespace smelt::cli
