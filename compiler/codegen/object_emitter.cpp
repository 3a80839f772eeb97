// The pass pipeline from one kernel to the LLVM dialect, then LLVM's own to an object.
#include "compiler/codegen/object_emitter.h"

#include "passes/lower/kernels.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
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
  // LLVM simplifies what is left; before, on MLIR's operations, only what lessens them pays.
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
    if (target.vectorBytes == 64)
      function.addFnAttr("prefer-vector-width", "512");
    function.addFnAttr(llvm::Attribute::NoUnwind);
    function.addFnAttr("no-builtins"); // loops that clear or copy must not become calls to memset
  }
}

void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
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
  // Kernels are written as they shall run: O3 takes 40 % longer for the same speed.
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O1).run(module, modules);
}

} // namespace

struct ObjectEmitter::State {
  explicit State(const KernelTarget &target)
      : target(target), context(MLIRContext::Threading::DISABLED), passes(&context) {
    registerBuiltinDialectTranslation(context);
    registerLLVMDialectTranslation(context);
    addLoweringPasses(passes);
    passes.enableVerifier(false); // once, at the end
  }

  const KernelTarget &target;
  MLIRContext context;
  PassManager passes;
  std::unique_ptr<llvm::TargetMachine> machine;

  Status createMachine();
  Status lowerToLLVMDialect(ModuleOp kernel);
  Status write(llvm::Module &module, llvm::CodeGenFileType type, std::string &out);
  Result<std::string> compile(ModuleOp kernel, std::string *assembly);
};

Status ObjectEmitter::State::createMachine() {
  initializeTargets();
  std::string error;
  llvm::Triple triple{llvm::StringRef(target.triple)};
  const llvm::Target *backEnd = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backEnd)
    return unsupported("LLVM has no back end for " + std::string(target.triple) + ": " + error);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict; // fma only where it is written
  machine.reset(backEnd->createTargetMachine(
      triple, llvm::StringRef(target.cpu), llvm::StringRef(target.features), options,
      llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  return {};
}

Status ObjectEmitter::State::lowerToLLVMDialect(ModuleOp kernel) {
  std::string diagnostics;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    diagnostics += diagnostic.str() + "\n";
    return success();
  });
  if (failed(passes.run(kernel)) || failed(verify(kernel)))
    return internalError("lowering a kernel to LLVM failed: " + diagnostics);
  return {};
}

/// Appends `module` as an object or, for people, as assembly; the module is changed by it.
Status ObjectEmitter::State::write(llvm::Module &module, llvm::CodeGenFileType type,
                                   std::string &out) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager manager;
  if (machine->addPassesToEmitFile(manager, stream, nullptr, type))
    return internalError("target " + std::string(target.triple) + " cannot emit this kind of file");
  manager.run(module);
  out.append(bytes.data(), bytes.size());
  return {};
}

Result<std::string> ObjectEmitter::State::compile(ModuleOp kernel, std::string *assembly) {
  SMELT_TRY(lowerToLLVMDialect(kernel));
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(kernel, llvmContext, "kernel");
  if (!module)
    return internalError("translating a kernel to LLVM IR failed");
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(machine->createDataLayout());
  setTargetAttributes(*module, target);
  optimize(*module, *machine);

  if (assembly) {
    std::unique_ptr<llvm::Module> copy = llvm::CloneModule(*module);
    SMELT_TRY(write(*copy, llvm::CodeGenFileType::AssemblyFile, *assembly));
  }
  std::string object;
  SMELT_TRY(write(*module, llvm::CodeGenFileType::ObjectFile, object));
  return object;
}

ObjectEmitter::ObjectEmitter(std::unique_ptr<State> state) : state(std::move(state)) {}
ObjectEmitter::~ObjectEmitter() = default;

Result<std::unique_ptr<ObjectEmitter>> ObjectEmitter::create(const KernelTarget &target) {
  auto state = std::make_unique<State>(target);
  SMELT_TRY(state->createMachine());
  return std::unique_ptr<ObjectEmitter>(new ObjectEmitter(std::move(state)));
}

Result<std::string> ObjectEmitter::emit(const KernelSpec &spec, std::string *assembly) {
  return state->compile(*buildKernel(state->context, spec, state->target), assembly);
}

Result<std::string> ObjectEmitter::emit(const TensorSpec &spec, std::string *assembly) {
  return state->compile(*buildKernel(state->context, spec, state->target), assembly);
}

} // namespace smelt
