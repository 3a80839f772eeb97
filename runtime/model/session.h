// A session: what one user of a model runs text through; the step, and bookkeeping of what is
// cached.
#pragma once

#include "runtime/base/status.h"
#include "runtime/devices/threads.h"
#include "runtime/model/backend.h"
#include "runtime/model/model.h"
#include "runtime/model/speculation.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace smelt {

struct SessionOptions {
  uint32_t context = 0; ///< positions per slot; 0: all that the model has
  uint32_t slots = 1;   ///< sequences that are cached side by side
  uint32_t threads = 0; ///< 0: defaultThreads()
  /// A smaller model of the same vocabulary, for speculative decoding; null: none.
  std::shared_ptr<const Model> draft = {};
  std::string device = "cpu"; ///< see chooseDevice(); a draft model runs on the CPU
  /// Layers that a GPU runs, from the first on, the others run on the CPU; more than the model has:
  /// all. None given: all, with device auto as many as fit its memory.
  std::optional<uint32_t> gpuLayers = {};
};

/// Length of the longest common beginning.
size_t commonPrefix(std::span<const int32_t> a, std::span<const int32_t> b);

/// Runs the token program of a model (allocates everything at creation and nothing afterwards) or
/// its tensor program. Not for several threads at once.
class Session {
public:
  /// InvalidArgument: sizes that the model does not have, a draft model of another vocabulary;
  /// Exhausted: memory or threads.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model,
                                                 const SessionOptions &options);

  /// Runs the model over a ragged batch: any mix of slots, where the tokens of each slot have
  /// consecutive positions that continue the slot or overwrite its end. `logitRows` are indices
  /// into `tokens`; their logits are then found by logits(0), logits(1), ... At most maxTokens
  /// tokens and maxLogitRows rows. Exhausted: a position is beyond the context. A failing step
  /// changes nothing.
  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
              StepOutput output = StepOutput::Logits);
  /// Logits [vocabSize] of the given row of the last step; overwritten by the next.
  std::span<const float> logits(size_t row) const { return backend->logits(row); }
  /// The likeliest token of that row, the first among equals; -1: no logit is a number above minus
  /// infinity.
  int64_t likeliest(size_t row) const { return backend->likeliest(row); }
  /// Of a step with StepOutput::Likely, see Backend::likely.
  std::span<const LikelyToken> likely(size_t row) const { return backend->likely(row); }

  /// Appends any number of tokens to a slot, in chunks, and leaves the logits of the last one in
  /// logits(0). Cancelled when `cancel` becomes true; what is cached then stays consistent.
  Status append(int32_t slot, std::span<const int32_t> tokens,
                const std::atomic<bool> *cancel = nullptr, StepOutput output = StepOutput::Logits);
  /// Forgets all positions of the slot from `length` on.
  Status truncate(int32_t slot, uint32_t length);
  /// The tokens that the slot holds, by position.
  std::span<const int32_t> cached(int32_t slot) const { return histories[size_t(slot)]; }

  /// Makes the slot hold the longest beginning of `tokens` that any slot holds, copied if it is
  /// another one, and nothing else. Returns its length.
  Result<uint32_t> reuse(int32_t slot, std::span<const int32_t> tokens);
  /// Memory of the first `length` positions of a slot, see Backend::visit; `length` <= context().
  Status visit(int32_t slot, uint32_t length, CacheAccess access, const PieceVisitor &piece) const;
  /// States that the slot, which is empty, holds these tokens: their keys and values were put
  /// where visit() says.
  Status adopt(int32_t slot, std::span<const int32_t> tokens);

  /// Whether forgetting the last positions of a slot costs nothing: then steps may try tokens.
  bool rewinds() const { return backend->rewinds(); }
  /// A session of the draft model with the same slots, run by the same threads; null: none.
  Session *draftSession() { return draft.get(); }
  /// What decode steps take on this machine, kept from one answer to the next.
  StepCosts &costs() { return stepCosts; }

  const Model &model() const { return *shared; }
  const std::shared_ptr<const Model> &sharedModel() const { return shared; }
  uint32_t context() const { return options.context; }
  uint32_t slots() const { return options.slots; }
  uint32_t threads() const { return team->size(); }
  ThreadTeam &threadTeam() { return *team; }
  /// Adds the time of every instruction to `perLabel` from now on, and that of every instruction of
  /// a tensor program to `perInstruction`; null: no longer.
  void setProfile(StepProfile *perLabel, std::vector<uint64_t> *perInstruction = nullptr) {
    backend->setProfile(perLabel, perInstruction);
  }
  /// Bytes that the session has reserved: cache, scratch, logits; of a tensor program, the most
  /// that it has used.
  uint64_t reservedBytes() const { return backend->reservedBytes(); }

private:
  Session() = default;
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model,
                                                 const SessionOptions &options,
                                                 std::shared_ptr<ThreadTeam> team);
  Status check(std::span<const Token> tokens, std::span<const int32_t> logitRows);

  std::shared_ptr<const Model> shared;
  SessionOptions options;
  std::shared_ptr<ThreadTeam> team;
  std::unique_ptr<Backend> backend;
  std::vector<std::vector<int32_t>> histories; ///< per slot, capacity reserved at creation
  std::vector<int64_t>
      stepEnd; ///< per slot: position after its last token in the step under check, -1: none
  std::vector<Token> chunk; ///< for append
  std::unique_ptr<Session> draft;
  StepCosts stepCosts;
};

} // namespace smelt
