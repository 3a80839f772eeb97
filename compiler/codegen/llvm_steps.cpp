// What every way through LLVM shares: the machine, the optimizer, the emitted file.
#include "compiler/codegen/llvm_steps.h"

#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Triple.h"

#include <mutex>

namespace smelt {

static void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
  });
}

Result<std::unique_ptr<llvm::TargetMachine>>
createMachine(std::string_view triple, std::string_view cpu, std::string_view features) {
  initializeTargets();
  std::string error;
  llvm::Triple parsed{llvm::StringRef(triple)};
  const llvm::Target *backEnd = llvm::TargetRegistry::lookupTarget(parsed, error);
  if (!backEnd)
    return unsupported("LLVM has no back end for " + std::string(triple) + ": " + error);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(backEnd->createTargetMachine(
      parsed, llvm::StringRef(cpu), llvm::StringRef(features), options, llvm::Reloc::PIC_,
      std::nullopt, llvm::CodeGenOptLevel::Aggressive));
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

Status emitFile(llvm::Module &module, llvm::TargetMachine &machine, llvm::CodeGenFileType type,
                std::string &out) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager manager;
  if (machine.addPassesToEmitFile(manager, stream, nullptr, type))
    return internalError("target " + machine.getTargetTriple().str() +
                         " cannot emit this kind of file");
  manager.run(module);
  out.append(bytes.data(), bytes.size());
  return {};
}

} // namespace smelt
