// Tokens added beside the model: found in the text before anything else happens to it.
#pragma once

#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/vocabulary.h"

#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// The added tokens of one blob. The sets, vocabulary and normalizer given to read() must outlive
/// it.
class AddedTokens {
public:
  static Result<AddedTokens> read(ByteReader &reader, const Vocabulary &vocabulary,
                                  const std::vector<CharSet> &sets, const Normalizer &normalizer);

  /// A stretch of text that is one token, or none (id -1) and goes on to the model.
  struct Segment {
    TextRange range;
    int32_t id;
  };
  /// Cuts `text` at added tokens: the leftmost first, the longest of those that start there.
  /// `normalized` chooses those to be found in normalized text. Special tokens stay text unless
  /// `parseSpecial`.
  void split(std::string_view text, bool normalized, bool parseSpecial,
             std::vector<Segment> &out) const;

  int32_t find(std::string_view text) const;
  /// The normalized text of a token that is found in normalized text, when it differs; it is what
  /// decoding gives.
  const std::string *normalizedText(uint32_t id) const;
  bool isSpecial(uint32_t id) const { return id < specialIds.size() && specialIds[id]; }
  /// Per id: added, and not a token of the model itself.
  const std::vector<bool> &outsideModel() const { return outside; }

private:
  struct Token {
    std::string text; ///< as it is searched for
    uint32_t id;
    uint8_t flags;
  };
  /// Tokens in byte order and the bytes they may start with.
  struct Group {
    std::vector<Token> tokens;
    std::vector<bool> startsWith; ///< [256]
    const Token *longestAt(std::string_view text, size_t at) const;
    void finish();
  };
  bool standsAlone(std::string_view text, TextRange range) const;
  void widen(std::string_view text, uint8_t flags, size_t done, TextRange &range) const;

  Group plain, normalized;
  std::vector<std::pair<std::string_view, uint32_t>> byText;
  std::vector<std::pair<uint32_t, std::string>> changedByNormalizer; ///< ascending ids
  std::vector<bool> specialIds, outside;
  const CharSet *space = nullptr;
  const CharSet *word = nullptr;
};

} // namespace smelt
