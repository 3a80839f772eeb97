// Builds the tokenizer section of an artifact (layout: runtime/tokenizer/blob.h).
#pragma once

#include "compiler/tokenizer/pattern_compiler.h"

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace smelt {

/// Appends little-endian numbers and strings.
class ByteWriter {
public:
  void number(uint64_t value, unsigned width) {
    for (unsigned i = 0; i < width; ++i)
      bytes += char(value >> (8 * i));
  }
  void u8(uint8_t value) { number(value, 1); }
  void u16(uint16_t value) { number(value, 2); }
  void u32(uint32_t value) { number(value, 4); }
  void raw(std::string_view text) { bytes += text; }
  /// u16 length and text; `text` is shorter than 64 KiB.
  void string(std::string_view text) {
    u16(uint16_t(text.size()));
    raw(text);
  }
  const std::string &data() const { return bytes; }

private:
  std::string bytes;
};

/// The steps of one chain: how many, and their bytes.
struct StepWriter {
  uint32_t count = 0;
  ByteWriter bytes;
  /// Starts a step of the given kind; its operands follow through `bytes`.
  template <typename Kind> ByteWriter &add(Kind kind) {
    ++count;
    bytes.u8(uint8_t(kind));
    return bytes;
  }
};

/// Everything that a tokenizer blob holds.
struct BlobContents {
  struct Added {
    uint32_t id;
    uint8_t flags; ///< AddedFlag bits
  };

  std::vector<std::string> vocabulary; ///< by id; empty: no such token
  uint8_t modelFlags = 0;
  uint32_t unknown = blobNone;
  std::string continuingPrefix, wordSuffix;
  std::vector<std::array<uint32_t, 3>> merges; ///< left, right, result; best rank first
  std::vector<Added> added;
  CodeSetPool sets;
  std::vector<PatternProgram> patterns;
  StepWriter tables, normalizer, preTokenizer, decoder;
  std::vector<uint32_t> before, after; ///< ids around a text

  bool isWordPiece = false, isUnigram = false;
  uint32_t maxWordCharacters = 0; ///< of WordPiece
  std::vector<double> scores;     ///< of Unigram, by id
  struct PairToken {
    PairPart part;
    uint8_t type;
    uint32_t id; ///< of Special
  };
  std::vector<PairToken> pair; ///< empty: not said

  uint32_t addPattern(PatternProgram program);
  /// The index of a table; each is written once. `name` is one of Canonical, Compatible, Lowercase,
  /// StripAccents, BertAccents, Nmt, Classes, Compositions.
  uint32_t tableIndex(const std::string &name);

  std::vector<std::byte> serialize();

private:
  std::map<std::string, uint32_t> tablesByName;
};

} // namespace smelt
