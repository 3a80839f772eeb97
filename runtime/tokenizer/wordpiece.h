// WordPiece: cuts a word into the longest tokens from the left (Wu et al. 2016, arXiv:1609.08144).
#pragma once

#include "runtime/tokenizer/vocabulary.h"

#include <string_view>
#include <vector>

namespace smelt {

/// A WordPiece model over a vocabulary, which must outlive it.
class WordPiece {
public:
  /// Reads the WordPiece section.
  static Result<WordPiece> read(ByteReader &reader, const Vocabulary &vocabulary);

  /// Appends the tokens of one word: the longest token at its start, then the longest continuing
  /// token, and so on. A word too long, or with a part that no token begins, is one unknown token.
  void encode(std::string_view word, std::vector<int32_t> &out) const;

private:
  const Vocabulary *vocabulary = nullptr;
  std::string_view continuingPrefix;
  int32_t unknown = -1;
  uint32_t maxCharacters = 0; ///< of a word
};

} // namespace smelt
