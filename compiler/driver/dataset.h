// Calibration text: files of JSON lines or plain text become token windows in the model's own
// tokenization.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// One piece of text, or one conversation.
struct Document {
  std::string text;
  std::vector<ChatMessage> messages; ///< a conversation if not empty
};

/// Reads files and folders (all *.txt, *.md, *.jsonl and *.json below them, sorted by path).
/// *.jsonl and *.json have one object per line, {"text": "..."} or {"messages": [{"role": "...",
/// "content": "..."}, ...]}; everything else is plain text and comes in pieces of about 8 KiB.
/// InvalidArgument names file and line of what is malformed.
Result<std::vector<Document>> readDocuments(const std::vector<std::string> &paths);

/// The mixed sample set that is part of the compiler (examples/data/README.md names its sources):
/// conversations, prose, documentation, code and twelve more languages.
Result<std::vector<Document>> builtInDocuments();

/// JSON lines in memory, as readDocuments() reads them; `name` is what errors call them.
Result<std::vector<Document>> parseJsonLines(std::string_view text, const std::string &name);

/// Makes a conversation plain text, for models that know no roles: what is said.
void flatten(Document &document);

/// How text becomes tokens for one model.
struct TextEncoder {
  const Tokenizer *tokenizer = nullptr;
  const ChatTemplate *chatTemplate = nullptr; ///< null: conversations are refused
  ChatContext chatContext;
  int32_t bosToken = -1; ///< first token of every window; -1: none
  /// An encoder reads one text at a time: no window holds parts of two, and each is put between
  /// these tokens ([CLS] and [SEP]).
  bool separate = false;
  std::vector<int32_t> before = {}, after = {};
};

struct SampleOptions {
  int64_t samples = 64; ///< at most so many windows
  int64_t tokens = 512; ///< of each
  /// Both as the user chose them. Else an encoder reads as many tokens in shorter texts, as its
  /// users have them: see usualTextTokens.
  bool chosen = false;
  uint32_t shard = 0, shards = 1; ///< only this part of the windows is run
};

/// What a text for an encoder has at most, [CLS] and [SEP] included. MiniLM with INT4 weights,
/// `smelt compile --effort 2` on windows of 512 / 128 / 64 / 32 tokens, 32,768 in all: 1 - cos of
/// embeddings 0.00107 / 0.00093 / 0.00091 / 0.00090 on sentences, 0.00217 / 0.00211 / 0.00213 /
/// 0.00216 on passages of 110 tokens; with --effort 1 0.0147 / 0.0126 / 0.0114 / 0.0103 and 0.0158
/// / 0.0146 / 0.0139 / 0.0136.
inline constexpr int64_t usualTextTokens = 64;

struct SampleSet {
  std::vector<std::vector<int32_t>> samples; ///< windows, every one of at least two tokens
  int64_t tokens = 0;                        ///< of all windows together
  /// Of the text that was tokenized, of which the windows may be a part.
  int64_t textTokens = 0, textBytes = 0, textCharacters = 0;
  int64_t strangeTokens = 0;         ///< of these, unknown ones and bytes for lack of a word
  std::vector<std::string> warnings; ///< what makes the set a poor one (dataWarnings)
};

/// XXH64 of all windows, as 16 hexadecimal digits: tells data sets apart.
std::string hashSamples(const SampleSet &set);

/// Documents one after the other, cut into windows; when there are more than wanted, evenly spread
/// ones are taken. The last window may be shorter.
Result<SampleSet> makeSamples(const std::vector<Document> &documents, const TextEncoder &encoder,
                              const SampleOptions &options);

/// What makes calibration data poor, each a sentence that says what to do: too little of it (less
/// than 4 tokens for each of the `widest` inputs of a linear), all of one kind, few different
/// tokens, or text that the tokenizer was not made for.
std::vector<std::string> dataWarnings(const std::vector<Document> &documents, const SampleSet &set,
                                      const Tokenizer &tokenizer, int64_t widest);

} // namespace smelt
