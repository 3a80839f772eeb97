// The generation loop and the matcher of stop strings.
#include "runtime/model/generate.h"

#include "runtime/model/drafter.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <optional>

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;
double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Length of the longest end of `text` that is a beginning of `stop`, less than the whole of
/// `stop`.
size_t possibleBeginning(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length != 0; --length)
    if (text.substr(text.size() - length) == stop.substr(0, length))
      return length;
  return 0;
}

} // namespace

std::string_view finishReasonName(FinishReason reason) {
  constexpr std::string_view names[] = {"end token",    "stop string", "max tokens",
                                        "context full", "cancelled",   "callback"};
  return names[size_t(reason)];
}

StopMatcher::StopMatcher(std::span<const std::string> wanted) {
  for (const std::string &stop : wanted)
    if (!stop.empty())
      stops.push_back(stop);
}

std::string StopMatcher::push(std::string_view text) {
  if (found)
    return {};
  held += text;
  size_t certain = held.size();
  for (const std::string &stop : stops) {
    if (size_t at = held.find(stop); at != held.npos) {
      found = true;
      certain = std::min(certain, at);
    }
  }
  if (!found)
    for (const std::string &stop : stops)
      certain = std::min(certain, held.size() - possibleBeginning(held, stop));
  std::string out = held.substr(0, certain);
  held.erase(0, found ? held.size() : certain);
  return out;
}

std::string StopMatcher::finish() { return std::exchange(held, {}); }

namespace {

/// One call of generate(): what sampled tokens become until it ends.
class Generation {
public:
  Generation(const Model &model, const GenerateOptions &options, const TextCallback &onText)
      : onText(onText), matcher(options.stop) {
    if (const Tokenizer *tokenizer = model.tokenizer())
      decoder.emplace(*tokenizer);
  }

  /// Text of a sampled token. Returns why generation must end now, if it must.
  std::optional<FinishReason> push(int32_t token) {
    if (decoder)
      emit(matcher.push(decoder->push(token)));
    return stopped();
  }
  void finish() {
    if (!decoder || stopped())
      return;
    emit(matcher.push(decoder->finish()));
    if (!stopped())
      emit(matcher.finish());
  }
  std::optional<FinishReason> stopped() const {
    if (refused)
      return FinishReason::Callback;
    if (matcher.stopped())
      return FinishReason::StopString;
    return {};
  }
  std::string text;

private:
  void emit(const std::string &piece) {
    text += piece;
    if (onText && !piece.empty() && !onText(piece))
      refused = true;
  }
  const TextCallback &onText;
  StopMatcher matcher;
  std::optional<StreamDecoder> decoder;
  bool refused = false;
};

} // namespace

