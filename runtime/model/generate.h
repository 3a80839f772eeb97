// Generation of text: prompt, sampling loop, streaming, stop strings, end tokens and cancellation.
#pragma once

#include "runtime/base/status.h"
#include "runtime/model/sampler.h"
#include "runtime/model/session.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct GenerateOptions {
  uint32_t maxTokens = 0; ///< 0: until the context is full
  SamplingOptions sampling = {};
  std::vector<std::string> stop =
      {};                 ///< generation ends before the first of these; the text leaves it out
  bool ignoreEnd = false; ///< goes on after the model's end tokens
  /// Tries drafted tokens where that is expected to be faster (drafter.h); the answer is the same.
  bool speculate = true;
};

enum class FinishReason { EndToken, StopString, MaxTokens, ContextFull, Cancelled, Callback };
std::string_view finishReasonName(FinishReason reason);

struct GenerateResult {
  std::string text;
  std::vector<int32_t> tokens; ///< sampled ones, the end token included
  FinishReason finish = FinishReason::MaxTokens;
  uint32_t promptTokens = 0;                      ///< of the whole prompt
  uint32_t reusedTokens = 0;                      ///< of these, found in the cache
  uint32_t draftedTokens = 0, acceptedTokens = 0; ///< tried by speculation, and of these right
  double promptSeconds = 0, firstTokenSeconds = 0, decodeSeconds = 0;
};

/// Receives text as soon as it is certain: whole UTF-8 characters that no stop string can take
/// back. False: stop.
using TextCallback = std::function<bool(std::string_view)>;

/// Holds text back while it may be the beginning of a stop string.
class StopMatcher {
public:
  explicit StopMatcher(std::span<const std::string> stops);
  /// Adds text; returns what is certain now. After a stop string was found, stopped() is true and
  /// nothing more comes.
  std::string push(std::string_view text);
  /// What was held back, when nothing more comes.
  std::string finish();
  bool stopped() const { return found; }

private:
  std::vector<std::string> stops;
  std::string held;
  bool found = false;
};

/// Puts `prompt` into the slot, reusing the longest beginning that any slot has cached, and
/// generates after it. The slot then holds prompt and answer, so a longer conversation with the same
/// beginning reads only what is new. Needs a tokenizer unless there is neither a callback nor a
/// stop string: then the text stays empty. Cancellation is a result (FinishReason::Cancelled), not
/// a failure.
Result<GenerateResult> generate(Session &session, int32_t slot, std::span<const int32_t> prompt,
                                const GenerateOptions &options, const TextCallback &onText = {},
                                const std::atomic<bool> *cancel = nullptr);

} // namespace smelt
