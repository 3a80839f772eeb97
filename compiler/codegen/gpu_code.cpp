// GPU code sections: a table of how kernels are started, then their modules.
#include "compiler/codegen/gpu_code.h"

#include "compiler/codegen/spirv_emitter.h"

#include <cstring>

namespace smelt {

Result<std::vector<std::byte>> generateGpuCode(std::span<const KernelSpec> specs,
                                               const GpuTarget &target) {
  SpirvEmitter emitter(target);
  std::vector<format::GpuKernel> table;
  std::vector<std::byte> code;
  for (const KernelSpec &spec : specs) {
    Result<std::vector<uint32_t>> module = emitter.emit(spec);
    if (!module)
      return Status(module.status())
          .withContext("kernel " + spec.name() + " for " + std::string(target.name));
    const GpuLaunch launch = launchOf(spec, target);
    const auto bytes = std::as_bytes(std::span(*module));
    table.push_back({uint32_t(launch.threads), uint32_t(launch.groups),
                     uint32_t(launch.rowsPerGroup), uint32_t(launch.overPositions), code.size(),
                     bytes.size()});
    code.insert(code.end(), bytes.begin(), bytes.end());
  }
  const auto entries = std::as_bytes(std::span(table));
  for (format::GpuKernel &kernel : table)
    kernel.offset += entries.size();
  std::vector<std::byte> section(entries.begin(), entries.end());
  section.insert(section.end(), code.begin(), code.end());
  return section;
}

} // namespace smelt
