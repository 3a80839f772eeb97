// The pass pipeline from kernels to the LLVM dialect, then LLVM's own to an object.
#include "compiler/codegen/codegen.h"

#include "compiler/codegen/link.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/Transforms/Utils/Cloning.h"

#include <mutex>

using namespace mlir;

namespace smelt {

namespace {

/// Kernels in upstream dialects -> LLVM dialect, module level.
void addLoweringPasses(PassManager &passes) {
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  passes.addPass(memref::createExpandStridedMetadataPass());
  passes.addPass(createSCFToControlFlowPass());
  passes.addPass(
      createConvertMathToLLVMPass()); // before vector: no math operation may be left behind
  passes.addPass(createConvertVectorToLLVMPass());
  passes.addPass(createFinalizeMemRefToLLVMConversionPass());
  passes.addPass(createArithToLLVMConversionPass());
  passes.addPass(createConvertIndexToLLVMPass());
  passes.addPass(createUBToLLVMConversionPass());
  ConvertFuncToLLVMPassOptions functions;
  functions.useBarePtrCallConv = true;
  passes.addPass(createConvertFuncToLLVMPass(functions));
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
}

Status lowerToLLVMDialect(ModuleOp kernels) {
  std::string diagnostics;
  ScopedDiagnosticHandler handler(kernels.getContext(), [&](Diagnostic &diagnostic) {
    diagnostics += diagnostic.str() + "\n";
    return success();
  });
  PassManager passes(kernels.getContext());
  addLoweringPasses(passes);
  if (failed(passes.run(kernels)))
    return internalError("lowering the kernels to LLVM failed: " + diagnostics);
  return {};
}

void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
  });
}

/// "+a,+b" -> the target's own features; the vector width is the target's widest.
void setTargetAttributes(llvm::Module &module, const KernelTarget &target) {
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", target.cpu);
    if (!target.features.empty())
      function.addFnAttr("target-features", target.features);
    if (target.dot == DotKind::Vnni512)
      function.addFnAttr("prefer-vector-width", "512");
    function.addFnAttr(llvm::Attribute::NoUnwind);
    function.addFnAttr("no-builtins"); // loops that clear or copy must not become calls to memset
  }
}

void optimize(llvm::Module &module, llvm::TargetMachine &machine, int level) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false; // kernels are written in vectors; the rest is cold
  tuning.SLPVectorization = false;
  tuning.LoopUnrolling = false;
  llvm::PassBuilder builder(&machine, tuning);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager callGraph;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(callGraph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, callGraph, modules);
  auto optLevel = level >= 3   ? llvm::OptimizationLevel::O3
                  : level == 2 ? llvm::OptimizationLevel::O2
                               : llvm::OptimizationLevel::O1;
  builder.buildPerModuleDefaultPipeline(optLevel).run(module, modules);
}

/// Emits `module` as an object or, for people, as assembly; the module is changed by it.
Status emit(llvm::Module &module, llvm::TargetMachine &machine, llvm::CodeGenFileType type,
            llvm::raw_pwrite_stream &out) {
  llvm::legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, out, nullptr, type))
    return internalError("target " + machine.getTargetTriple().str() +
                         " cannot emit this kind of file");
  passes.run(module);
  return {};
}

} // namespace

Result<std::vector<std::byte>> compileKernels(ModuleOp kernels, const KernelTarget &target,
                                              const CodegenOptions &options) {
  initializeTargets();
  SMELT_TRY(lowerToLLVMDialect(kernels));

  // Translation.
  registerBuiltinDialectTranslation(*kernels.getContext());
  registerLLVMDialectTranslation(*kernels.getContext());
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(kernels, llvmContext, "kernels");
  if (!module)
    return internalError("translating the kernels to LLVM IR failed");

  // Target machine.
  std::string error;
  llvm::Triple triple{llvm::StringRef(target.triple)};
  const llvm::Target *llvmTarget = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!llvmTarget)
    return unsupported("LLVM has no back end for " + std::string(target.triple) + ": " + error);
  llvm::TargetOptions targetOptions;
  targetOptions.AllowFPOpFusion = llvm::FPOpFusion::Strict; // fma only where it is written
  std::unique_ptr<llvm::TargetMachine> machine(llvmTarget->createTargetMachine(
      triple, llvm::StringRef(target.cpu), llvm::StringRef(target.features), targetOptions,
      llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  module->setTargetTriple(triple);
  module->setDataLayout(machine->createDataLayout());
  setTargetAttributes(*module, target);
  optimize(*module, *machine, options.optLevel);

  if (!options.dumpAssembly.empty()) {
    std::error_code failure;
    llvm::raw_fd_ostream out(options.dumpAssembly, failure);
    if (failure)
      return exhausted("cannot write " + options.dumpAssembly + ": " + failure.message());
    std::unique_ptr<llvm::Module> copy = llvm::CloneModule(*module);
    SMELT_TRY(emit(*copy, *machine, llvm::CodeGenFileType::AssemblyFile, out));
  }
  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream stream(object);
  SMELT_TRY(emit(*module, *machine, llvm::CodeGenFileType::ObjectFile, stream));
  return linkSharedObject(std::span(object.data(), object.size()),
                          triple.isAArch64() ? "aarch64elf" : "elf_x86_64");
}

} // namespace smelt
