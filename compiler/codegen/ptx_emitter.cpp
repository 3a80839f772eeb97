// The pass pipeline from the gpu dialect to NVVM, then LLVM's own to PTX.
#include "compiler/codegen/ptx_emitter.h"

#include "compiler/codegen/llvm_steps.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace smelt {

namespace {

/// The intrinsic of a math operation; empty: none. MLIR would call NVIDIA's libdevice instead,
/// whose sources nobody has; the instructions round as ours do.
StringRef intrinsicOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, StringRef>(op)
      .Case([](math::AbsFOp) { return "llvm.fabs.f32"; })
      .Case([](math::CopySignOp) { return "llvm.copysign.f32"; })
      .Case([](math::FmaOp) { return "llvm.fma.f32"; })
      .Case([](math::RoundEvenOp) { return "llvm.roundeven.f32"; })
      .Case([](math::SqrtOp) { return "llvm.sqrt.f32"; })
      .Default([](Operation *) { return StringRef(); });
}

void callIntrinsics(ModuleOp module) {
  SmallVector<Operation *> calls;
  module.walk([&](Operation *op) {
    if (!intrinsicOf(op).empty())
      calls.push_back(op);
  });
  for (Operation *op : calls) {
    OpBuilder b(op);
    auto call = LLVM::CallIntrinsicOp::create(b, op->getLoc(), op->getResult(0).getType(),
                                              b.getStringAttr(intrinsicOf(op)), op->getOperands());
    op->replaceAllUsesWith(call);
    op->erase();
  }
}

/// No index reaches 2^31: said of sums and products, constants in them become part of the
/// instructions that load and store.
void boundIndices(ModuleOp module) {
  const auto flags = arith::IntegerOverflowFlags::nsw;
  module.walk([&](Operation *op) {
    if (auto sum = dyn_cast<arith::AddIOp>(op); sum && sum.getType().isIndex())
      sum.setOverflowFlags(flags);
    if (auto product = dyn_cast<arith::MulIOp>(op); product && product.getType().isIndex())
      product.setOverflowFlags(flags);
  });
}

} // namespace

struct PtxEmitter::State {
  explicit State(const GpuTarget &target)
      : target(target), context(MLIRContext::Threading::DISABLED), passes(&context) {
    DialectRegistry conversions;
    arith::registerConvertArithToLLVMInterface(conversions);
    cf::registerConvertControlFlowToLLVMInterface(conversions);
    registerConvertMemRefToLLVMInterface(conversions);
    registerConvertNVVMToLLVMInterface(conversions);
    vector::registerConvertVectorToLLVMInterface(conversions);
    context.appendDialectRegistry(conversions);
    registerBuiltinDialectTranslation(context);
    registerGPUDialectTranslation(context);
    registerLLVMDialectTranslation(context);
    registerNVVMDialectTranslation(context);
    OpPassManager &module = passes.nest<gpu::GPUModuleOp>();
    module.addPass(createCanonicalizerPass());
    module.addPass(createCSEPass());
    module.addPass(createSCFToControlFlowPass());
    ConvertGpuOpsToNVVMOpsOptions nvvm;
    nvvm.indexBitwidth = 32; // words of at most 8 GiB; half the registers for addresses
    nvvm.useBarePtrCallConv = true;
    module.addPass(createConvertGpuOpsToNVVMOps(nvvm));
    module.addPass(createReconcileUnrealizedCastsPass());
  }

  const GpuTarget &target;
  MLIRContext context;
  PassManager passes;
  std::unique_ptr<llvm::TargetMachine> machine;
};

PtxEmitter::PtxEmitter(std::unique_ptr<State> state) : state(std::move(state)) {}
PtxEmitter::~PtxEmitter() = default;

Result<std::unique_ptr<PtxEmitter>> PtxEmitter::create(const GpuTarget &target) {
  auto state = std::make_unique<State>(target);
  SMELT_ASSIGN(state->machine, createMachine("nvptx64-nvidia-cuda", target.chip, target.features));
  return std::unique_ptr<PtxEmitter>(new PtxEmitter(std::move(state)));
}

Result<std::string> PtxEmitter::emit(const KernelSpec &spec) {
  MLIRContext &context = state->context;
  std::string diagnostics;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    diagnostics += diagnostic.str() + "\n";
    return success();
  });
  OwningOpRef<ModuleOp> module = buildGpuKernel(context, spec, state->target);
  callIntrinsics(*module);
  boundIndices(*module);
  if (failed(state->passes.run(*module)))
    return internalError("lowering a kernel to NVVM failed: " + diagnostics);
  llvm::LLVMContext llvmContext;
  gpu::GPUModuleOp kernels = *module->getOps<gpu::GPUModuleOp>().begin();
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(kernels, llvmContext, "kernel");
  if (!code)
    return internalError("translating a kernel to LLVM IR failed: " + diagnostics);
  code->setTargetTriple(state->machine->getTargetTriple());
  code->setDataLayout(state->machine->createDataLayout());
  optimize(*code, *state->machine);
  std::string ptx;
  SMELT_TRY(emitFile(*code, *state->machine, llvm::CodeGenFileType::AssemblyFile, ptx));
  return ptx;
}

} // namespace smelt
