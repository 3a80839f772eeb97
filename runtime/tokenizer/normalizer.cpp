// Text normalization.
#include "runtime/tokenizer/normalizer.h"

#include <algorithm>

namespace smelt {

namespace {

// Hangul syllables compose by arithmetic (Unicode standard, section 3.12).
constexpr uint32_t hangulBase = 0xAC00, leadBase = 0x1100, vowelBase = 0x1161, tailBase = 0x11A7;
constexpr uint32_t leadCount = 19, vowelCount = 21, tailCount = 28;
constexpr uint32_t syllableCount = leadCount * vowelCount * tailCount;

bool decomposeHangul(uint32_t c, std::vector<uint32_t> &out) {
  if (c < hangulBase || c >= hangulBase + syllableCount)
    return false;
  uint32_t index = c - hangulBase;
  out.push_back(leadBase + index / (vowelCount * tailCount));
  out.push_back(vowelBase + index % (vowelCount * tailCount) / tailCount);
  if (index % tailCount != 0)
    out.push_back(tailBase + index % tailCount);
  return true;
}

uint32_t composeHangul(uint32_t first, uint32_t second) {
  if (first >= leadBase && first < leadBase + leadCount && second >= vowelBase &&
      second < vowelBase + vowelCount)
    return hangulBase + ((first - leadBase) * vowelCount + (second - vowelBase)) * tailCount;
  if (first >= hangulBase && first < hangulBase + syllableCount &&
      (first - hangulBase) % tailCount == 0 && second > tailBase && second < tailBase + tailCount)
    return first + (second - tailBase);
  return 0;
}

Result<UnicodeTables::CharMap> readCharMap(ByteReader &reader) {
  UnicodeTables::CharMap map;
  uint32_t count = reader.count(5);
  int64_t previous = -1;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t character = reader.u32();
    uint32_t length = reader.u8();
    if (int64_t(character) <= previous)
      return corrupt("a character map is not in ascending order");
    previous = character;
    map.rows.push_back({character, uint32_t(map.images.size()), length});
    for (uint32_t k = 0; k < length; ++k)
      map.images.push_back(reader.u32());
  }
  return map;
}

} // namespace

const UnicodeTables::CharMap::Row *UnicodeTables::CharMap::find(uint32_t c) const {
  auto row = std::lower_bound(rows.begin(), rows.end(), c,
                              [](const Row &r, uint32_t value) { return r.character < value; });
  return row != rows.end() && row->character == c ? &*row : nullptr;
}

uint8_t UnicodeTables::Classes::of(uint32_t c) const {
  auto row = std::lower_bound(rows.begin(), rows.end(), std::pair(c, uint8_t(0)));
  return row != rows.end() && row->first == c ? row->second : 0;
}

uint32_t UnicodeTables::Compositions::of(uint32_t first, uint32_t second) const {
  uint64_t key = uint64_t(first) << 32 | second;
  auto row = std::lower_bound(rows.begin(), rows.end(), std::pair(key, 0u));
  return row != rows.end() && row->first == key ? row->second : 0;
}

Result<UnicodeTables> UnicodeTables::read(ByteReader &reader) {
  UnicodeTables all;
  uint32_t count = reader.count(5);
  for (uint32_t t = 0; t < count; ++t) {
    Table table;
    table.kind = TableKind(reader.u8());
    if (table.kind == TableKind::CharMap) {
      SMELT_ASSIGN(table.map, readCharMap(reader));
    } else if (table.kind == TableKind::Classes) {
      uint32_t rows = reader.count(5);
      for (uint32_t i = 0; i < rows; ++i) {
        uint32_t character = reader.u32();
        table.classes.rows.emplace_back(character, reader.u8());
      }
      if (!std::is_sorted(table.classes.rows.begin(), table.classes.rows.end()))
        return corrupt("a table of combining classes is not in ascending order");
    } else if (table.kind == TableKind::Compositions) {
      uint32_t rows = reader.count(12);
      for (uint32_t i = 0; i < rows; ++i) {
        uint64_t first = reader.u32(), second = reader.u32();
        table.compositions.rows.emplace_back(first << 32 | second, reader.u32());
      }
      if (!std::is_sorted(table.compositions.rows.begin(), table.compositions.rows.end()))
        return corrupt("a table of compositions is not in ascending order");
    } else if (table.kind == TableKind::Charsmap) {
      SMELT_ASSIGN(table.charsmap, Charsmap::read(reader));
    } else {
      return corrupt("unicode table " + std::to_string(t) + " has unknown kind " +
                     std::to_string(int(table.kind)));
    }
    all.tables.push_back(std::move(table));
  }
  if (reader.failed())
    return corrupt("the unicode tables are cut short");
  return all;
}

