// What a quantized model runs as: its programs and their code for every target.
#pragma once

#include "compiler/codegen/codegen.h"
#include "compiler/weights/weight_store.h"
#include "passes/lower/gpu_target.h"
#include "passes/lower/lower.h"
#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"
#include "runtime/artifact/writer.h"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace smelt {

/// The processors that an artifact is for.
struct ProgramTargets {
  std::span<const KernelTarget *const> cpus;
  std::span<const GpuTarget *const> gpus;
};

/// Everything that is made of one choice of formats.
struct Programs {
  struct GpuSections {
    std::vector<std::byte> code, argmax, candidates;
  };

  LoweredProgram whole; ///< of CPUs; of GPUs where they have no program of their own
  std::optional<LoweredProgram> divisible;   ///< where there are both CPUs and GPUs
  std::optional<TensorProgramImage> tensors; ///< of a graph that runs as it stands
  std::vector<TensorSpec> tensorKernels;
  std::vector<std::vector<std::byte>> code; ///< per CPU target
  std::vector<GpuSections> gpuCode;         ///< per GPU target

  const LoweredProgram &forGpus() const { return divisible ? *divisible : whole; }
};

/// Lowers a model (CONTRACT quantized); `module` then holds the whole program. Floats go to `sink`.
Result<Programs> lowerModel(mlir::ModuleOp module, const WeightResolver &resolve, WeightSink &sink,
                            LowerOptions sizes, const ProgramTargets &targets);

/// Lowers a graph that runs as it stands, which only CPUs do.
Result<Programs> lowerGraph(mlir::ModuleOp module, WeightStore &weights,
                            const WeightResolver &resolve, WeightSink &sink,
                            const LowerOptions &sizes);

/// Makes the code of lowered programs.
Status generatePrograms(Programs &programs, const ProgramTargets &targets,
                        const CodegenOptions &options);

/// Adds the sections of programs with their code, and of the config.
Status addSections(ArtifactWriter &writer, const Programs &programs, const ProgramTargets &targets);

} // namespace smelt
