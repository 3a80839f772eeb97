// One gpu.func per kernel specification: dispatch to the emitters, and how each is started.
#include "passes/lower/gpu_kernels/argmax.h"
#include "passes/lower/gpu_kernels/attention.h"
#include "passes/lower/gpu_kernels/attention_tiles.h"
#include "passes/lower/gpu_kernels/builder.h"
#include "passes/lower/gpu_kernels/candidates.h"
#include "passes/lower/gpu_kernels/linear.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVDialect.h"

using namespace mlir;

namespace smelt {

OwningOpRef<ModuleOp> buildGpuKernel(MLIRContext &context, const KernelSpec &spec,
                                     const GpuTarget &target) {
  context.loadDialect<arith::ArithDialect, gpu::GPUDialect, LLVM::LLVMDialect, math::MathDialect,
                      memref::MemRefDialect, scf::SCFDialect, spirv::SPIRVDialect,
                      vector::VectorDialect>();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  GpuBuilder builder(*module, spec, target);
  // By KernelKind.
  constexpr void (*emitters[])(GpuBuilder &) = {
      emitGpuEmbed,       emitGpuNorm,         emitGpuQuantize,       emitGpuLinear,
      emitGpuRopeAppend,  emitGpuAttentionOne, emitGpuAttentionMerge, emitGpuAttentionMany,
      emitGpuElementwise, emitGpuArgmaxParts,  emitGpuArgmax,         emitGpuBlockMaxima,
      emitGpuCandidates,
  };
  emitters[static_cast<uint32_t>(spec.kind)](builder);
  builder.finish();
  return module;
}

static std::array<KernelSpec, 2> logitSpecs(KernelKind first, KernelKind second, int64_t cols) {
  std::array<KernelSpec, 2> specs;
  specs[0].kind = first;
  specs[1].kind = second;
  for (KernelSpec &spec : specs) {
    spec.cols = cols;
    spec.logitRows = true;
  }
  return specs;
}

std::array<KernelSpec, 2> argmaxSpecs(int64_t cols) {
  return logitSpecs(KernelKind::ArgmaxParts, KernelKind::Argmax, cols);
}

std::array<KernelSpec, 2> candidateSpecs(int64_t cols) {
  return logitSpecs(KernelKind::BlockMaxima, KernelKind::Candidates, cols);
}

std::optional<KernelSpec> wideForm(const KernelSpec &spec, const GpuTarget &target) {
  if (spec.kind != KernelKind::Linear || !linearByTiles(spec, target))
    return {};
  KernelSpec wide = spec;
  wide.wide = true;
  return wide;
}

GpuLaunch launchOf(const KernelSpec &spec, const GpuTarget &target) {
  GpuLaunch launch;
  auto overColumns = [&](int64_t items) {
    launch.threads = std::min<int64_t>(target.threads, 64);
    launch.groups = (items + launch.threads - 1) / launch.threads;
  };
  switch (spec.kind) {
  case KernelKind::Embed:
    overColumns(roundUp(spec.cols, blockInputs) / 8);
    return launch;
  case KernelKind::Elementwise:
    overColumns(spec.cols);
    return launch;
  case KernelKind::Norm:
  case KernelKind::Quantize:
    launch.threads = target.threads;
    return launch;
  case KernelKind::Linear:
    return linearLaunch(spec, target);
  case KernelKind::RopeAppend:
    launch.threads = 64;
    launch.groups = spec.heads + 2 * spec.kvHeads;
    return launch;
  case KernelKind::AttentionMany:
    if (attentionByTiles(spec, target)) {
      const AttentionTiles tiles(spec);
      launch.threads = AttentionTiles::warps * target.subgroup;
      launch.groups = spec.kvHeads * tiles.headParts * tiles.dimParts;
      launch.rowsPerGroup = AttentionTiles::warps * tiles.tokens;
      return launch;
    }
    [[fallthrough]];
  case KernelKind::AttentionOne:
    launch.overPositions = spec.kind == KernelKind::AttentionOne;
    launch.threads = attentionBlock;
    launch.groups = spec.kvHeads * pairGroups(spec);
    return launch;
  case KernelKind::AttentionMerge:
    launch.threads = 64;
    launch.groups = spec.heads;
    return launch;
  case KernelKind::ArgmaxParts:
    launch.groups = argmaxParts(spec.cols);
    [[fallthrough]];
  case KernelKind::Argmax:
  case KernelKind::Candidates:
    launch.threads = target.threads;
    return launch;
  case KernelKind::BlockMaxima:
    launch.threads = blockMaximaThreads;
    launch.groups = candidateGroups(spec.cols);
    return launch;
  }
  llvm_unreachable("the enumerators are all above");
}

} // namespace smelt
