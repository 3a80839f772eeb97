// Turns tokens back into text, one at a time, as the decoder chain of tokenizer.json says.
#pragma once

#include "runtime/tokenizer/pattern.h"

#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// The decoder chain of one blob. The patterns given to read() must outlive it.
class DecoderChain {
public:
  static Result<DecoderChain> read(ByteReader &reader, const std::vector<Pattern> &patterns);

  /// What a decoding in progress remembers.
  struct State {
    bool eager = false;         ///< give out byte tokens as soon as they make a character
    std::string bytes;          ///< not yet text
    std::vector<uint64_t> seen; ///< per step: tokens so far
    std::vector<uint32_t>
        stripped; ///< per step: characters stripped at the start; blobNone: past the start
  };

  /// Appends the text of `token` to `out`, as far as it is whole UTF-8.
  void push(std::string_view token, State &state, std::string &out) const;
  /// Appends what is left; incomplete bytes become U+FFFD.
  void finish(State &state, std::string &out) const;

private:
  struct Step {
    DecoderStep kind;
    bool fused = false; ///< an earlier step has made all tokens one text
    uint32_t character = 0, start = 0, stop = 0;
    const Pattern *pattern = nullptr;
    std::string_view content;
    bool dropFirst = false;
    bool tidy = false;
  };
  void feed(size_t index, std::string text, State &state, std::string &out) const;
  void feedBytes(size_t index, bool atEnd, State &state, std::string &out) const;
  void flushFallback(size_t index, State &state, std::string &out) const;
  static std::string joinWordPiece(const Step &step, std::string text, bool first);
  static std::string stripToken(const Step &step, std::string_view text);
  static std::string stripStart(const Step &step, std::string_view text, uint32_t &done);

  std::vector<Step> steps;
};

} // namespace smelt
