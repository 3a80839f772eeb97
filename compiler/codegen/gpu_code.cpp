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

/// The modules of kernels, back to back.
class Modules {
public:
  static Result<Modules> create(const GpuTarget &target) {
    SMELT_ASSIGN(EmitModule emit, emitterFor(target));
    return Modules(std::move(emit), target);
  }

  /// How the kernel is started; its offset is counted from the first module.
  Result<format::GpuKernel> add(const KernelSpec &spec) {
    Result<Module> module = emit(spec);
    if (!module)
      return Status(module.status())
          .withContext("kernel " + spec.name() + " for " + std::string(target.name));
    const GpuLaunch launch = launchOf(spec, target);
    const size_t offset = code.size();
    code.insert(code.end(), module->begin(), module->end());
    return format::GpuKernel{uint32_t(launch.threads),
                             uint32_t(launch.groups),
                             uint32_t(launch.rowsPerGroup),
                             uint32_t(launch.overPositions),
                             offset,
                             module->size()};
  }

  /// The table of kernels, then the modules.
  template <typename Entry> std::vector<std::byte> after(const std::vector<Entry> &table) const {
    const auto entries = std::as_bytes(std::span(table));
    std::vector<std::byte> section(entries.begin(), entries.end());
    section.insert(section.end(), code.begin(), code.end());
    return section;
  }

private:
  EmitModule emit;
  const GpuTarget &target;
  std::vector<std::byte> code;
  Modules(EmitModule emit, const GpuTarget &target) : emit(std::move(emit)), target(target) {}
};

} // namespace

Result<std::vector<std::byte>> generateGpuCode(std::span<const KernelSpec> specs,
                                               const GpuTarget &target) {
  SMELT_ASSIGN(Modules modules, Modules::create(target));
  std::vector<format::GpuProgramKernel> table(specs.size());
  const size_t tableBytes = specs.size() * sizeof table[0];
  for (size_t i = 0; i < specs.size(); ++i) {
    SMELT_ASSIGN(table[i].usual, modules.add(specs[i]));
    table[i].usual.offset += tableBytes;
    if (auto wide = wideForm(specs[i], target)) {
      SMELT_ASSIGN(table[i].wide, modules.add(*wide));
      table[i].wide.offset += tableBytes;
    }
  }
  return modules.after(table);
}

Result<std::vector<std::byte>> generateLogitKernels(std::span<const KernelSpec> specs,
                                                    const GpuTarget &target) {
  SMELT_ASSIGN(Modules modules, Modules::create(target));
  std::vector<format::GpuNamedKernel> table(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i].name().copy(table[i].name, sizeof table[i].name - 1);
    SMELT_ASSIGN(table[i].kernel, modules.add(specs[i]));
    table[i].kernel.offset += specs.size() * sizeof table[i];
  }
  return modules.after(table);
}

} // namespace smelt
