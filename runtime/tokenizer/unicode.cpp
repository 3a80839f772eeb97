// UTF-8 and sets of code points.
#include "runtime/tokenizer/unicode.h"

#include <algorithm>

namespace smelt {

void appendUtf8(std::string &out, uint32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
    c = replacementCharacter;
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xC0 | c >> 6);
    out += char(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += char(0xE0 | c >> 12);
    out += char(0x80 | (c >> 6 & 0x3F));
    out += char(0x80 | (c & 0x3F));
  } else {
    out += char(0xF0 | c >> 18);
    out += char(0x80 | (c >> 12 & 0x3F));
    out += char(0x80 | (c >> 6 & 0x3F));
    out += char(0x80 | (c & 0x3F));
  }
}

Utf8Prefix classifyUtf8(std::string_view text) {
  uint8_t lead = uint8_t(text[0]);
  if (lead < 0x80)
    return {Utf8Prefix::Valid, 1};
  if (lead < 0xC2 || lead > 0xF4)
    return {Utf8Prefix::Invalid, 1};
  size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  // The second byte is narrower after these leads: overlong forms, surrogates, beyond U+10FFFF
  // (Unicode table 3-7).
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size())
      return {Utf8Prefix::Incomplete, i};
    uint8_t byte = uint8_t(text[i]);
    if (byte < low || byte > high)
      return {Utf8Prefix::Invalid, i};
    low = 0x80, high = 0xBF;
  }
  return {Utf8Prefix::Valid, length};
}

bool isValidUtf8(std::string_view text) {
  while (!text.empty()) {
    Utf8Prefix prefix = classifyUtf8(text);
    if (prefix.kind != Utf8Prefix::Valid)
      return false;
    text.remove_prefix(prefix.bytes);
  }
  return true;
}

std::string toValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    Utf8Prefix prefix = classifyUtf8(text);
    if (prefix.kind == Utf8Prefix::Valid)
      out += text.substr(0, prefix.bytes);
    else
      appendUtf8(out, replacementCharacter);
    text.remove_prefix(prefix.bytes);
  }
  return out;
}

Result<CharSet> CharSet::read(ByteReader &reader) {
  CharSet set;
  set.bitmap = std::make_unique<std::array<uint64_t, 1024>>();
  uint32_t count = reader.count(8);
  int64_t previous = -1;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t first = reader.u32(), last = reader.u32();
    if (int64_t(first) <= previous || last < first || last > 0x10FFFF)
      return corrupt("range " + std::to_string(i) + " of a character set runs from " +
                     std::to_string(first) + " to " + std::to_string(last) +
                     ", expected ascending ranges up to 1114111");
    previous = last;
    for (uint32_t c = first; c <= last && c < 0x10000; ++c)
      (*set.bitmap)[c >> 6] |= uint64_t(1) << (c & 63);
    if (last >= 0x10000)
      set.high.emplace_back(std::max(first, 0x10000u), last);
  }
  if (reader.failed())
    return corrupt("a character set is cut short");
  return set;
}

bool CharSet::containsHigh(uint32_t c) const {
  auto after = std::upper_bound(high.begin(), high.end(), c, [](uint32_t value, const auto &range) {
    return value < range.first;
  });
  return after != high.begin() && c <= std::prev(after)->second;
}

} // namespace smelt
