// Answers with and without drafts, slots together, and the cost of a step by its tokens.
#include "runtime/tools/bench_answers.h"

#include "runtime/model/generate.h"
#include "runtime/tools/bench_clock.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace smelt::cli {

namespace {

constexpr uint32_t mostAnswer = 128; ///< tokens
constexpr uint32_t slotContext = 16; ///< tokens that each slot holds at first
constexpr uint32_t slotSteps = 16;   ///< timed together
constexpr uint32_t mostTogether = 8; ///< slots
constexpr uint32_t stepContext = 64;
constexpr uint32_t stepRepeats = 4;

struct BenchPrompt {
  const char *kind, *text;
};
constexpr BenchPrompt prompts[] = {
#define PROMPT(kind, text) {kind, text},
#include "runtime/tools/bench_prompts.def"
};

/// All prompts of one kind.
struct Kind {
  const char *name;
  std::vector<std::vector<int32_t>> prompts = {};
  std::vector<double> plainSeconds = {}, triedSeconds = {}; ///< per round, of all prompts
  uint64_t tokens = 0, drafted = 0, accepted = 0;           ///< of one round
};

Result<std::vector<Kind>> encodePrompts(const Session &session) {
  std::vector<Kind> kinds;
  for (const BenchPrompt &prompt : prompts) {
    std::vector<ChatMessage> messages = {{"user", prompt.text}};
    SMELT_ASSIGN(std::vector<int32_t> tokens, session.model().encodeChat(messages));
    if (tokens.empty() || tokens.size() + mostAnswer > session.context())
      continue;
    if (kinds.empty() || std::string_view(kinds.back().name) != prompt.kind)
      kinds.push_back({prompt.kind});
    kinds.back().prompts.push_back(std::move(tokens));
  }
  return kinds;
}

/// Tokens behind the first, whose logits come with the prompt.
uint64_t decodedTokens(const GenerateResult &result) { return result.tokens.size() - 1; }

Status answerAll(Session &session, Kind &kind) {
  double plainSeconds = 0, triedSeconds = 0;
  kind.tokens = kind.drafted = kind.accepted = 0;
  for (const std::vector<int32_t> &prompt : kind.prompts) {
    GenerateOptions options;
    options.maxTokens = mostAnswer;
    options.speculate = false;
    SMELT_ASSIGN(GenerateResult plain, generate(session, 0, prompt, options));
    options.speculate = true;
    SMELT_ASSIGN(GenerateResult tried, generate(session, 0, prompt, options));
    if (plain.tokens != tried.tokens)
      return internalError("an answer with drafts differs from the plain one");
    plainSeconds += plain.decodeSeconds;
    triedSeconds += tried.decodeSeconds;
    kind.tokens += decodedTokens(plain);
    kind.drafted += tried.draftedTokens;
    kind.accepted += tried.acceptedTokens;
  }
  kind.plainSeconds.push_back(plainSeconds);
  kind.triedSeconds.push_back(triedSeconds);
  return {};
}

} // namespace

Result<Json> measureSpeculation(Session &session, uint64_t rounds) {
  if (!session.model().tokenizer() || !session.model().chatTemplate() || !session.rewinds())
    return Json();
  SMELT_ASSIGN(std::vector<Kind> kinds, encodePrompts(session));
  for (uint64_t round = 0; round < rounds; ++round)
    for (Kind &kind : kinds)
      SMELT_TRY(answerAll(session, kind));
  Json out;
  for (const Kind &kind : kinds) {
    if (kind.tokens == 0)
      continue;
    double plain = median(kind.plainSeconds), tried = median(kind.triedSeconds);
    Json row;
    row.set("plain_tokens_per_second", double(kind.tokens) / plain);
    row.set("tokens_per_second", double(kind.tokens) / tried);
    row.set("ratio", plain / tried);
    row.set("answer_tokens", kind.tokens);
    row.set("drafted_tokens", kind.drafted);
    row.set("accepted_tokens", kind.accepted);
    out.set(kind.name, std::move(row));
  }
  return out;
}

Result<Json> measureSlots(Session &session, uint64_t rounds) {
  const format::ModelConfig &config = session.model().config();
  const uint32_t count = std::min({mostTogether, config.maxLogitRows, config.maxTokens});
  if (!session.rewinds() || slotContext + slotSteps > config.maxContext)
    return Json();
  SessionOptions options;
  options.context = slotContext + slotSteps;
  options.slots = count;
  options.threads = session.threads();
  SMELT_ASSIGN(std::unique_ptr<Session> together, Session::create(session.sharedModel(), options));
  std::vector<Token> tokens(count);
  std::vector<int32_t> rows(count), beginning(slotContext, 1);
  for (uint32_t slot = 0; slot < count; ++slot)
    rows[slot] = int32_t(slot);
  // Every round decodes the same positions again.
  auto decode = [&](uint32_t slots) -> Result<double> {
    for (uint32_t slot = 0; slot < slots; ++slot) {
      if (together->cached(int32_t(slot)).empty())
        SMELT_TRY(together->append(int32_t(slot), beginning));
      SMELT_TRY(together->truncate(int32_t(slot), slotContext));
    }
    Clock::time_point start = Clock::now();
    for (uint32_t step = 0; step < slotSteps; ++step) {
      for (uint32_t slot = 0; slot < slots; ++slot)
        tokens[slot] = {int32_t((step + slot) % config.vocabSize), int32_t(slotContext + step),
                        int32_t(slot)};
      SMELT_TRY(together->step(std::span(tokens).first(slots), std::span(rows).first(slots)));
    }
    return double(slots) * slotSteps / secondsSince(start);
  };
  std::vector<double> one, all;
  for (uint64_t round = 0; round <= rounds; ++round) {
    SMELT_ASSIGN(double single, decode(1));
    SMELT_ASSIGN(double many, decode(count));
    if (round == 0)
      continue; // cold caches
    one.push_back(single);
    all.push_back(many);
  }
  Json out;
  out.set("slots", count);
  out.set("one_slot_tokens_per_second", median(one));
  out.set("tokens_per_second", median(all));
  out.set("ratio", median(all) / median(one));
  return out;
}

Result<Json> measureSteps(Session &session, uint64_t rounds) {
  const format::ModelConfig &config = session.model().config();
  const uint32_t most =
      std::min({uint32_t(mostDrafted + 1), config.maxLogitRows, config.maxTokens});
  if (!session.rewinds() || stepContext + most > session.context())
    return Json();
  std::vector<Token> tokens;
  std::vector<int32_t> rows, beginning(stepContext, 1);
  for (uint32_t i = 0; i < most; ++i) {
    tokens.push_back({int32_t(i % config.vocabSize), int32_t(stepContext + i), 0});
    rows.push_back(int32_t(i));
  }
  SMELT_TRY(session.truncate(0, 0));
  SMELT_TRY(session.append(0, beginning));
  std::vector<std::vector<double>> seconds(most);
  for (uint64_t round = 0; round <= rounds; ++round) {
    for (uint32_t count = 1; count <= most; ++count) {
      Clock::time_point start = Clock::now();
      for (uint32_t repeat = 0; repeat < stepRepeats; ++repeat)
        SMELT_TRY(session.step(std::span(tokens).first(count), std::span(rows).first(count)));
      if (round != 0) // cold caches
        seconds[count - 1].push_back(secondsSince(start) / stepRepeats);
    }
  }
  Json out;
  for (uint32_t count = 1; count <= most; ++count)
    out.set(std::to_string(count), median(seconds[count - 1]));
  return out;
}

} // namespace smelt::cli
