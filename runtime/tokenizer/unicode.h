// UTF-8 and sets of code points: the little Unicode that the runtime needs without a Unicode
// library.
#pragma once

#include "runtime/tokenizer/byte_reader.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

inline constexpr uint32_t replacementCharacter = 0xFFFD;

/// Appends `codePoint` as UTF-8; what is no scalar value becomes U+FFFD.
void appendUtf8(std::string &out, uint32_t codePoint);

/// Decodes the character at text[at] and moves `at` behind it. `text` must be valid UTF-8 from `at`
/// on; whatever the bytes are, nothing outside `text` is read and `at` grows by at least one.
inline uint32_t nextChar(std::string_view text, size_t &at) {
  uint8_t lead = uint8_t(text[at]);
  if (lead < 0x80) {
    ++at;
    return lead;
  }
  unsigned length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  uint32_t c = lead & (0xFF >> (length + 1));
  size_t end = at + length < text.size() ? at + length : text.size();
  for (++at; at < end; ++at)
    c = (c << 6) | (uint8_t(text[at]) & 0x3F);
  return c;
}

/// The start of the character that ends at `at` (> 0).
inline size_t previousChar(std::string_view text, size_t at) {
  do
    --at;
  while (at > 0 && (uint8_t(text[at]) & 0xC0) == 0x80);
  return at;
}

/// How the bytes at the start of `text` read as UTF-8.
struct Utf8Prefix {
  enum Kind { Valid, Invalid, Incomplete } kind;
  size_t bytes; ///< of the valid character, of the maximal invalid part, or of all that is left
};
/// Classifies the first character of a non-empty `text`. `Incomplete`: more bytes could still make
/// it valid.
Utf8Prefix classifyUtf8(std::string_view text);

/// `text` with each maximal invalid part replaced by U+FFFD (as the Unicode standard, Rust and
/// Python do).
std::string toValidUtf8(std::string_view text);
bool isValidUtf8(std::string_view text);

/// A set of code points: sorted ranges, with a bitmap for the 65,536 common ones.
class CharSet {
public:
  /// Reads {u32 ranges, ranges x {u32 first, u32 last}}.
  static Result<CharSet> read(ByteReader &reader);

  bool contains(uint32_t c) const {
    if (c < 0x10000)
      return (*bitmap)[c >> 6] >> (c & 63) & 1;
    return containsHigh(c);
  }

private:
  bool containsHigh(uint32_t c) const;

  std::unique_ptr<std::array<uint64_t, 1024>> bitmap;
  std::vector<std::pair<uint32_t, uint32_t>> high; ///< inclusive ranges at and above 65,536
};

} // namespace smelt
