// The option parser, help texts and main loop of the command line.
#include "runtime/tools/cli.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <exception>

namespace smelt::cli {

namespace {

template <typename T> bool parseNumber(std::string_view text, T &value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

Status checkValue(const Option &option, std::string_view text) {
  std::string found = "--" + std::string(option.name) + " is '" + std::string(text) + "'";
  int64_t whole = 0;
  double real = 0;
  if (option.type == OptionType::Whole && (!parseNumber(text, whole) || whole < 0))
    return invalidArgument(found + ", which is not a whole number of 0 or more");
  if (option.type == OptionType::Real &&
      (!parseNumber(text, real) || !std::isfinite(real) || real < 0))
    return invalidArgument(found + ", which is not a number of 0 or more");
  return {};
}

struct OperandCounts {
  size_t least = 0, most = 0;
};

OperandCounts countOperands(std::string_view operands) {
  OperandCounts counts;
  for (size_t at = 0; at < operands.size();) {
    size_t end = std::min(operands.find(' ', at), operands.size());
    bool repeats = operands.substr(at, end - at).find("...") != std::string_view::npos;
    counts.most = repeats ? SIZE_MAX : counts.most + 1;
    counts.least += operands[at] != '[';
    at = end + 1;
  }
  return counts;
}

std::string spelled(const Option &option) {
  std::string text = option.letter != 0 ? std::string("-") + option.letter + ", " : "    ";
  text += "--" + std::string(option.name);
  if (option.type != OptionType::Flag)
    text += " " + std::string(option.value);
  return text;
}

std::string usageLine(const Command &command) {
  return "usage: smelt " + std::string(command.name) + " [options] " +
         std::string(command.operands) + "\n";
}

} // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> words) {
  std::string_view best;
  size_t bestDistance = word.size() / 2 + 2; // as good as unrelated
  for (std::string_view candidate : words) {
    // Levenshtein distance with one row of the table.
    std::vector<size_t> row(candidate.size() + 1);
    for (size_t j = 0; j <= candidate.size(); ++j)
      row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        size_t above = row[j];
        row[j] = std::min(
            {above + 1, row[j - 1] + 1, diagonal + size_t(word[i - 1] != candidate[j - 1])});
        diagonal = above;
      }
    }
    if (row.back() < bestDistance) {
      bestDistance = row.back();
      best = candidate;
    }
  }
  return best;
}

const Option *Arguments::option(std::string_view name) const {
  for (const Option &row : command->table)
    if (row.command == command->name && row.name == name)
      return &row;
  return nullptr;
}

std::string_view Arguments::last(std::string_view name) const {
  if (auto found = values.find(name); found != values.end())
    return found->second.back();
  const Option *row = option(name);
  return row ? row->fallback : std::string_view();
}

bool Arguments::given(std::string_view name) const { return values.contains(name); }
bool Arguments::flag(std::string_view name) const { return given(name); }
std::string Arguments::text(std::string_view name) const { return std::string(last(name)); }

int64_t Arguments::whole(std::string_view name) const {
  int64_t value = 0;
  parseNumber(last(name), value);
  return value;
}

double Arguments::real(std::string_view name) const {
  double value = 0;
  parseNumber(last(name), value);
  return value;
}

std::vector<std::string> Arguments::list(std::string_view name) const {
  auto found = values.find(name);
  return found == values.end() ? std::vector<std::string>() : found->second;
}

