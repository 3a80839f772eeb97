// WordPiece.
#include "runtime/tokenizer/wordpiece.h"

#include "runtime/tokenizer/unicode.h"

#include <string>

namespace smelt {

Result<WordPiece> WordPiece::read(ByteReader &reader, const Vocabulary &vocabulary) {
  WordPiece model;
  model.vocabulary = &vocabulary;
  uint32_t unknown = reader.u32();
  model.maxCharacters = reader.u32();
  model.continuingPrefix = reader.string();
  SMELT_TRY(reader.finish("the WordPiece section"));
  if (unknown >= vocabulary.size())
    return corrupt("the unknown token " + std::to_string(unknown) + " is outside the vocabulary");
  model.unknown = int32_t(unknown);
  return model;
}

void WordPiece::encode(std::string_view word, std::vector<int32_t> &out) const {
  size_t characters = 0;
  for (size_t at = 0; at < word.size(); ++characters)
    nextChar(word, at);
  size_t before = out.size();
  std::string piece;
  for (size_t start = 0; start < word.size();) {
    size_t end = characters > maxCharacters ? start : word.size();
    int32_t id = -1;
    for (; end > start && id < 0; end = id < 0 ? previousChar(word, end) : end) {
      if (start == 0) {
        id = vocabulary->find(word.substr(0, end));
      } else {
        piece = continuingPrefix;
        piece += word.substr(start, end - start);
        id = vocabulary->find(piece);
      }
    }
    if (id < 0) {
      out.resize(before);
      out.push_back(unknown);
      return;
    }
    out.push_back(id);
    start = end;
  }
}

} // namespace smelt