Result<GenerateResult> generate(Session &session, int32_t slot, std::span<const int32_t> prompt,
                                const GenerateOptions &options, const TextCallback &onText,
                                const std::atomic<bool> *cancel) {
  const Model &model = session.model();
  if (slot < 0 || uint32_t(slot) >= session.slots())
    return invalidArgument("slot " + std::to_string(slot) + " of " +
                           std::to_string(session.slots()));
  if (prompt.empty())
    return invalidArgument("the prompt is empty; give at least one token of text");
  if (prompt.size() > session.context())
    return exhausted("the prompt has " + std::to_string(prompt.size()) +
                     " tokens, the context only " + std::to_string(session.context()) +
                     " positions; shorten it or choose a longer context");
  if (!model.tokenizer() && (onText || !options.stop.empty()))
    return unsupported("the artifact has no tokenizer, so there is no text to stream or stop at");
  SMELT_ASSIGN(Sampler sampler, Sampler::create(options.sampling, model.config().vocabSize));
  const StepOutput wanted = sampler.isGreedy()   ? StepOutput::Likeliest
                            : sampler.needsFew() ? StepOutput::Likely
                                                 : StepOutput::Logits;

  GenerateResult result;
  Generation generation(model, options, onText);
  Clock::time_point start = Clock::now();

  // The last prompt token always runs: its logits start the answer.
  SMELT_ASSIGN(uint32_t shared, session.reuse(slot, prompt.first(prompt.size() - 1)));
  result.promptTokens = uint32_t(prompt.size());
  result.reusedTokens = shared;
  std::optional<Drafter> drafter;
  if (options.speculate && session.rewinds()) {
    size_t room = session.context() - prompt.size() + 1;
    drafter.emplace(session, slot,
                    prompt.size() +
                        (options.maxTokens ? std::min<size_t>(options.maxTokens, room) : room));
  }
  Status read = session.append(slot, prompt.subspan(shared), cancel, wanted);
  if (read.ok() && drafter)
    read = drafter->begin(prompt, cancel);
  result.promptSeconds = secondsSince(start);
  if (read.code() == StatusCode::Cancelled) {
    result.finish = FinishReason::Cancelled;
    return result;
  }
  SMELT_TRY(std::move(read));

  /// Why the answer ends with the token that was sampled last, if it does.
  auto ending = [&](int32_t token) -> std::optional<FinishReason> {
    if (!options.ignoreEnd && model.isEndToken(token))
      return FinishReason::EndToken;
    if (auto stopped = generation.push(token))
      return stopped;
    if (options.maxTokens != 0 && result.tokens.size() >= options.maxTokens)
      return FinishReason::MaxTokens;
    if (prompt.size() + result.tokens.size() > session.context())
      return FinishReason::ContextFull;
    if (cancel && cancel->load(std::memory_order_relaxed))
      return FinishReason::Cancelled;
    return {};
  };

  Clock::time_point decoding = Clock::now();
  std::span<const int32_t> draft; // tokens of the last step behind the one that was certain
  std::array<Token, mostDrafted + 1> tokens;
  std::array<int32_t, mostDrafted + 1> rows;
  std::iota(rows.begin(), rows.end(), 0);
  for (std::optional<FinishReason> finish; !finish;) {
    // Row r of the logits comes after the certain tokens and r drafted ones: it counts as long as
    // these are what would have been sampled.
    int32_t token = -1;
    for (size_t row = 0; !finish; ++row) {
      size_t certain = prompt.size() + result.tokens.size();
      const auto likely =
          wanted == StepOutput::Likely ? session.likely(row) : std::span<const LikelyToken>();
      SMELT_ASSIGN(token, wanted == StepOutput::Likeliest ? Sampler::choose(session.likeliest(row))
                          : !likely.empty() ? sampler.sampleOf(likely)
                                            : sampler.sample(session.logits(row),
                                                             session.cached(slot).first(certain)));
      result.tokens.push_back(token);
      if (drafter)
        drafter->push(token);
      if (result.tokens.size() == 1)
        result.firstTokenSeconds = secondsSince(start);
      finish = ending(token);
      if (row == draft.size() || draft[row] != token)
        break;
    }
    // The last token has never run; drafts that are wrong have, and are forgotten.
    auto held = uint32_t(prompt.size() + result.tokens.size() - 1);
    SMELT_TRY(session.truncate(slot, held));
    if (finish) {
      result.finish = *finish;
      break;
    }
    if (drafter) {
      size_t limit = session.context() - held - 1;
      if (options.maxTokens != 0)
        limit = std::min(limit, options.maxTokens - result.tokens.size() - 1);
      SMELT_ASSIGN(draft, drafter->draft(limit));
    }
    tokens[0] = {token, int32_t(held), slot};
    for (size_t i = 0; i < draft.size(); ++i)
      tokens[i + 1] = {draft[i], int32_t(held + 1 + i), slot};
    Clock::time_point stepping = Clock::now();
    SMELT_TRY(session.step(std::span(tokens).first(draft.size() + 1),
                           std::span(rows).first(draft.size() + 1), wanted));
    if (drafter)
      drafter->verified(secondsSince(stepping));
  }
  if (drafter) {
    result.draftedTokens = drafter->drafted();
    result.acceptedTokens = drafter->accepted();
  }
  generation.finish();
  // What was held back may still be refused or complete a stop string.
  if (auto late = generation.stopped(); late && result.finish != FinishReason::EndToken)
    result.finish = *late;
  result.text = std::move(generation.text);
  result.decodeSeconds = secondsSince(decoding);
  return result;
}

} // namespace smelt
