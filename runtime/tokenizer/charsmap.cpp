// SentencePiece's precompiled character map.
#include "runtime/tokenizer/charsmap.h"

#include <algorithm>

namespace smelt {

Result<Charsmap> Charsmap::read(ByteReader &reader) {
  Charsmap map;
  uint32_t count = reader.count(4);
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view key = reader.string(), image = reader.string();
    if (key.empty() || key.size() > maxKeyBytes || !isValidUtf8(image))
      return corrupt("row " + std::to_string(i) + " of a character map has false texts");
    if (!map.keys.empty() && key <= map.keys.back())
      return corrupt("a character map is not in ascending order");
    map.keys.push_back(key);
    map.images.push_back(image);
  }
  if (reader.failed())
    return corrupt("a character map is cut short");
  map.firstKey.assign(257, 0);
  for (std::string_view key : map.keys)
    ++map.firstKey[size_t(uint8_t(key[0])) + 1];
  for (size_t byte = 0; byte < 256; ++byte)
    map.firstKey[byte + 1] += map.firstKey[byte];
  return map;
}

/// The image of the shortest key that `text` starts with, or null.
const std::string_view *Charsmap::find(std::string_view text) const {
  auto first = keys.begin() + firstKey[uint8_t(text[0])];
  auto last = keys.begin() + firstKey[size_t(uint8_t(text[0])) + 1];
  for (size_t length = 1; first != last && length <= std::min(text.size(), maxKeyBytes); ++length) {
    first = std::lower_bound(first, last, text.substr(0, length));
    if (first != last && *first == text.substr(0, length))
      return &images[size_t(first - keys.begin())];
  }
  return nullptr;
}

namespace {

/// The end of the grapheme cluster that starts at `at`.
size_t clusterEnd(std::string_view text, size_t at, const GraphemeSets &sets) {
  uint32_t last = nextChar(text, at);
  while (at < text.size()) {
    size_t next = at;
    uint32_t c = nextChar(text, next);
    bool joins = last == '\r' ? c == '\n'
                              : !sets.control->contains(last) &&
                                    (sets.join->contains(c) ||
                                     (sets.prepend->contains(last) && !sets.control->contains(c)));
    if (!joins)
      break;
    last = c;
    at = next;
  }
  return at;
}

} // namespace

std::string Charsmap::apply(std::string_view text, const GraphemeSets &sets) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t end = clusterEnd(text, at, sets);
    const std::string_view *image =
        end - at <= maxKeyBytes ? find(text.substr(at, end - at)) : nullptr;
    if (image) {
      out += *image;
      at = end;
    }
    while (at < end) {
      size_t start = at;
      nextChar(text, at);
      std::string_view character = text.substr(start, at - start);
      image = find(character);
      out += image ? *image : character;
    }
  }
  return out;
}

} // namespace smelt
