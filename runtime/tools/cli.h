// Command line: commands, their option tables, the parser, help and main. The compiler's driver
// uses it too.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::cli {

enum class OptionType {
  Flag,  ///< present or not
  Whole, ///< integer >= 0
  Real,  ///< finite number >= 0
  Text,
  List, ///< text that may be given several times
};

/// One row of an options table. A table file has rows
///   OPTION(command, "name", letter or 0, type, "default", "VALUE", "help")
/// and becomes an array with: #define OPTION(command, ...) {#command, __VA_ARGS__},
struct Option {
  std::string_view command;
  std::string_view name; ///< without the dashes
  char letter;           ///< one-letter form, 0: none
  OptionType type;
  std::string_view
      fallback; ///< default as it would be typed; "" for Flag and List, and for Text: not given
  std::string_view value; ///< what help calls the value
  std::string_view help;
};

class Arguments;

/// One command of the tool.
struct Command {
  std::string_view name;
  std::string_view operands; ///< what follows the options: "MODEL [PROMPT]"; brackets: may be left
                             ///< out; "[TEXT...]": any number, comes last
  std::string_view help;
  Status (*run)(const Arguments &);
  std::span<const Option> table; ///< rows of other commands are ignored
};

/// Parsed arguments. Every accessor takes the name of an option in the command's table.
class Arguments {
public:
  bool flag(std::string_view name) const;
  int64_t whole(std::string_view name) const;
  double real(std::string_view name) const;
  std::string text(std::string_view name) const;
  std::vector<std::string> list(std::string_view name) const;
  /// Whether the option stood on the command line.
  bool given(std::string_view name) const;
  /// The operands in order; a missing optional one is absent.
  std::vector<std::string> operands;

private:
  friend Result<Arguments> parseArguments(const Command &, std::span<const char *const>);
  const Option *option(std::string_view name) const;
  std::string_view last(std::string_view name) const;
  const Command *command = nullptr;
  std::map<std::string, std::vector<std::string>, std::less<>> values;
};

/// Parses what follows the command's name. InvalidArgument names the offending word and the nearest
/// option.
Result<Arguments> parseArguments(const Command &command, std::span<const char *const> words);

std::string helpText(const Command &command);
std::string helpText(std::span<const Command> commands);

/// The `smelt` program: finds the command, parses, runs and reports. Exit codes: 0 done, 1 failed,
/// 2 wrong usage, 130 interrupted.
int runMain(int argc, const char *const *argv, std::span<const Command> commands);

/// The word of `words` with the smallest edit distance to `word`; empty if none is near.
std::string_view nearest(std::string_view word, std::span<const std::string_view> words);

} // namespace smelt::cli
