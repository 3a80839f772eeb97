// smelt devices: the devices of this machine by the names that --device takes.
#include "runtime/devices/cpu.h"
#include "runtime/devices/vulkan.h"
#include "runtime/tools/commands.h"

#include <cstdio>

namespace smelt::cli {

Status commandDevices(const Arguments &) {
  std::string code;
  for (const CpuTarget &target : cpuTargets())
    if (missingFeatures(target).empty())
      code += (code.empty() ? "" : ", ") + std::string(target.name);
  std::printf("cpu       %u cores; runs code for %s\n", defaultThreads(),
              code.empty() ? "no target that this smelt knows" : code.c_str());
  auto devices = vulkanDevices();
  if (!devices.ok())
    std::printf("vulkan    not used: %s\n", devices.status().message().c_str());
  else if (devices->empty())
    std::printf("vulkan    not used: the loader finds no device\n");
  for (size_t i = 0; devices.ok() && i < devices->size(); ++i) {
    const VulkanDeviceInfo &info = (*devices)[i];
    std::string note;
    if (!info.lacks.empty())
      note = "; not used: " + info.lacks;
    else if (info.isProcessor)
      note = "; runs on the CPU, so that `auto` does not take it";
    std::printf("vulkan:%-2zu %s%s\n", i, info.name.c_str(), note.c_str());
  }
  return {};
}

} // namespace smelt::cli
