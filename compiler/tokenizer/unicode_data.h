// Sets and maps of code points as the Python package `tokenizers` sees them, for building tokenizer
// blobs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace smelt {

/// A set of code points as ascending inclusive ranges that do not touch.
class CodeSet {
public:
  CodeSet() = default;
  explicit CodeSet(uint32_t c) : CodeSet(c, c) {}
  CodeSet(uint32_t first, uint32_t last) : parts{{first, last}} {}

  void add(uint32_t first, uint32_t last);
  void add(const CodeSet &other);
  CodeSet complement() const;
  CodeSet intersect(const CodeSet &other) const;

  const std::vector<std::pair<uint32_t, uint32_t>> &ranges() const { return parts; }
  friend bool operator==(const CodeSet &, const CodeSet &) = default;

private:
  std::vector<std::pair<uint32_t, uint32_t>> parts;
};

/// A general category ("Lu", "L", ...), a script ("Han", ...) or one of RegexSpace, RegexWord
/// (`\s`, `\w` of Oniguruma), RustNumeric, RustPunctuation, RustSpace, RustWord (of Rust's char and
/// regex), BertRemoved, BertSpace, BertChinese (of BertNormalizer), GraphemeJoin, GraphemePrepend,
/// GraphemeControl (clusters below 6 bytes); none for other names.
std::optional<CodeSet> namedCodeSet(std::string_view name);

/// What matches the ASCII letter `letter` (lower case) when case does not count.
CodeSet caseFoldedLetter(char letter);

/// Rows {character, n, image...} as make_unicode_tables.py writes them.
std::span<const uint32_t> canonicalDecompositions();
/// The rows in which the compatibility decomposition differs from the canonical one.
std::span<const uint32_t> compatibleDecompositions();
std::span<const uint32_t> lowercaseMap();
std::span<const uint32_t> stripAccentsMap();
/// What BertNormalizer strips of decomposed text, and what Nmt changes.
std::span<const uint32_t> bertAccentsMap();
std::span<const uint32_t> nmtMap();
/// Pairs {character, combining class}.
std::span<const uint32_t> combiningClasses();
/// Triples {first, second, composed}.
std::span<const uint32_t> compositions();

} // namespace smelt
