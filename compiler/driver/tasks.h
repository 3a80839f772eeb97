// Task files of `smelt eval`: one question, prompt or pair of sentences a line.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tokenizer/chat_template.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// {"context" or "question": "...", "choices": ["...", ...], "answer": i}
struct ChoiceItem {
  std::string context;
  std::vector<std::string> choices; ///< at least two
  size_t answer = 0;                ///< the right one, from 0
};

/// How an answer is judged.
enum class AnswerCheck {
  Exact,    ///< it is one of `expect`, white space around both left out
  Contains, ///< one of `expect` is in it
  Json      ///< it is JSON, also within a ``` block; equal to `expect` as JSON if that is given
};

/// {"prompt": "..." or "messages": [...], "expect": "..." or ["...", ...], "check": "exact",
/// "contains" or "json", "max_tokens": n}
struct GenerationItem {
  std::string prompt;
  std::vector<ChatMessage> messages; ///< a conversation if not empty
  std::vector<std::string> expect;   ///< any of these
  AnswerCheck check = AnswerCheck::Exact;
  int64_t maxTokens = 64;
};

/// {"a": "...", "b": "...", "score": x} or a line "a<TAB>b<TAB>score".
struct PairItem {
  std::string a, b;
  double score = 0; ///< how alike people find them; any scale
};

/// The items of one file; all of one kind, two of the lists are empty.
struct TaskFile {
  std::string path;
  std::vector<ChoiceItem> choices;
  std::vector<GenerationItem> generations;
  std::vector<PairItem> pairs;
};

/// Reads *.tsv as pairs, anything else as JSON lines whose first one decides the kind.
/// InvalidArgument names file and line, what was found and what was expected.
Result<TaskFile> readTaskFile(const std::string &path);

/// Whether an answer passes.
bool passes(const GenerationItem &item, const std::string &answer);

} // namespace smelt
