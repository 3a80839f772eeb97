// Runs the tensor program of an artifact: named tensors in, tensors out.
#pragma once

#include "runtime/base/status.h"
#include "runtime/devices/threads.h"
#include "runtime/model/model.h"
#include "runtime/model/pages.h"
#include "runtime/model/tensor.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace smelt {

/// Time per instruction of a tensor program, in nanoseconds.
using TensorProfile = std::vector<uint64_t>;

/// One instruction after the other, each on all threads where that pays. Not for several threads at
/// once.
class TensorSession {
public:
  /// Unsupported: the artifact runs tokens. `memoryLimit`: bytes of tensors at once; 0: the memory
  /// of the machine.
  static Result<std::unique_ptr<TensorSession>> create(std::shared_ptr<const Model> model,
                                                       std::shared_ptr<ThreadTeam> team,
                                                       uint64_t memoryLimit = 0);

  const TensorProgram &program() const { return *code; }
  const Model &model() const { return *shared; }
  /// Index of the input or output of that name.
  std::optional<size_t> findInput(std::string_view name) const;
  std::optional<size_t> findOutput(std::string_view name) const;

  /// Runs the graph over one tensor for each input, in their order. InvalidArgument names inputs
  /// that do not fit and nodes whose operands turn out not to; Exhausted: memory. After a failure
  /// outputs() are those of the run before. Inputs without an owner are only read during the call;
  /// inputs may be outputs of earlier runs.
  Status run(std::span<const TensorValue> inputs);
  /// Outputs of the last run, in their order; empty before the first. They own their memory unless
  /// they are constants of the artifact.
  std::span<const TensorValue> outputs() const { return results; }

  /// Adds times to `perLabel` and `perInstruction` from now on; null: no longer.
  void setProfile(StepProfile *perLabel, TensorProfile *perInstruction);
  /// The most bytes that tensors took at once, and what rows need beside them.
  uint64_t peakBytes() const { return pool.peakBytes() + rowBytes; }
  ThreadTeam &threadTeam() { return *team; }

private:
  explicit TensorSession(uint64_t memoryLimit) : pool(memoryLimit) {}
  struct Call;
  Status allocateRows();
  void resolve();
  Status bind(std::span<const TensorValue> inputs);
  Status execute();
  Status instruction(size_t index, size_t &next);
  Status fetch(const format::TensorInstruction &instruction, Call &call) const;
  Status kernel(size_t index, bool isAlias);
  Status rows(const format::TensorInstruction &instruction);
  Status finish();
  Status blame(const format::TensorInstruction &instruction, Status why) const;
  Status fault(const format::TensorInstruction &instruction, int64_t code) const;

  std::shared_ptr<const Model> shared;
  std::shared_ptr<ThreadTeam> team;
  const TensorProgram *code = nullptr;
  TensorPool pool;
  std::vector<TensorValue> values; ///< per tensor of the program; data is null where there is none
  std::vector<TensorValue> results;
  std::vector<ResolvedInstruction> rowProgram;
  Pages scratch, rowsIn, rowsOut;
  uint64_t rowBytes = 0;
  StepProfile *labelProfile = nullptr;
  TensorProfile *instructionProfile = nullptr;
};

} // namespace smelt
