// Running, timing, checking and dumping of the compiler's phases.
#include "compiler/driver/pipeline.h"

#include "compiler/dialect/onnx.h"
#include "compiler/dialect/slm.h"
#include "passes/fuse/fuse.h"
#include "passes/quantize/quantize.h"
#include "passes/raise/raise.h"
#include "passes/tensor/tensor.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdio>

using namespace mlir;

namespace smelt {

namespace {

constexpr std::string_view phaseNames[] = {
#define PHASE(enumerator, name, holds, check, tensorCheck) name,
#include "compiler/driver/phases.def"
};

/// The pass that checks what holds after the phase; null where nothing is to check.
std::unique_ptr<Pass> makeCheck(Phase phase, bool runsTensors) {
  switch (phase) {
#define PHASE(enumerator, name, holds, check, tensorCheck)                                         \
  case Phase::enumerator:                                                                          \
    return runsTensors ? std::unique_ptr<Pass>(tensorCheck) : std::unique_ptr<Pass>(check);
#include "compiler/driver/phases.def"
  }
  return nullptr;
}

} // namespace

std::string_view phaseName(Phase phase) { return phaseNames[uint32_t(phase)]; }

Result<Phase> findPhase(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < std::size(phaseNames); ++i) {
    if (phaseNames[i] == name)
      return Phase(i);
    known += (i ? ", " : "") + std::string(phaseNames[i]);
  }
  return invalidArgument("unknown phase '" + std::string(name) + "', expected one of " + known);
}

Pipeline::Pipeline(PipelineOptions options)
    : options(std::move(options)), progress(!this->options.quiet) {
  // Passes here work on one function: MLIR's own threads would only compete with ours.
  mlirContext.disableMultithreading();
  mlirContext.loadDialect<func::FuncDialect, onnx_ir::ONNXDialect, slm::SLMDialect>();
}

Status Pipeline::run(Phase phase, const std::function<Status(const Report &)> &body) {
  if (isStopped)
    return {};
  constexpr double units = 1000;
  progress.begin(std::string(phaseName(phase)), uint64_t(units));
  Status status = collectDiagnostics(
      [&] { return body([&](double share) { progress.update(uint64_t(share * units)); }); });
  if (status.ok() && module)
    if (std::unique_ptr<Pass> check = makeCheck(phase, runsTensors)) {
      std::vector<std::unique_ptr<Pass>> passes;
      passes.push_back(std::move(check));
      status = runPasses(std::move(passes));
    }
  SMELT_TRY(std::move(status));
  SMELT_TRY(dump(phase));
  progress.end();
  showWarnings();
  isStopped = options.stopAfter == phase;
  return {};
}

void Pipeline::showWarnings() {
  for (const std::string &warning : takeWarnings())
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
}

Status Pipeline::runPasses(std::vector<std::unique_ptr<Pass>> passes) {
  return collectDiagnostics([&]() -> Status {
    PassManager manager(&mlirContext);
    for (std::unique_ptr<Pass> &pass : passes)
      manager.addPass(std::move(pass));
    // An empty message: what the passes reported is the message.
    return succeeded(manager.run(*module)) ? Status() : unsupported("");
  });
}

Status Pipeline::collectDiagnostics(const std::function<Status()> &body) {
  std::string text;
  ScopedDiagnosticHandler handler(&mlirContext, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      text += (text.empty() ? "" : "\n") + diagnostic.str();
    else if (diagnostic.getSeverity() == DiagnosticSeverity::Warning)
      warn(diagnostic.str());
    return success();
  });
  Status status = body();
  if (status.ok() || text.empty())
    return status;
  return {status.code(), status.message().empty() ? text : status.message() + "\n" + text};
}

Status Pipeline::dump(Phase phase) {
  if (options.dump.empty() || !module)
    return {};
  std::error_code error;
  std::filesystem::create_directories(options.dump, error);
  std::filesystem::path path = options.dump / (std::to_string(uint32_t(phase)) + "_" +
                                               std::string(phaseName(phase)) + ".mlir");
  if (!error) {
    llvm::raw_fd_ostream stream(path.string(), error);
    if (!error) {
      OpPrintingFlags flags;
      flags.elideLargeElementsAttrs(64);
      module->print(stream, flags);
      stream.close();
      error = stream.error();
      stream.clear_error();
    }
  }
  if (error)
    return invalidArgument("cannot write '" + path.string() + "': " + error.message());
  return {};
}

} // namespace smelt
