// Calibration text: files of JSON lines or plain text become token windows in the model's own
// tokenization.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <string>
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

/// How text becomes tokens for one model.
struct TextEncoder {
  const Tokenizer *tokenizer = nullptr;
  const ChatTemplate *chatTemplate = nullptr; ///< null: conversations are refused
  ChatContext chatContext;
  int32_t bosToken = -1; ///< first token of every window; -1: none
};

struct SampleOptions {
  int64_t samples = 64;           ///< at most so many windows
  int64_t tokens = 512;           ///< of each
  uint32_t shard = 0, shards = 1; ///< only this part of the windows is run
};

struct SampleSet {
  std::vector<std::vector<int32_t>> samples; ///< windows, every one of at least two tokens
  int64_t tokens = 0;                        ///< of all windows together
};

/// XXH64 of all windows, as 16 hexadecimal digits: tells data sets apart.
std::string hashSamples(const SampleSet &set);

/// Documents one after the other, cut into windows; when there are more than wanted, evenly spread
/// ones are taken. The last window may be shorter.
Result<SampleSet> makeSamples(const std::vector<Document> &documents, const TextEncoder &encoder,
                              const SampleOptions &options);

} // namespace smelt
