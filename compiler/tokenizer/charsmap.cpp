// Reads SentencePiece's precompiled character maps.
#include "compiler/tokenizer/charsmap.h"

#include "runtime/tokenizer/byte_reader.h"
#include "runtime/tokenizer/charsmap.h"

#include <span>

namespace smelt {

namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;

constexpr size_t maxRows = 1 << 20; // the real maps have about 80,000; a cyclic array has no end

Result<std::string> decodeBase64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  while (text.ends_with('='))
    text.remove_suffix(1);
  for (char c : text) {
    int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '+'             ? 62
                : c == '/'             ? 63
                                       : -1;
    if (value < 0)
      return corrupt("the precompiled character map of tokenizer.json is not base64");
    bits = bits << 6 | uint32_t(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += char(bits >> held);
    }
  }
  return out;
}

/// Walks the trie in order of keys.
class Walk {
public:
  Walk(std::vector<uint32_t> units, std::string_view images)
      : units(std::move(units)), images(images) {}

  Status run(Rows &rows) {
    if (units.empty())
      return corrupt("the precompiled character map of tokenizer.json is empty");
    return visit(offsetOf(units[0]), rows);
  }

private:
  static size_t offsetOf(uint32_t unit) { return size_t(unit >> 10) << ((unit & 1u << 9) >> 6); }

  Status visit(size_t node, Rows &rows) {
    for (uint32_t label = 1; label < 256; ++label) {
      size_t at = node ^ label;
      if (at >= units.size() || (units[at] & (1u << 31 | 0xFF)) != label)
        continue;
      key += char(label);
      size_t next = at ^ offsetOf(units[at]);
      if (units[at] >> 8 & 1)
        SMELT_TRY(addRow(next, rows));
      else if (key.size() < Charsmap::maxKeyBytes)
        SMELT_TRY(visit(next, rows));
      key.pop_back();
    }
    return {};
  }

  Status addRow(size_t leaf, Rows &rows) {
    size_t offset = leaf < units.size() ? units[leaf] & 0x7FFFFFFF : images.size();
    if (offset >= images.size() || rows.size() >= maxRows)
      return corrupt("the precompiled character map of tokenizer.json has offsets outside it");
    std::string_view image = images.substr(offset);
    rows.emplace_back(key, image.substr(0, image.find('\0')));
    return {};
  }

  std::vector<uint32_t> units;
  std::string_view images;
  std::string key;
};

} // namespace

Result<Rows> readCharsmap(std::string_view base64) {
  SMELT_ASSIGN(std::string bytes, decodeBase64(base64));
  ByteReader reader(std::as_bytes(std::span(bytes)));
  uint32_t arrayBytes = reader.u32();
  if (reader.failed() || arrayBytes % 4 != 0 || arrayBytes > reader.remaining())
    return corrupt("the precompiled character map of tokenizer.json is cut short");
  std::vector<uint32_t> units;
  for (uint32_t i = 0; i < arrayBytes / 4; ++i)
    units.push_back(reader.u32());
  Rows rows;
  SMELT_TRY(
      Walk(std::move(units), std::string_view(bytes).substr(4 + size_t(arrayBytes))).run(rows));
  return rows;
}

} // namespace smelt
