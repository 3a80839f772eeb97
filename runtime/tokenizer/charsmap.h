// SentencePiece's precompiled character map, as Hugging Face tokenizers apply it: by grapheme
// cluster.
#pragma once

#include "runtime/tokenizer/unicode.h"

#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// The sets that say where the clusters end that are looked up whole (Unicode annex 29; those of
/// 6 bytes and more, as most with Hangul or emoji, are looked up by character).
struct GraphemeSets {
  const CharSet *join = nullptr;    ///< joins the character before
  const CharSet *prepend = nullptr; ///< the character after joins it
  const CharSet *control = nullptr; ///< nothing joins it
};

/// A map from short texts to texts.
class Charsmap {
public:
  /// A key longer than this is never looked up.
  static constexpr size_t maxKeyBytes = 5;

  /// Reads u32 rows, each {string key, string image}, ascending by key.
  static Result<Charsmap> read(ByteReader &reader);

  /// Replaces each cluster of less than 6 bytes that starts with a key, else each of its characters
  /// that starts with one, by the image of the shortest such key.
  std::string apply(std::string_view text, const GraphemeSets &sets) const;

private:
  const std::string_view *find(std::string_view text) const;

  std::vector<std::string_view> keys, images;
  std::vector<uint32_t> firstKey; ///< [257] the keys by their first byte
};

} // namespace smelt
