// The command line parser, its help, and its errors.
#include "runtime/tools/cli.h"
#include "runtime/tools/commands.h"

#include <gtest/gtest.h>

using namespace smelt;
using namespace smelt::cli;

namespace {

constexpr Option options[] = {
    {"demo", "number", 'n', OptionType::Whole, "7", "N", "a number"},
    {"demo", "ratio", 0, OptionType::Real, "0.5", "R", "a ratio"},
    {"demo", "name", 'o', OptionType::Text, "", "TEXT", "a name"},
    {"demo", "flag", 0, OptionType::Flag, "", "", "a flag"},
    {"demo", "each", 0, OptionType::List, "", "TEXT", "many"},
    {"other", "foreign", 0, OptionType::Flag, "", "", "of another command"},
};
std::string seen;
constexpr Command demo = {"demo", "MODEL [PROMPT]", "shows",
                          [](const Arguments &arguments) {
                            seen = arguments.operands[0];
                            return arguments.flag("flag") ? cancelled("stopped") : Status();
                          },
                          options};

Result<Arguments> parse(std::vector<const char *> words) { return parseArguments(demo, words); }

TEST(Cli, ParsesEveryForm) {
  auto arguments = parse(
      {"-n", "3", "--ratio=0.25", "model", "--each", "a", "--each=b", "--flag", "-o", "x", "p q"});
  ASSERT_TRUE(arguments.ok()) << arguments.status().message();
  EXPECT_EQ(arguments->whole("number"), 3);
  EXPECT_EQ(arguments->real("ratio"), 0.25);
  EXPECT_EQ(arguments->text("name"), "x");
  EXPECT_TRUE(arguments->flag("flag"));
  EXPECT_EQ(arguments->list("each"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(arguments->operands, (std::vector<std::string>{"model", "p q"}));
}

TEST(Cli, DefaultsAndLastWins) {
  auto arguments = parse({"model"});
  EXPECT_EQ(arguments->whole("number"), 7);
  EXPECT_EQ(arguments->real("ratio"), 0.5);
  EXPECT_EQ(arguments->text("name"), "");
  EXPECT_FALSE(arguments->given("number"));
  EXPECT_TRUE(arguments->list("each").empty());
  EXPECT_EQ(parse({"m", "-n", "1", "-n", "2"})->whole("number"), 2);
}

TEST(Cli, WordsAfterTwoDashesAreOperands) {
  auto arguments = parse({"m", "--", "--flag"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_EQ(arguments->operands[1], "--flag");
  EXPECT_EQ(parse({"m", "-"})->operands[1], "-");
}

TEST(Cli, ErrorsNameTheNearest) {
  auto message = [](std::vector<const char *> words) { return parse(words).status().message(); };
  EXPECT_NE(message({"m", "--nubmer", "3"}).find("did you mean --number?"), std::string::npos);
  EXPECT_EQ(message({"m", "--zzzzzzzzz"}).find("did you mean"), std::string::npos);
  EXPECT_NE(message({"m", "--foreign"}).find("unknown option"), std::string::npos);
  EXPECT_NE(message({"m", "--number"}).find("needs a value"), std::string::npos);
  EXPECT_NE(message({"m", "--flag=1"}).find("takes no value"), std::string::npos);
  EXPECT_NE(message({"m", "--number", "-3"}).find("0 or more"), std::string::npos);
  EXPECT_NE(message({"m", "--number=3x"}).find("0 or more"), std::string::npos);
  EXPECT_NE(message({"m", "--ratio=nan"}).find("0 or more"), std::string::npos);
  EXPECT_NE(message({"m", "--number=99999999999999999999"}).find("0 or more"), std::string::npos);
  EXPECT_NE(message({}).find("expected MODEL"), std::string::npos);
  EXPECT_NE(message({"a", "b", "c"}).find("quote"), std::string::npos);
}

TEST(Cli, HelpShowsEveryOption) {
  std::string text = helpText(demo);
  for (const char *part : {"--number N", "-n, ", "[7]", "--each TEXT", "MODEL [PROMPT]"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
  EXPECT_EQ(text.find("foreign"), std::string::npos);
  for (const Command &command : runtimeCommands())
    EXPECT_LT(helpText(command).size(), 3000u);
}

TEST(Cli, TablesAreSound) {
  for (const Command &command : runtimeCommands())
    for (const Option &a : command.table) {
      EXPECT_FALSE(a.help.empty());
      EXPECT_EQ(a.type == OptionType::Flag, a.value.empty()) << a.name;
      for (const Option &b : command.table)
        if (&a != &b && a.command == b.command) {
          EXPECT_NE(a.name, b.name);
          EXPECT_TRUE(a.letter == 0 || a.letter != b.letter) << a.name;
        }
    }
}

int run(std::vector<const char *> words) {
  words.insert(words.begin(), "smelt");
  return runMain(int(words.size()), words.data(), std::span(&demo, 1));
}

TEST(Cli, MainsExitCodes) {
  EXPECT_EQ(run({"demo", "here"}), 0);
  EXPECT_EQ(seen, "here");
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_EQ(run({"demo", "--help"}), 0);
  EXPECT_EQ(run({}), 2);
  EXPECT_EQ(run({"dmeo"}), 2);
  EXPECT_EQ(run({"demo"}), 2);
  EXPECT_EQ(run({"demo", "m", "--flag"}), 130);
}

} // namespace
