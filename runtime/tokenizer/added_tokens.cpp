// Added tokens.
#include "runtime/tokenizer/added_tokens.h"

#include <algorithm>

namespace smelt {

void AddedTokens::Group::finish() {
  std::sort(tokens.begin(), tokens.end(), [](const Token &x, const Token &y) {
    return x.text != y.text ? x.text < y.text : x.id < y.id;
  });
  startsWith.assign(256, false);
  for (const Token &token : tokens)
    startsWith[uint8_t(token.text[0])] = true;
}

/// Narrows the sorted tokens byte by byte to those that the text spells.
const AddedTokens::Token *AddedTokens::Group::longestAt(std::string_view text, size_t at) const {
  if (!startsWith[uint8_t(text[at])])
    return nullptr;
  auto low = tokens.begin(), high = tokens.end();
  const Token *best = nullptr;
  for (size_t depth = 0; at + depth < text.size(); ++depth) {
    uint8_t byte = uint8_t(text[at + depth]);
    low = std::partition_point(low, high, [&](const Token &token) {
      return token.text.size() <= depth || uint8_t(token.text[depth]) < byte;
    });
    high = std::partition_point(
        low, high, [&](const Token &token) { return uint8_t(token.text[depth]) == byte; });
    if (low == high)
      break;
    if (low->text.size() == depth + 1)
      best = &*low;
  }
  return best;
}

Result<AddedTokens> AddedTokens::read(ByteReader &reader, const Vocabulary &vocabulary,
                                      const std::vector<CharSet> &sets,
                                      const Normalizer &normalizer) {
  AddedTokens added;
  uint32_t space = reader.u32(), word = reader.u32();
  if ((space != blobNone && space >= sets.size()) || (word != blobNone && word >= sets.size()))
    return corrupt("the added tokens name a set that does not exist");
  added.space = space == blobNone ? nullptr : &sets[space];
  added.word = word == blobNone ? nullptr : &sets[word];
  added.specialIds.resize(vocabulary.size());
  added.outside.resize(vocabulary.size());
  uint32_t count = reader.count(5);
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t id = reader.u32();
    uint8_t flags = reader.u8();
    std::string_view text = vocabulary.text(id);
    if (text.empty() || !isValidUtf8(text))
      return corrupt("added token " + std::to_string(id) + " has no text");
    if (((flags & (addedLeftStrip | addedRightStrip)) != 0 && !added.space) ||
        ((flags & addedSingleWord) != 0 && !added.word))
      return corrupt("added token " + std::to_string(id) + " needs a set that is missing");
    Token token{std::string(text), id, flags};
    if (flags & addedNormalized) {
      SMELT_ASSIGN(Normalizer::Output normal, normalizer.apply(std::move(token.text)));
      token.text = std::move(normal.text);
      if (token.text != text)
        added.changedByNormalizer.emplace_back(id, token.text);
    }
    added.byText.emplace_back(text, id);
    added.specialIds[id] = flags & addedSpecial;
    added.outside[id] = (flags & addedInModel) == 0;
    if (!token.text.empty())
      (flags & addedNormalized ? added.normalized : added.plain).tokens.push_back(std::move(token));
  }
  SMELT_TRY(reader.finish("the section of added tokens"));
  added.plain.finish();
  added.normalized.finish();
  std::sort(added.byText.begin(), added.byText.end());
  std::sort(added.changedByNormalizer.begin(), added.changedByNormalizer.end());
  return added;
}

int32_t AddedTokens::find(std::string_view text) const {
  auto found = std::lower_bound(byText.begin(), byText.end(), std::pair(text, 0u));
  return found != byText.end() && found->first == text ? int32_t(found->second) : -1;
}

const std::string *AddedTokens::normalizedText(uint32_t id) const {
  auto found =
      std::lower_bound(changedByNormalizer.begin(), changedByNormalizer.end(), id,
                       [](const auto &entry, uint32_t wanted) { return entry.first < wanted; });
  return found != changedByNormalizer.end() && found->first == id ? &found->second : nullptr;
}

bool AddedTokens::standsAlone(std::string_view text, TextRange range) const {
  if (range.begin > 0) {
    size_t before = previousChar(text, range.begin);
    if (word->contains(nextChar(text, before)))
      return false;
  }
  size_t after = range.end;
  return range.end == text.size() || !word->contains(nextChar(text, after));
}

void AddedTokens::widen(std::string_view text, uint8_t flags, size_t done, TextRange &range) const {
  if (flags & addedLeftStrip) {
    while (range.begin > done) { // spaces that an earlier token took stay its own
      size_t before = previousChar(text, range.begin), at = before;
      if (!space->contains(nextChar(text, at)))
        break;
      range.begin = before;
    }
    range.begin = std::max(range.begin, done);
  }
  if (flags & addedRightStrip) {
    while (range.end < text.size()) {
      size_t after = range.end;
      if (!space->contains(nextChar(text, after)))
        break;
      range.end = after;
    }
  }
}

void AddedTokens::split(std::string_view text, bool inNormalized, bool parseSpecial,
                        std::vector<Segment> &out) const {
  const Group &group = inNormalized ? normalized : plain;
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !group.tokens.empty();) {
    const Token *token = group.longestAt(text, at);
    if (!token) {
      ++at;
      continue;
    }
    TextRange range{at, at + token->text.size()};
    at = range.end;
    if (!parseSpecial && isSpecial(token->id))
      continue;
    if ((token->flags & addedSingleWord) && !standsAlone(text, range))
      continue;
    widen(text, token->flags, done, range);
    if (done < range.begin)
      out.push_back({{done, range.begin}, -1});
    out.push_back({range, int32_t(token->id)});
    done = range.end;
  }
  if (done < text.size())
    out.push_back({{done, text.size()}, -1});
}

} // namespace smelt