Result<Normalizer> Normalizer::read(ByteReader &reader, const UnicodeTables &tables,
                                    const std::vector<Pattern> &patterns,
                                    const std::vector<CharSet> &sets) {
  Normalizer normalizer;
  auto table = [&](TableKind kind) -> const UnicodeTables::Table * {
    uint32_t index = reader.u32();
    return index < tables.tables.size() && tables.tables[index].kind == kind ? &tables.tables[index]
                                                                             : nullptr;
  };
  Status badIndex = corrupt("a normalizer step names a table, pattern or set that does not exist");
  auto takeSet = [&](const CharSet *&set) {
    uint32_t index = reader.u32();
    set = index < sets.size() ? &sets[index] : nullptr;
    return set != nullptr;
  };
  uint32_t count = reader.count(1);
  for (uint32_t i = 0; i < count; ++i) {
    Step step;
    step.kind = NormalizerStep(reader.u8());
    switch (step.kind) {
    case NormalizerStep::CharMap: {
      const auto *map = table(TableKind::CharMap);
      if (!map)
        return badIndex;
      step.map = &map->map;
      break;
    }
    case NormalizerStep::NormalForm: {
      const auto *map = table(TableKind::CharMap);
      const auto *classes = table(TableKind::Classes);
      ByteReader peek = reader;
      bool decomposeOnly = peek.u32() == blobNone;
      const auto *compositions = table(TableKind::Compositions);
      if (!map || !classes || (!compositions && !decomposeOnly))
        return badIndex;
      step.map = &map->map;
      step.classes = &classes->classes;
      step.compositions = compositions ? &compositions->compositions : nullptr;
      break;
    }
    case NormalizerStep::Replace: {
      uint32_t pattern = reader.u32();
      if (pattern >= patterns.size())
        return badIndex;
      step.pattern = &patterns[pattern];
      step.content = reader.string();
      break;
    }
    case NormalizerStep::Prepend:
      step.content = reader.string();
      break;
    case NormalizerStep::Strip: {
      step.left = reader.u8() != 0;
      step.right = reader.u8() != 0;
      if (!takeSet(step.set))
        return badIndex;
      break;
    }
    case NormalizerStep::Pad:
      if (!takeSet(step.set))
        return badIndex;
      break;
    case NormalizerStep::Charsmap: {
      const auto *map = table(TableKind::Charsmap);
      if (!map || !takeSet(step.graphemes.join) || !takeSet(step.graphemes.prepend) ||
          !takeSet(step.graphemes.control))
        return badIndex;
      step.charsmap = &map->charsmap;
      break;
    }
    default:
      return corrupt("unknown normalizer step " + std::to_string(int(step.kind)));
    }
    if (!isValidUtf8(step.content))
      return corrupt("the text of a normalizer step is not UTF-8");
    normalizer.steps.push_back(step);
  }
  SMELT_TRY(reader.finish("the normalizer section"));
  return normalizer;
}

namespace {

bool isAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return uint8_t(c) < 0x80; });
}

std::string applyMap(const UnicodeTables::CharMap &map, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t start = at;
    const auto *row = map.find(nextChar(text, at));
    if (!row)
      out += text.substr(start, at - start);
    else
      for (uint32_t k = 0; k < row->length; ++k)
        appendUtf8(out, map.images[row->offset + k]);
  }
  return out;
}

/// Composes in place (Unicode standard, D117): a starter takes each later mark that no mark of the
/// same or a higher class, and no other starter, keeps from it.
void compose(std::vector<uint32_t> &chars, const std::vector<uint8_t> &classOf,
             const UnicodeTables::Compositions &compositions) {
  size_t starter = ~size_t(0), kept = 0;
  int lastClass = -1; // of the last character kept since the starter; -1: none
  for (size_t i = 0; i < chars.size(); ++i) {
    uint32_t c = chars[i];
    int cls = classOf[i];
    if (starter != ~size_t(0) && lastClass < cls) {
      uint32_t composed = composeHangul(chars[starter], c);
      if (composed == 0)
        composed = compositions.of(chars[starter], c);
      if (composed != 0) {
        chars[starter] = composed;
        continue;
      }
    }
    if (cls == 0) {
      starter = kept;
      lastClass = -1;
    } else {
      lastClass = cls;
    }
    chars[kept++] = c;
  }
  chars.resize(kept);
}

