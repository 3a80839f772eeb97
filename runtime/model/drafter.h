// Drafts for speculative decoding: by prompt lookup, or by a small model of the same vocabulary.
#pragma once

#include "runtime/model/lookup.h"
#include "runtime/model/session.h"
#include "runtime/model/speculation.h"

#include <array>
#include <atomic>
#include <span>

namespace smelt {

/// Drafts what may follow the text of a slot. What it drafts is only a proposal: whoever samples
/// from the verified logits takes a drafted token exactly if it is the one that it would have
/// sampled anyway, so drafts change the speed and never the text.
class Drafter {
public:
  /// For a text of at most `mostTokens` tokens in `slot`. Uses the draft model of the session, if
  /// it has one.
  Drafter(Session &session, int32_t slot, size_t mostTokens);

  /// Reads the prompt. Cancelled when `cancel` becomes true.
  Status begin(std::span<const int32_t> prompt, const std::atomic<bool> *cancel);
  /// Drafts at most `limit` tokens after the text; empty where a plain step is expected to be
  /// faster. Valid until the next call.
  Result<std::span<const int32_t>> draft(size_t limit);
  /// The text goes on with `token`: the next one behind the text, or the next one of the draft.
  void push(int32_t token);
  /// Every token of the last draft was pushed, or one that differs: `seconds` is what the step
  /// took.
  void verified(double seconds);

  uint32_t drafted() const { return draftedTokens; }
  uint32_t accepted() const { return acceptedTokens; }

private:
  Status draftByModel(size_t count);

  Session &session;
  Session *model; ///< that drafts; null: none
  int32_t slot;
  PromptLookup lookup;
  Acceptance acceptance;
  double modelSeconds = 0; ///< running mean of a token drafted by the model
  size_t synced = 0;       ///< leading tokens of the text that the model's slot holds

  std::array<int32_t, mostDrafted> tokens;
  std::array<size_t, mostDrafted>
      kinds; ///< class of each; kinds[0] also of a match that is not used
  size_t count = 0;
  size_t at = 0;         ///< of the draft, what the next push() is compared with
  bool wrong = false;    ///< a token has differed
  bool observed = false; ///< tokens[0] is compared although it was not drafted
  uint32_t draftedTokens = 0, acceptedTokens = 0;
};

} // namespace smelt
