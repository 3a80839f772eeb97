// The pass pipeline from one kernel to the LLVM dialect, then LLVM's own to an object.
#include "compiler/codegen/object_emitter.h"

#include "compiler/codegen/llvm_steps.h"
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
#include "llvm/IR/Module.h"
#include "llvm/Transforms/Utils/Cloning.h"

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

  Status lowerToLLVMDialect(ModuleOp kernel);
  Result<std::string> compile(ModuleOp kernel, std::string *assembly);
};

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
    SMELT_TRY(emitFile(*copy, *machine, llvm::CodeGenFileType::AssemblyFile, *assembly));
  }
  std::string object;
  SMELT_TRY(emitFile(*module, *machine, llvm::CodeGenFileType::ObjectFile, object));
  return object;
}

ObjectEmitter::ObjectEmitter(std::unique_ptr<State> state) : state(std::move(state)) {}
ObjectEmitter::~ObjectEmitter() = default;

Result<std::unique_ptr<ObjectEmitter>> ObjectEmitter::create(const KernelTarget &target) {
  auto state = std::make_unique<State>(target);
  SMELT_ASSIGN(state->machine, createMachine(target.triple, target.cpu, target.features));
  return std::unique_ptr<ObjectEmitter>(new ObjectEmitter(std::move(state)));
}

Result<std::string> ObjectEmitter::emit(const KernelSpec &spec, std::string *assembly) {
  return state->compile(*buildKernel(state->context, spec, state->target), assembly);
}

Result<std::string> ObjectEmitter::emit(const TensorSpec &spec, std::string *assembly) {
  return state->compile(*buildKernel(state->context, spec, state->target), assembly);
}

} // namespace smelt