std::string applyNormalForm(const UnicodeTables::CharMap &decompositions,
                            const UnicodeTables::Classes &classes,
                            const UnicodeTables::Compositions *compositions,
                            std::string_view text) {
  std::vector<uint32_t> chars;
  chars.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    uint32_t c = nextChar(text, at);
    if (c < 0x80 || decomposeHangul(c, chars)) {
      if (c < 0x80)
        chars.push_back(c);
      continue;
    }
    if (const auto *row = decompositions.find(c))
      chars.insert(chars.end(), decompositions.images.begin() + row->offset,
                   decompositions.images.begin() + row->offset + row->length);
    else
      chars.push_back(c);
  }
  // Canonical order: marks between two starters sort by class, equal ones stay in place.
  std::vector<uint8_t> classOf(chars.size());
  for (size_t i = 0; i < chars.size(); ++i)
    classOf[i] = chars[i] < 0x80 ? 0 : classes.of(chars[i]);
  for (size_t i = 0; i < chars.size();) {
    if (classOf[i] == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < chars.size() && classOf[end] != 0)
      ++end;
    if (end - i > 1) {
      struct Mark {
        uint8_t cls;
        size_t position; // equal classes keep their order
        uint32_t character;
        bool operator<(const Mark &other) const {
          return cls != other.cls ? cls < other.cls : position < other.position;
        }
      };
      std::vector<Mark> run;
      for (size_t k = i; k < end; ++k)
        run.push_back({classOf[k], k, chars[k]});
      std::sort(run.begin(), run.end());
      for (size_t k = i; k < end; ++k)
        classOf[k] = run[k - i].cls, chars[k] = run[k - i].character;
    }
    i = end;
  }
  if (compositions)
    compose(chars, classOf, *compositions);
  std::string out;
  out.reserve(text.size());
  for (uint32_t c : chars)
    appendUtf8(out, c);
  return out;
}

std::string_view stripSpace(std::string_view text, const CharSet &space, bool left, bool right) {
  while (left && !text.empty()) {
    size_t next = 0;
    if (!space.contains(nextChar(text, next)))
      break;
    text.remove_prefix(next);
  }
  while (right && !text.empty()) {
    size_t last = previousChar(text, text.size()), at = last;
    if (!space.contains(nextChar(text, at)))
      break;
    text = text.substr(0, last);
  }
  return text;
}

std::string padCharacters(const CharSet &set, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t start = at;
    bool padded = set.contains(nextChar(text, at));
    out += padded ? " " : "";
    out += text.substr(start, at - start);
    out += padded ? " " : "";
  }
  return out;
}

} // namespace

Result<Normalizer::Output> Normalizer::apply(std::string text) const {
  Output output;
  for (const Step &step : steps) {
    switch (step.kind) {
    case NormalizerStep::CharMap: {
      size_t first = 0;
      const auto *row = text.empty() ? nullptr : step.map->find(nextChar(text, first));
      output.startKept &= !row || row->length > 0;
      text = applyMap(*step.map, text);
      break;
    }
    case NormalizerStep::NormalForm:
      if (!isAscii(text)) // no ASCII character decomposes, composes or moves
        text = applyNormalForm(*step.map, *step.classes, step.compositions, text);
      break;
    case NormalizerStep::Replace: {
      std::vector<TextRange> matches;
      SMELT_TRY(step.pattern->findAll(text, matches));
      output.startKept &= matches.empty() || matches[0].begin > 0 || !step.content.empty();
      text = replaceRanges(text, matches, step.content);
      break;
    }
    case NormalizerStep::Prepend:
      if (!text.empty())
        text.insert(0, step.content);
      break;
    case NormalizerStep::Strip: {
      std::string_view kept = stripSpace(text, *step.set, step.left, step.right);
      output.startKept &= kept.data() == text.data();
      text = std::string(kept);
      break;
    }
    case NormalizerStep::Pad:
      text = padCharacters(*step.set, text);
      break;
    case NormalizerStep::Charsmap: {
      bool wasEmpty = text.empty();
      text = step.charsmap->apply(text, step.graphemes);
      output.startKept &= wasEmpty || !text.empty();
      break;
    }
    }
  }
  output.text = std::move(text);
  return output;
}

} // namespace smelt
