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

/// The modules of kernels, back to back, and how each is started; offsets within `code`.
struct Modules {
  std::vector<format::GpuKernel> kernels;
  std::vector<std::byte> code;
};

Result<Modules> emitModules(std::span<const KernelSpec> specs, const GpuTarget &target) {
  SMELT_ASSIGN(EmitModule emit, emitterFor(target));
  Modules made;
  for (const KernelSpec &spec : specs) {
    Result<Module> module = emit(spec);
    if (!module)
      return Status(module.status())
          .withContext("kernel " + spec.name() + " for " + std::string(target.name));
    const GpuLaunch launch = launchOf(spec, target);
    made.kernels.push_back({uint32_t(launch.threads), uint32_t(launch.groups),
                            uint32_t(launch.rowsPerGroup), uint32_t(launch.overPositions),
                            made.code.size(), module->size()});
    made.code.insert(made.code.end(), module->begin(), module->end());
  }
  return made;
}

template <typename Entry>
std::vector<std::byte> sectionOf(const std::vector<Entry> &table, const Modules &modules) {
  const auto entries = std::as_bytes(std::span(table));
  std::vector<std::byte> section(entries.begin(), entries.end());
  section.insert(section.end(), modules.code.begin(), modules.code.end());
  return section;
}

} // namespace

Result<std::vector<std::byte>> generateGpuCode(std::span<const KernelSpec> specs,
                                               const GpuTarget &target) {
  SMELT_ASSIGN(Modules modules, emitModules(specs, target));
  for (format::GpuKernel &kernel : modules.kernels)
    kernel.offset += modules.kernels.size() * sizeof(format::GpuKernel);
  return sectionOf(modules.kernels, modules);
}

Result<std::vector<std::byte>> generateLogitKernels(std::span<const KernelSpec> specs,
                                                    const GpuTarget &target) {
  SMELT_ASSIGN(Modules modules, emitModules(specs, target));
  std::vector<format::GpuNamedKernel> table(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i].name().copy(table[i].name, sizeof table[i].name - 1);
    table[i].kernel = modules.kernels[i];
    table[i].kernel.offset += specs.size() * sizeof(format::GpuNamedKernel);
  }
  return sectionOf(table, modules);
}

} // namespace smelt
