// Lowering, code generation and the sections that they fill, for CPUs and GPUs together.
#include "compiler/driver/programs.h"

#include "compiler/codegen/gpu_code.h"
#include "compiler/graph/stored_weights.h"
#include "passes/tensor/lower.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace smelt {

Result<Programs> lowerModel(mlir::ModuleOp module, const WeightResolver &resolve, WeightSink &sink,
                            LowerOptions sizes, const ProgramTargets &targets) {
  Programs programs;
  if (!targets.gpus.empty())
    sizes.maxTokens = std::max(sizes.maxTokens, std::min(gpuStepTokens, sizes.maxContext));
  FloatStore stored(sink);
  if (!targets.gpus.empty() && !targets.cpus.empty()) {
    mlir::OwningOpRef<mlir::ModuleOp> quantized = module.clone();
    sizes.joinsSteps = false;
    SMELT_ASSIGN(programs.divisible, lowerProgram(*quantized, resolve, stored, sizes));
  }
  sizes.joinsSteps = !targets.cpus.empty();
  SMELT_ASSIGN(programs.whole, lowerProgram(module, resolve, stored, sizes));
  uint64_t &scratch = programs.whole.config.scratchBytes;
  scratch = std::max(scratch, programs.forGpus().config.scratchBytes);
  return programs;
}

Result<Programs> lowerGraph(mlir::ModuleOp module, WeightStore &weights,
                            const WeightResolver &resolve, WeightSink &sink,
                            const LowerOptions &sizes) {
  StoredWeights stored(weights);
  SMELT_ASSIGN(LoweredTensors lowered, lowerTensors(module, stored, resolve, sink, sizes));
  Programs programs;
  programs.whole.config = lowered.config;
  programs.whole.instructions = std::move(lowered.instructions);
  programs.whole.kernels = std::move(lowered.rowKernels);
  programs.tensors = std::move(lowered.image);
  programs.tensorKernels = std::move(lowered.kernels);
  return programs;
}

Status generatePrograms(Programs &programs, const ProgramTargets &targets,
                        const CodegenOptions &options) {
  // Kernels that both programs call are compiled once: generateCode() takes each by its name.
  std::vector<KernelSpec> kernels = programs.whole.kernels;
  if (programs.divisible)
    llvm::append_range(kernels, programs.divisible->kernels);
  SMELT_ASSIGN(programs.code, generateCode(kernels, programs.tensorKernels, targets.cpus, options));
  const int64_t vocabulary = programs.whole.config.vocabSize;
  for (const GpuTarget *target : targets.gpus) {
    Programs::GpuSections sections;
    SMELT_ASSIGN(sections.code, generateGpuCode(programs.forGpus().kernels, *target));
    SMELT_ASSIGN(sections.argmax, generateLogitKernels(argmaxSpecs(vocabulary), *target));
    SMELT_ASSIGN(sections.candidates, generateLogitKernels(candidateSpecs(vocabulary), *target));
    programs.gpuCode.push_back(std::move(sections));
  }
  return {};
}

static std::vector<std::byte> imageOf(const LoweredProgram &program) {
  ProgramImage image{{}, program.instructions, program.layers};
  for (const KernelSpec &kernel : program.kernels)
    image.kernelNames.push_back(kernel.name());
  return encodeProgram(image);
}

Status addSections(ArtifactWriter &writer, const Programs &programs,
                   const ProgramTargets &targets) {
  using format::SectionKind;
  const format::ModelConfig &config = programs.whole.config;
  SMELT_TRY(writer.addSection(SectionKind::Config, std::as_bytes(std::span(&config, 1))));
  SMELT_TRY(writer.addSection(SectionKind::Program, imageOf(programs.whole)));
  if (programs.divisible)
    SMELT_TRY(writer.addSection(SectionKind::Program, imageOf(*programs.divisible),
                                uint32_t(format::ProgramKind::Divisible)));
  if (programs.tensors)
    SMELT_TRY(
        writer.addSection(SectionKind::TensorProgram, encodeTensorProgram(*programs.tensors)));
  for (auto [target, code] : llvm::zip_equal(targets.cpus, programs.code))
    SMELT_TRY(writer.addSection(SectionKind::Code, code, target->row));
  if (!targets.gpus.empty())
    SMELT_TRY(writer.addSection(SectionKind::LayerStarts,
                                std::as_bytes(std::span(programs.forGpus().layerStarts))));
  for (auto [target, sections] : llvm::zip_equal(targets.gpus, programs.gpuCode)) {
    const auto kind = uint32_t(target->kind);
    SMELT_TRY(writer.addSection(SectionKind::GpuCode, sections.code, kind));
    SMELT_TRY(writer.addSection(SectionKind::GpuArgmax, sections.argmax, kind));
    SMELT_TRY(writer.addSection(SectionKind::GpuCandidates, sections.candidates, kind));
  }
  return {};
}

} // namespace smelt
