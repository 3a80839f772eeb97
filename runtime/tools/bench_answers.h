// Parts of `smelt bench` that need several tokens at once: answers with and without drafts, and
// slots that decode together.
#pragma once

#include "runtime/base/json.h"
#include "runtime/base/status.h"
#include "runtime/model/session.h"

#include <cstdint>

namespace smelt::cli {

/// Greedy answers to the prompts of bench_prompts.def, plain and with drafts by turns. By kind of
/// prompt: tokens per second of both, their ratio, drafted and accepted tokens. Null where the
/// model has no chat template, or cannot try tokens. Internal if any answer differs.
Result<Json> measureSpeculation(Session &session, uint64_t rounds);

/// Steps of one token in each of several slots, against steps in one of them: tokens per second of
/// both, by turns. Reserves a cache for all slots.
Result<Json> measureSlots(Session &session, uint64_t rounds);

/// Seconds of steps of several tokens in one slot, by their number; logits of all, as in the
/// verification of drafts.
Result<Json> measureSteps(Session &session, uint64_t rounds);

} // namespace smelt::cli
