// The pass pipeline from the gpu dialect to a SPIR-V module.
#include "compiler/codegen/spirv_emitter.h"

#include "mlir/Conversion/GPUToSPIRV/GPUToSPIRVPass.h"
#include "mlir/Conversion/MathToSPIRV/MathToSPIRVPass.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVDialect.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVOps.h"
#include "mlir/Dialect/SPIRV/IR/TargetAndABI.h"
#include "mlir/Dialect/SPIRV/Transforms/Passes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/SPIRV/Serialization.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace smelt {

namespace {

/// Vulkan 1.1 takes SPIR-V 1.3.
spirv::TargetEnvAttr environment(MLIRContext *context) {
  auto triple = spirv::VerCapExtAttr::get(
      spirv::Version::V_1_3, {spirv::Capability::Shader},
      {spirv::Extension::SPV_KHR_storage_buffer_storage_class}, context);
  return spirv::TargetEnvAttr::get(triple, spirv::getDefaultResourceLimits(context));
}

/// Float arithmetic as it is written: drivers may neither fuse nor reorder it. (exp rounds by adding
/// and taking off a large number.)
void forbidContraction(spirv::ModuleOp module) {
  module.walk([](Operation *op) {
    if (isa<spirv::FAddOp, spirv::FSubOp, spirv::FMulOp, spirv::FDivOp, spirv::FNegateOp>(op))
      op->setAttr("no_contraction", UnitAttr::get(op->getContext()));
  });
}

} // namespace

struct SpirvEmitter::State {
  explicit State(const GpuTarget &target)
      : target(target), context(MLIRContext::Threading::DISABLED), passes(&context) {
    passes.addPass(createCanonicalizerPass());
    passes.addPass(createCSEPass());
    passes.addNestedPass<gpu::GPUModuleOp>(createConvertMathToSPIRVPass());
    passes.addPass(createConvertGPUToSPIRVPass(/*mapMemorySpace=*/false));
    OpPassManager &module = passes.nest<spirv::ModuleOp>();
    module.addPass(spirv::createSPIRVLowerABIAttributesPass());
    module.addPass(spirv::createSPIRVUpdateVCEPass());
    module.addPass(createCSEPass());
  }

  const GpuTarget &target;
  MLIRContext context;
  PassManager passes;
};

SpirvEmitter::SpirvEmitter(const GpuTarget &target) : state(std::make_unique<State>(target)) {}
SpirvEmitter::~SpirvEmitter() = default;

Result<std::vector<uint32_t>> SpirvEmitter::emit(const KernelSpec &spec) {
  MLIRContext &context = state->context;
  std::string diagnostics;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    diagnostics += diagnostic.str() + "\n";
    return success();
  });
  OwningOpRef<ModuleOp> module = buildGpuKernel(context, spec, state->target);
  module->getOperation()->setAttr(spirv::getTargetEnvAttrName(), environment(&context));
  if (failed(state->passes.run(*module)))
    return internalError("lowering a kernel to SPIR-V failed: " + diagnostics);
  auto modules = module->getOps<spirv::ModuleOp>();
  SmallVector<uint32_t, 0> words;
  if (!modules.empty())
    forbidContraction(*modules.begin());
  if (modules.empty() || failed(spirv::serialize(*modules.begin(), words)))
    return internalError("writing a kernel as SPIR-V failed: " + diagnostics);
  return std::vector<uint32_t>(words.begin(), words.end());
}

} // namespace smelt
