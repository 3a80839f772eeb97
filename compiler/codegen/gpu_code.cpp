// GPU code sections: a table of how kernels are started, then their modules.
#include "compiler/codegen/gpu_code.h"

#include "compiler/codegen/ptx_emitter.h"
#include "compiler/codegen/spirv_emitter.h"

#include <cstring>
#include <functional>

namespace smelt {

namespace {

using Module = std::vector<std::byte>; ///< a multiple of four bytes
using EmitModule = std::function<Result<Module>(const KernelSpec &)>;

Result<EmitModule> emitterFor(const GpuTarget &target) {
  if (!target.isPtx())
    return EmitModule([emitter = std::make_shared<SpirvEmitter>(target)](
                          const KernelSpec &spec) -> Result<Module> {
      SMELT_ASSIGN(std::vector<uint32_t> words, emitter->emit(spec));
      const auto bytes = std::as_bytes(std::span(words));
      return Module(bytes.begin(), bytes.end());
    });
  SMELT_ASSIGN(std::shared_ptr<PtxEmitter> ptx, PtxEmitter::create(target));
  return EmitModule([ptx](const KernelSpec &spec) -> Result<Module> {
    SMELT_ASSIGN(std::string text, ptx->emit(spec));
    const auto bytes = std::as_bytes(std::span(text));
    Module module(bytes.begin(), bytes.end());
    module.resize((text.size() / 4 + 1) * 4); // ends with one zero at least
    return module;
  });
}

} // namespace

Result<std::vector<std::byte>> generateGpuCode(std::span<const KernelSpec> specs,
                                               const GpuTarget &target) {
  SMELT_ASSIGN(EmitModule emit, emitterFor(target));
  std::vector<format::GpuKernel> table;
  std::vector<std::byte> code;
  for (const KernelSpec &spec : specs) {
    Result<Module> module = emit(spec);
    if (!module)
      return Status(module.status())
          .withContext("kernel " + spec.name() + " for " + std::string(target.name));
    const GpuLaunch launch = launchOf(spec, target);
    table.push_back({uint32_t(launch.threads), uint32_t(launch.groups),
                     uint32_t(launch.rowsPerGroup), uint32_t(launch.overPositions), code.size(),
                     module->size()});
    code.insert(code.end(), module->begin(), module->end());
  }
  const auto entries = std::as_bytes(std::span(table));
  for (format::GpuKernel &kernel : table)
    kernel.offset += entries.size();
  std::vector<std::byte> section(entries.begin(), entries.end());
  section.insert(section.end(), code.begin(), code.end());
  return section;
}

} // namespace smelt
