// Choice between lookup, draft model and a plain step; counts of what was right.
#include "runtime/model/drafter.h"

#include "runtime/model/sampler.h"

#include <algorithm>
#include <chrono>

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;
double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Weight of the newest draft in the running mean of the draft model's time.
constexpr double newest = 0.2;

} // namespace

Drafter::Drafter(Session &session, int32_t slot, size_t mostTokens)
    : session(session), model(session.draftSession()), slot(slot), lookup(mostTokens) {}

Status Drafter::begin(std::span<const int32_t> prompt, const std::atomic<bool> *cancel) {
  for (int32_t token : prompt)
    lookup.push(token);
  if (!model || prompt.size() > model->context())
    return {};
  // The last token stays: every draft begins with at least one that has not run.
  SMELT_ASSIGN(synced, model->reuse(slot, prompt.first(prompt.size() - 1)));
  if (synced + 1 < prompt.size())
    SMELT_TRY(model->append(slot, prompt.subspan(synced, prompt.size() - 1 - synced), cancel));
  synced = prompt.size() - 1;
  return {};
}

Result<std::span<const int32_t>> Drafter::draft(size_t limit) {
  count = at = 0;
  wrong = observed = false;
  limit = std::min({limit, mostDrafted, size_t(session.model().config().maxLogitRows) - 1,
                    size_t(session.model().config().maxTokens) - 1});
  const size_t length = lookup.tokens().size();

  PromptLookup::Match match = lookup.find();
  auto kindOf = [&](size_t i) { return Acceptance::ofMatch(match.length + i); };
  DraftPlan plan;
  if (match.length != 0) {
    plan = planDraft(session.costs(), acceptance, 0, limit, kindOf);
    tokens[0] = lookup.continuation(match, 0);
    kinds[0] = kindOf(0);
    observed = true;
  }
  if (model && length < model->context()) {
    DraftPlan other = planDraft(session.costs(), acceptance, modelSeconds,
                                std::min(limit, model->context() - length),
                                [](size_t) { return Acceptance::draftModel; });
    if (other.count != 0 && (plan.count == 0 || other.speed > plan.speed)) {
      SMELT_TRY(draftByModel(other.count));
      plan = other;
      observed = false;
    } else if (other.count == 0) {
      acceptance.relax(Acceptance::draftModel);
    }
  }
  if (plan.count != 0 && count == 0) {
    for (; count < plan.count; ++count) {
      tokens[count] = lookup.continuation(match, count);
      kinds[count] = kindOf(count);
    }
  }
  draftedTokens += uint32_t(count);
  return std::span<const int32_t>(tokens.data(), count);
}

/// Greedy tokens of the draft model behind the text.
Status Drafter::draftByModel(size_t wanted) {
  Clock::time_point start = Clock::now();
  std::span<const int32_t> text = lookup.tokens(), cached = model->cached(slot);
  synced += commonPrefix(cached.subspan(synced), text.subspan(synced, text.size() - 1 - synced));
  SMELT_TRY(model->truncate(slot, uint32_t(synced)));
  SMELT_TRY(model->append(slot, text.subspan(synced)));
  synced = text.size();
  // Its vocabulary may be padded further than that of the model.
  size_t vocabulary = session.model().config().vocabSize;
  while (count < wanted) {
    std::span<const float> logits = model->logits(0);
    int64_t best = argmax(logits.first(std::min(vocabulary, logits.size())));
    if (best < 0)
      return internalError("the draft model gives no finite logit");
    tokens[count] = int32_t(best);
    kinds[count] = Acceptance::draftModel;
    if (++count < wanted)
      SMELT_TRY(model->append(slot, {&tokens[count - 1], 1}));
  }
  double each = secondsSince(start) / double(wanted);
  modelSeconds = modelSeconds == 0 ? each : modelSeconds + newest * (each - modelSeconds);
  return {};
}

void Drafter::push(int32_t token) {
  lookup.push(token);
  if (!wrong && (at < count || (at == 0 && observed))) {
    bool right = tokens[at] == token;
    acceptance.record(kinds[at], right);
    wrong = !right;
    acceptedTokens += at < count && right;
    ++at;
  }
}

void Drafter::verified(double seconds) { session.costs().record(count + 1, seconds); }

} // namespace smelt
