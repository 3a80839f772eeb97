// Translates the regular expressions of tokenizer.json (Oniguruma's Ruby syntax) to programs of the
// blob.
#pragma once

#include "compiler/tokenizer/unicode_data.h"
#include "runtime/base/status.h"
#include "runtime/tokenizer/blob.h"

#include <string_view>
#include <vector>

namespace smelt {

/// The character sets of a blob, each stored once.
class CodeSetPool {
public:
  uint32_t indexOf(const CodeSet &set);
  const std::vector<CodeSet> &sets() const { return all; }

private:
  std::vector<CodeSet> all;
};

struct PatternInstruction {
  PatternOp op = PatternOp::Match;
  uint8_t flag = 0;
  uint32_t a = 0, b = 0, c = 0;
};
using PatternProgram = std::vector<PatternInstruction>;

/// Compiles `source`. What is not supported (back references, named groups, look-behind longer than
/// a character, ...) is an error that shows where it stands.
Result<PatternProgram> compilePattern(std::string_view source, CodeSetPool &pool);

/// A program that matches `text` literally.
Result<PatternProgram> compileLiteral(std::string_view text, CodeSetPool &pool);

/// A program that matches one character of `set`.
PatternProgram compileSet(const CodeSet &set, CodeSetPool &pool);

} // namespace smelt
