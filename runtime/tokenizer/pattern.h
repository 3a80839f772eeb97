// Runs the regular expressions of a tokenizer, compiled into the blob by compiler/tokenizer.
#pragma once

#include "runtime/tokenizer/blob.h"
#include "runtime/tokenizer/unicode.h"

#include <string_view>
#include <vector>

namespace smelt {

/// A half-open range of bytes of a text.
struct TextRange {
  size_t begin;
  size_t end;
};

/// A compiled regular expression. Matching prefers like Perl and Oniguruma: alternatives from left
/// to right, greedy loops longest first. Work is bounded by a budget that grows with the text, so
/// no program can hang.
class Pattern {
public:
  /// Reads one program of the Patterns section and checks every operand. `sets` must outlive the
  /// pattern.
  static Result<Pattern> read(ByteReader &reader, const std::vector<CharSet> &sets);

  /// Appends all non-overlapping non-empty matches, left to right, to `out`. `text` must be valid
  /// UTF-8. Fails with Exhausted when the budget is spent.
  Status findAll(std::string_view text, std::vector<TextRange> &out) const;

private:
  struct Instruction {
    PatternOp op;
    uint8_t flag;
    uint32_t a, b, c;
  };
  class Matcher;

  Status check(size_t setCount) const;

  std::vector<Instruction> code;
  const std::vector<CharSet> *sets = nullptr;
};

/// `text` with each of `ranges` (ascending) replaced by `content`.
std::string replaceRanges(std::string_view text, const std::vector<TextRange> &ranges,
                          std::string_view content);

} // namespace smelt
