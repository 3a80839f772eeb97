// Sets and maps of code points.
#include "compiler/tokenizer/unicode_data.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace smelt {

#include "compiler/tokenizer/unicode_tables.inc"

void CodeSet::add(uint32_t first, uint32_t last) {
  parts.emplace_back(first, last);
  std::sort(parts.begin(), parts.end());
  std::vector<std::pair<uint32_t, uint32_t>> merged;
  for (const auto &[low, high] : parts) {
    if (!merged.empty() && low <= merged.back().second + 1)
      merged.back().second = std::max(merged.back().second, high);
    else
      merged.emplace_back(low, high);
  }
  parts = std::move(merged);
}

void CodeSet::add(const CodeSet &other) {
  CodeSet both;
  // Merge of two sorted lists; add() above is for single ranges.
  std::vector<std::pair<uint32_t, uint32_t>> all;
  std::merge(parts.begin(), parts.end(), other.parts.begin(), other.parts.end(),
             std::back_inserter(all));
  for (const auto &[low, high] : all) {
    if (!both.parts.empty() && low <= both.parts.back().second + 1)
      both.parts.back().second = std::max(both.parts.back().second, high);
    else
      both.parts.emplace_back(low, high);
  }
  *this = std::move(both);
}

CodeSet CodeSet::complement() const {
  CodeSet result;
  uint32_t next = 0;
  for (const auto &[low, high] : parts) {
    if (low > next)
      result.parts.emplace_back(next, low - 1);
    next = high + 1;
  }
  if (next <= 0x10FFFF)
    result.parts.emplace_back(next, 0x10FFFF);
  return result;
}

CodeSet CodeSet::intersect(const CodeSet &other) const {
  CodeSet outside = complement();
  outside.add(other.complement());
  return outside.complement();
}

std::optional<CodeSet> namedCodeSet(std::string_view name) {
  // A one-letter category is the union of its two-letter ones.
  std::optional<CodeSet> result;
  for (const NamedSet &set : namedSets) {
    std::string_view candidate = set.name;
    if (candidate != name &&
        !(name.size() == 1 && candidate.size() == 2 && candidate[0] == name[0]))
      continue;
    if (!result)
      result.emplace();
    CodeSet part;
    for (size_t i = 0; i + 1 < set.count; i += 2) {
      CodeSet range(set.numbers[i], set.numbers[i + 1]);
      part.add(range);
    }
    result->add(part);
  }
  return result;
}

CodeSet caseFoldedLetter(char letter) {
  if (auto folded = namedCodeSet(std::string("Fold_") + letter))
    return *folded;
  CodeSet both{uint32_t(letter)};
  both.add(uint32_t(letter) - 32, uint32_t(letter) - 32);
  return both;
}

std::span<const uint32_t> canonicalDecompositions() { return mapCanonical; }
std::span<const uint32_t> compatibleDecompositions() { return mapCompatible; }
std::span<const uint32_t> lowercaseMap() { return mapLowercase; }
std::span<const uint32_t> stripAccentsMap() { return mapStripAccents; }
std::span<const uint32_t> bertAccentsMap() { return mapBertAccents; }
std::span<const uint32_t> nmtMap() { return mapNmt; }
std::span<const uint32_t> combiningClasses() { return tableCombiningClasses; }
std::span<const uint32_t> compositions() { return tableCompositions; }

} // namespace smelt
