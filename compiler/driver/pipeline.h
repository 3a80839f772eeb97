// Runs the phases of phases.def: times and shows each, dumps the IR, checks the contract, stops
// where asked.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tools/progress.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/Pass.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace smelt {

enum class Phase : uint32_t {
#define PHASE(enumerator, name, holds, check, tensorCheck) enumerator,
#include "compiler/driver/phases.def"
};
std::string_view phaseName(Phase phase);
/// Finds a phase by name; the error lists the names there are.
Result<Phase> findPhase(std::string_view name);

struct PipelineOptions {
  std::optional<Phase> stopAfter;
  std::filesystem::path
      dump;           ///< folder for the IR after every phase, <number>_<phase>.mlir; empty: none
  bool quiet = false; ///< no progress
};

/// One model on its way. Diagnostics of passes end in the Status of the phase that ran them.
class Pipeline {
public:
  explicit Pipeline(PipelineOptions options);

  /// Says how much of the current phase is done, 0..1.
  using Report = std::function<void(double)>;
  /// Runs one phase: `body`, then the contract's check on `module`, then the dump. Does nothing
  /// once the pipeline stopped.
  Status run(Phase phase, const std::function<Status(const Report &)> &body);
  /// Runs passes over `module`; the failure's message is all that they reported.
  Status runPasses(std::vector<std::unique_ptr<mlir::Pass>> passes);
  /// Collects what is reported to the context while `body` runs; its failure then carries all of
  /// it.
  Status collectDiagnostics(const std::function<Status()> &body);

  /// Says something that the user should know but that is no failure; shown when the phase has
  /// ended.
  void warn(std::string text) { warnings.push_back(std::move(text)); }

  /// Shows the warnings so far: what is said after the last phase has nobody else to show it.
  void showWarnings();
  /// The warnings so far, for who shows them elsewhere.
  std::vector<std::string> takeWarnings() { return std::exchange(warnings, {}); }

  bool stopped() const { return isStopped; }
  mlir::MLIRContext &context() { return mlirContext; }

private:
  Status dump(Phase phase);

  PipelineOptions options;
  bool isStopped = false;
  std::vector<std::string> warnings;
  cli::Progress progress;
  mlir::MLIRContext mlirContext;

public:
  mlir::OwningOpRef<mlir::ModuleOp> module; ///< set by the body of Phase::Imported
  bool runsTensors = false; ///< the graph runs as it stands, which has contracts of its own
};

} // namespace smelt
