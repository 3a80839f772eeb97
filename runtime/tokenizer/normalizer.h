// Text normalization as tokenizer.json states it: character maps, Unicode normal forms,
// replacements.
#pragma once

#include "runtime/tokenizer/charsmap.h"
#include "runtime/tokenizer/pattern.h"

#include <string>
#include <utility>
#include <vector>

namespace smelt {

/// The Unicode tables of one blob (section Tables).
struct UnicodeTables {
  struct CharMap {
    struct Row {
      uint32_t character;
      uint32_t offset; ///< of its image in `images`
      uint32_t length;
    };
    std::vector<Row> rows;
    std::vector<uint32_t> images;
    /// The image of `c`, or nothing when it stays as it is.
    const Row *find(uint32_t c) const;
  };
  struct Classes {
    std::vector<std::pair<uint32_t, uint8_t>> rows;
    uint8_t of(uint32_t c) const;
  };
  struct Compositions {
    std::vector<std::pair<uint64_t, uint32_t>> rows; ///< first << 32 | second -> composed
    /// The composition of a pair, or 0.
    uint32_t of(uint32_t first, uint32_t second) const;
  };
  struct Table {
    TableKind kind;
    CharMap map;
    Classes classes;
    Compositions compositions;
    Charsmap charsmap;
  };
  std::vector<Table> tables;

  static Result<UnicodeTables> read(ByteReader &reader);
};

/// A chain of normalization steps. The vectors given to read() must outlive it.
class Normalizer {
public:
  static Result<Normalizer> read(ByteReader &reader, const UnicodeTables &tables,
                                 const std::vector<Pattern> &patterns,
                                 const std::vector<CharSet> &sets);

  /// What normalizing a text gives.
  struct Output {
    std::string text;
    bool startKept = true; ///< its first character stands for the first one of the input
  };
  /// `text` (valid UTF-8) after all steps. Fails when a regular expression needs too many steps.
  Result<Output> apply(std::string text) const;
  bool empty() const { return steps.empty(); }

private:
  struct Step {
    NormalizerStep kind;
    const UnicodeTables::CharMap *map = nullptr;
    const UnicodeTables::Classes *classes = nullptr;
    const UnicodeTables::Compositions *compositions = nullptr;
    const Pattern *pattern = nullptr;
    const CharSet *set = nullptr;
    const Charsmap *charsmap = nullptr;
    GraphemeSets graphemes;
    std::string_view content;
    bool left = false, right = false;
  };
  std::vector<Step> steps;
};

} // namespace smelt
