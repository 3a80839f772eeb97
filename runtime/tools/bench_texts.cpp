// Texts of a fixed make through an encoder, alone and together.
#include "runtime/tools/bench_texts.h"

#include "runtime/model/encoder.h"
#include "runtime/tools/bench_clock.h"

#include <string>
#include <string_view>
#include <vector>

namespace smelt::cli {

namespace {

constexpr size_t manyTexts = 64;
constexpr size_t shortWords = 12;
/// Runs of the short text behind each other: what is asked is how long it takes, not how long after
/// other work.
constexpr int shortRuns = 20;
/// Words of the many texts: from a query to a page, half of them shorter than 21.
constexpr size_t wordsOf[] = {4, 8, 12, 16, 20, 40, 80, 160};

constexpr std::string_view words[] = {
#define PROMPT(kind, text) text,
#include "runtime/tools/bench_prompts.def"
};

/// `count` words of the bench's prompts from the `start`th on, around their end.
std::string textOf(size_t start, size_t count) {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> list(1);
    for (std::string_view prompt : words) {
      for (char c : prompt) {
        if (c != ' ' && c != '\n')
          list.back() += c;
        else if (!list.back().empty())
          list.emplace_back();
      }
      list.emplace_back();
    }
    list.pop_back();
    return list;
  }();
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += (i ? " " : "") + all[(start + i) % all.size()];
  return text;
}

/// Runs all texts through the encoder, as its kind wants it.
Status runTexts(Encoder &encoder, const std::vector<std::string> &texts) {
  std::vector<EncoderText> views(texts.begin(), texts.end());
  if (encoder.output() == format::PortRole::Classes)
    return encoder.classify(views).status();
  if (encoder.output() != format::PortRole::TokenClasses)
    return encoder.embed(views).status();
  for (const EncoderText &text : views)
    SMELT_TRY(encoder.classifyTokens(text).status());
  return {};
}

} // namespace

Result<Json> measureTexts(const std::shared_ptr<const Model> &model, uint32_t threads,
                          uint64_t rounds) {
  if (!model->tokenizer())
    return Json();
  EncoderOptions options;
  options.threads = threads;
  SMELT_ASSIGN(std::unique_ptr<Encoder> encoder, Encoder::create(model, options));
  std::vector<std::string> many;
  for (size_t i = 0; i < manyTexts; ++i)
    many.push_back(textOf(7 * i, wordsOf[i % std::size(wordsOf)]));
  EncodeOptions limit;
  limit.maxTokens = encoder->mostTokens();
  limit.parseSpecial = false;
  auto length = [&](const std::string &text) -> Result<uint64_t> {
    SMELT_ASSIGN(std::vector<int32_t> ids, model->tokenizer()->encode(text, limit));
    return uint64_t(ids.size());
  };
  SMELT_ASSIGN(uint64_t shortTokens, length(textOf(0, shortWords)));
  Json::Array lengths;
  uint64_t tokens = 0;
  for (const std::string &text : many) {
    SMELT_ASSIGN(uint64_t count, length(text));
    lengths.emplace_back(count);
    tokens += count;
  }
  std::vector<double> one, all;
  for (uint64_t round = 0; round <= rounds; ++round) {
    std::vector<double> alone;
    for (int run = 0; run < shortRuns; ++run) {
      Clock::time_point start = Clock::now();
      SMELT_TRY(runTexts(*encoder, {textOf(0, shortWords)}));
      alone.push_back(secondsSince(start));
    }
    Clock::time_point start = Clock::now();
    SMELT_TRY(runTexts(*encoder, many));
    if (round == 0)
      continue; // cold caches
    one.push_back(median(alone));
    all.push_back(secondsSince(start));
  }
  Json out;
  out.set("short_text_seconds", median(one));
  out.set("short_text_tokens", shortTokens);
  out.set("texts", uint64_t(manyTexts));
  out.set("texts_per_second", double(manyTexts) / median(all));
  out.set("tokens", tokens);
  out.set("lengths", Json(std::move(lengths)));
  out.set("tokens_per_second", double(tokens) / median(all));
  return out;
}

} // namespace smelt::cli
