// Cuts text into the pieces that the model merges within: regular expressions, byte characters,
// meta spaces.
#pragma once

#include "runtime/tokenizer/pattern.h"

#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// One piece of text on its way to the model.
struct TextPiece {
  std::string_view text;
  bool atStart; ///< begins where the whole text begins (PrependScheme::First asks for it)
};

/// The GPT-2 character of each byte: printable Latin-1 stands for itself, the others for U+0100
/// upwards.
uint32_t byteToChar(uint8_t byte);
/// The byte of a GPT-2 character, or -1.
int charToByte(uint32_t c);

/// A chain of pre-tokenization steps. The patterns given to read() must outlive it.
class PreTokenizer {
public:
  static Result<PreTokenizer> read(ByteReader &reader, const std::vector<Pattern> &patterns);

  /// Replaces `pieces` by what they are cut into; none is empty. New text is put into `arena`. When
  /// the last step maps bytes to characters it is left out and yieldsBytes() is true: the model
  /// looks raw bytes up by itself.
  Status apply(std::vector<TextPiece> &pieces, std::deque<std::string> &arena) const;
  bool yieldsBytes() const { return lastMapsBytes; }

private:
  struct Step {
    PreTokenizerStep kind;
    const Pattern *pattern = nullptr;
    SplitBehavior behavior = SplitBehavior::Isolated;
    bool invert = false;
    std::string_view replacement;
    PrependScheme scheme = PrependScheme::Never;
  };
  Status split(const Step &step, std::vector<TextPiece> &pieces) const;

  std::vector<Step> steps;
  bool lastMapsBytes = false;
};

} // namespace smelt