Result<Arguments> parseArguments(const Command &command, std::span<const char *const> words) {
  Arguments arguments;
  arguments.command = &command;
  std::string help = " ('smelt " + std::string(command.name) + " --help' lists all options)";
  bool optionsEnd = false;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (optionsEnd || word.size() < 2 || word[0] != '-') {
      arguments.operands.emplace_back(word);
      continue;
    }
    if (word == "--") {
      optionsEnd = true;
      continue;
    }
    bool isLong = word[1] == '-';
    std::string_view name = word.substr(isLong ? 2 : 1), value;
    size_t equals = name.find('=');
    if (equals != name.npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const Option *option = nullptr;
    std::vector<std::string_view> known;
    for (const Option &row : command.table) {
      if (row.command != command.name)
        continue;
      known.push_back(row.name);
      if (isLong ? row.name == name : name.size() == 1 && row.letter == name[0])
        option = &row;
    }
    if (!option) {
      std::string_view near = nearest(name, known);
      return invalidArgument("unknown option " + std::string(word) +
                             (near.empty() ? "" : "; did you mean --" + std::string(near) + "?") +
                             help);
    }
    if (option->type == OptionType::Flag) {
      if (equals != std::string_view::npos)
        return invalidArgument("--" + std::string(option->name) + " takes no value" + help);
    } else if (equals == std::string_view::npos) {
      if (i + 1 == words.size())
        return invalidArgument("--" + std::string(option->name) + " needs a value: --" +
                               std::string(option->name) + " " + std::string(option->value) + help);
      value = words[++i];
    }
    SMELT_TRY(checkValue(*option, value));
    arguments.values[std::string(option->name)].emplace_back(value);
  }
  OperandCounts counts = countOperands(command.operands);
  size_t found = arguments.operands.size();
  if (found < counts.least || found > counts.most)
    return invalidArgument("found " + std::to_string(found) + " operands, expected " +
                           (command.operands.empty() ? "none" : std::string(command.operands)) +
                           (found > counts.most ? "; quote text that has spaces" : "") + help);
  return arguments;
}

std::string helpText(const Command &command) {
  std::string text = usageLine(command) + std::string(command.help) + "\n";
  size_t width = 0;
  for (const Option &row : command.table)
    if (row.command == command.name)
      width = std::max(width, spelled(row).size());
  for (const Option &row : command.table) {
    if (row.command != command.name)
      continue;
    std::string left = spelled(row);
    left.resize(width, ' ');
    text += "  " + left + "  " + std::string(row.help);
    if (!row.fallback.empty())
      text += " [" + std::string(row.fallback) + "]";
    text += "\n";
  }
  return text;
}

std::string helpText(std::span<const Command> commands) {
  std::string text = "smelt: small language models, quantized and compiled\n"
                     "usage: smelt COMMAND [options] ...\n";
  size_t width = 0;
  for (const Command &command : commands)
    width = std::max(width, command.name.size());
  for (const Command &command : commands) {
    std::string left(command.name);
    left.resize(width, ' ');
    text += "  " + left + "  " + std::string(command.help) + "\n";
  }
  return text + "'smelt COMMAND --help' shows its options; 'smelt --version' the version\n";
}

int runMain(int argc, const char *const *argv, std::span<const Command> commands) {
  std::string_view name = argc > 1 ? argv[1] : "";
  if (name.empty()) {
    std::fputs(helpText(commands).c_str(), stderr);
    return 2;
  }
  if (name == "--help" || name == "-h" || name == "help") {
    std::fputs(helpText(commands).c_str(), stdout);
    return 0;
  }
  if (name == "--version") {
    std::puts("smelt " SMELT_VERSION);
    return 0;
  }
  const Command *command = nullptr;
  std::vector<std::string_view> known;
  for (const Command &row : commands) {
    known.push_back(row.name);
    if (row.name == name)
      command = &row;
  }
  if (!command) {
    std::string_view near = nearest(name, known);
    std::fprintf(stderr, "smelt: unknown command '%s'%s ('smelt --help' lists them)\n", argv[1],
                 near.empty() ? "" : ("; did you mean " + std::string(near) + "?").c_str());
    return 2;
  }
  std::span<const char *const> words(argv + 2, size_t(argc - 2));
  for (std::string_view word : words) {
    if (word == "--")
      break;
    if (word == "--help" || word == "-h") {
      std::fputs(helpText(*command).c_str(), stdout);
      return 0;
    }
  }
  Result<Arguments> arguments = parseArguments(*command, words);
  Status status;
  // Commands return their failures; only an exhausted heap or a defect of a library ends here.
  if (arguments.ok()) {
    try {
      status = command->run(*arguments);
    } catch (const std::bad_alloc &) {
      status = exhausted("out of memory");
    } catch (const std::exception &error) {
      status = internalError(error.what());
    }
  } else {
    status = arguments.status();
  }
  if (status.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout)))
    status = invalidArgument("cannot write to stdout");
  if (status.ok())
    return 0;
  std::fflush(stdout);
  std::fprintf(stderr, "smelt %s: %s\n", argv[1], status.message().c_str());
  return !arguments.ok() ? 2 : status.code() == StatusCode::Cancelled ? 130 : 1;
}

} // namespace smelt::cli
