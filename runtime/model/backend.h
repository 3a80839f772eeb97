// What runs the tokens of a session: a token program over its caches, or a tensor program.
#pragma once

#include "runtime/base/status.h"
#include "runtime/devices/gpu.h"
#include "runtime/devices/threads.h"
#include "runtime/model/model.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace smelt {

/// One token of a step.
struct Token {
  int32_t id;
  int32_t position; ///< in its slot, from 0; at most the number of positions that the slot holds
  int32_t slot;
  int32_t type = 0; ///< token type (segment), where the model has some
};

/// Sees a piece of a cache; false: no more.
using PieceVisitor = std::function<bool(std::span<std::byte>)>;

/// Gets steps that the session has checked.
class Backend {
public:
  virtual ~Backend() = default;
  /// Runs a step. `histories`: tokens that each slot held before it; the step continues or
  /// overwrites them. A failing step changes nothing.
  virtual Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                      std::span<const std::vector<int32_t>> histories) = 0;
  /// Logits [vocabSize] of a row of the last step; empty if it was not asked for.
  virtual std::span<const float> logits(size_t row) const = 0;
  /// Adds times to `perLabel` and, in a tensor program, `perInstruction` from now on; null: no
  /// longer.
  virtual void setProfile(StepProfile *perLabel, std::vector<uint64_t> *perInstruction) = 0;
  virtual uint64_t reservedBytes() const = 0;
  /// Whether a step may overwrite what a slot holds without running what was before it again.
  virtual bool rewinds() const = 0;
  /// Calls `piece` for all memory that the first `length` positions of a slot are cached in, until
  /// it returns false. Number, order and sizes of the pieces depend on the model and `length` only.
  /// Unsupported: states that cannot be taken apart.
  virtual Status visit(int32_t slot, uint32_t length, const PieceVisitor &piece) = 0;
};

/// Caches, scratch and logits for the token program; allocates everything at once. `context`,
/// `slots`: sizes that the model has. Exhausted: memory.
Result<std::unique_ptr<Backend>> createTokenBackend(std::shared_ptr<const Model> model,
                                                    std::shared_ptr<ThreadTeam> team,
                                                    uint32_t context, uint32_t slots);
/// The same on a GPU, with the code of `kind`, which the artifact has. Exhausted: its memory.
Result<std::unique_ptr<Backend>> createGpuBackend(std::shared_ptr<const Model> model,
                                                  std::unique_ptr<GpuDevice> device,
                                                  format::GpuCodeKind kind, uint32_t context,
                                                  uint32_t slots);
/// Every slot runs by itself as a batch of one; state outputs are fed to the next step.
/// Unsupported: the graph has no token ids or logits, or inputs that nobody knows what to feed.
Result<std::unique_ptr<Backend>> createTensorBackend(std::shared_ptr<const Model> model,
                                                     std::shared_ptr<ThreadTeam> team,
                                                     uint32_t slots);

} // namespace smelt
