// What makes calibration data poor.
#include "compiler/driver/dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <set>

namespace smelt {

namespace {

enum class Kind { Conversation, Code, Data, Prose, OtherScript };
constexpr std::array<const char *, 5> kindNames = {"conversations", "program code",
                                                   "tables or JSON", "prose",
                                                   "text in another script than Latin"};

/// A rough guess from the signs of a text; only a set of nothing but one kind is spoken of.
Kind kindOf(const Document &document) {
  if (!document.messages.empty())
    return Kind::Conversation;
  double marks = 0, digits = 0, foreign = 0, code = 0;
  const std::string &text = document.text;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    foreign += c > 0xC5; // lead bytes beyond Latin letters with accents
    digits += c >= '0' && c <= '9';
    marks += c != 0 && std::string_view("\",:|[]").find(char(c)) != std::string_view::npos;
    code += std::string_view("{}();=<>_").find(char(c)) != std::string_view::npos && c != 0;
  }
  const double bytes = std::max<double>(1, double(text.size()));
  if (foreign / bytes > 0.15)
    return Kind::OtherScript;
  if (code / bytes > 0.04)
    return Kind::Code;
  return (marks + digits) / bytes > 0.15 ? Kind::Data : Kind::Prose;
}

size_t bytesOf(const Document &document) {
  size_t bytes = document.text.size();
  for (const ChatMessage &message : document.messages)
    bytes += message.content.size();
  return bytes;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

} // namespace

std::vector<std::string> dataWarnings(const std::vector<Document> &documents, const SampleSet &set,
                                      const Tokenizer &tokenizer, int64_t widest) {
  std::vector<std::string> warnings;
  const double perInput = double(set.tokens) / double(std::max<int64_t>(1, widest));
  if (perInput < 4)
    warnings.push_back(
        "only " + std::to_string(set.tokens) + " tokens of calibration text for linears of up to " +
        std::to_string(widest) + " inputs, " + number(perInput) + " for each; give at least " +
        std::to_string(4 * widest) + " with --data and --samples");

  // Text that the tokenizer was made for has 3 to 5 characters a token, in Chinese or Japanese 1.3
  // or more; a script that it cuts into bytes has less than 1. Vocabularies of bytes always do.
  const double tokens = double(std::max<int64_t>(1, set.textTokens));
  const double characters = double(set.textCharacters) / tokens;
  const bool isCut = characters < 1 || double(set.textBytes) < 1.6 * tokens;
  const double strange = double(set.strangeTokens) / tokens;
  if (strange > 0.1)
    warnings.push_back(number(100 * strange) + " % of the calibration text are unknown to the "
                                               "tokenizer: is it in a language of the model, and "
                                               "text at all?");
  else if (isCut && tokenizer.vocabSize() > 1024)
    warnings.push_back("the calibration text has only " + number(characters) +
                       " characters a token, where text in the model's languages has 3 to 5: is "
                       "it in one of them, and text at all?");

  // Of N tokens of mixed text some 10 N^0.6 are different ones; 4 N^0.5 is far less.
  std::set<int32_t> different;
  for (const std::vector<int32_t> &sample : set.samples)
    different.insert(sample.begin(), sample.end());
  const bool isRepeated = set.tokens >= 1024 && tokenizer.vocabSize() > 1024 &&
                          double(different.size()) < 4 * std::sqrt(double(set.tokens));
  std::array<size_t, kindNames.size()> bytes = {};
  size_t all = 0;
  for (const Document &document : documents) {
    bytes[size_t(kindOf(document))] += bytesOf(document);
    all += bytesOf(document);
  }
  const size_t most = size_t(std::max_element(bytes.begin(), bytes.end()) - bytes.begin());
  if (isRepeated)
    warnings.push_back("the calibration text repeats itself: " + std::to_string(set.tokens) +
                       " tokens, but only " + std::to_string(different.size()) +
                       " different ones; give more varied text with --data");
  else if (all > 0 && double(bytes[most]) > 0.99 * double(all))
    warnings.push_back(std::string("the calibration text is all of one kind (") + kindNames[most] +
                       "): quality elsewhere may suffer; add other kinds with --data, or leave "
                       "--data out for the built-in mix");
  return warnings;
}

} // namespace smelt
