// Tests of the matcher of compiled regular expressions, on programs written by hand.
#include "runtime/tokenizer/pattern.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

struct Op {
  PatternOp op;
  uint8_t flag = 0;
  uint32_t a = 0, b = 0, c = 0;
};

/// Set 0: 'a' to 'z'; 1: white space; 2: 'a'; 3: everything.
class PatternTest : public testing::Test {
protected:
  PatternTest() {
    for (auto ranges : std::vector<std::vector<uint32_t>>{
             {1, 'a', 'z'}, {2, '\n', '\n', ' ', ' '}, {1, 'a', 'a'}, {1, 0, 0x10FFFF}}) {
      std::vector<std::byte> bytes;
      for (uint32_t n : ranges)
        for (int i = 0; i < 4; ++i)
          bytes.push_back(std::byte(n >> (8 * i)));
      ByteReader reader(bytes);
      sets.push_back(*CharSet::read(reader));
    }
  }

  Result<Pattern> compile(const std::vector<Op> &program) {
    bytes.clear();
    auto number = [&](uint32_t value, int width) {
      for (int i = 0; i < width; ++i)
        bytes.push_back(std::byte(value >> (8 * i)));
    };
    number(uint32_t(program.size()), 4);
    for (const Op &i : program) {
      number(uint32_t(i.op), 1);
      number(i.flag, 1);
      for (uint32_t operand : {i.a, i.b, i.c})
        number(operand, 4);
    }
    ByteReader reader(bytes);
    return Pattern::read(reader, sets);
  }

  /// The matches in `text`, each in brackets.
  std::string matches(const std::vector<Op> &program, std::string_view text) {
    auto pattern = compile(program);
    if (!pattern.ok())
      return pattern.status().message();
    std::vector<TextRange> ranges;
    Status status = pattern->findAll(text, ranges);
    if (!status.ok())
      return status.message();
    std::string out;
    for (const TextRange &range : ranges)
      out += "[" + std::string(text.substr(range.begin, range.end - range.begin)) + "]";
    return out;
  }

  std::vector<CharSet> sets;
  std::vector<std::byte> bytes;
};

constexpr uint32_t unlimited = blobNone;

TEST_F(PatternTest, LoopsAreGreedyLazyOrPossessive) {
  using enum PatternOp;
  EXPECT_EQ(matches({{Loop, loopGreedy, 0, 1, unlimited}, {Match}}, "ab cd"), "[ab][cd]");
  EXPECT_EQ(matches({{Loop, loopLazy, 0, 1, unlimited}, {Match}}, "ab"), "[a][b]");
  // [a-z]+a, [a-z]+?a and [a-z]++a on "xaya"
  EXPECT_EQ(matches({{Loop, loopGreedy, 0, 1, unlimited}, {Set, 0, 2}, {Match}}, "xaya"), "[xaya]");
  EXPECT_EQ(matches({{Loop, loopLazy, 0, 1, unlimited}, {Set, 0, 2}, {Match}}, "xaya"), "[xa][ya]");
  EXPECT_EQ(matches({{Loop, loopPossessive, 0, 1, unlimited}, {Set, 0, 2}, {Match}}, "xaya"), "");
  EXPECT_EQ(matches({{Loop, loopGreedy, 0, 2, 3}, {Match}}, "abcdefgh i"), "[abc][def][gh]");
  EXPECT_EQ(matches({{Loop, loopLazy, 0, 0, 2}, {Set, 0, 1}, {Match}}, "abc "), "[bc ]");
}

TEST_F(PatternTest, GivesBackWholeCharacters) {
  using enum PatternOp;
  // .+. on characters of two and four bytes
  EXPECT_EQ(matches({{Loop, loopGreedy, 3, 1, unlimited}, {Set, 0, 3}, {Match}}, "é😀é"), "[é😀é]");
  EXPECT_EQ(matches({{Loop, loopGreedy, 3, 1, unlimited}, {Set, 0, 2}, {Match}}, "éa😀é"), "[éa]");
}

TEST_F(PatternTest, LooksAround) {
  using enum PatternOp;
  // \s+(?!\S) | \s+ of GPT-2
  std::vector<Op> spaces = {
      {Fork, 0, 1, 5}, {Loop, loopGreedy, 1, 1, unlimited}, {Ahead, 1, 8}, {Set, 0, 0},
      {Match},         {Loop, loopGreedy, 1, 1, unlimited}, {Match},       {Match},
      {Match}};
  EXPECT_EQ(matches(spaces, "a   b "), "[  ][ ][ ]");
  EXPECT_EQ(matches({{Behind, 0, 2}, {Set, 0, 0}, {Match}}, "abc"), "[b]");
  EXPECT_EQ(matches({{Behind, 1, 2}, {Set, 0, 0}, {Match}}, "abc"), "[a][c]");
  EXPECT_EQ(matches({{LineStart}, {Loop, loopGreedy, 0, 1, unlimited}, {Match}}, "ab\ncd ef"),
            "[ab][cd]");
  EXPECT_EQ(matches({{Set, 0, 0}, {LineEnd}, {Match}}, "ab\ncd"), "[b][d]");
  EXPECT_EQ(matches({{Boundary, 0, 0}, {Set, 0, 0}, {Match}}, "ab cd"), "[a][c]");
  EXPECT_EQ(matches({{TextStart}, {Set, 0, 0}, {TextEnd}, {Match}}, "a"), "[a]");
}

TEST_F(PatternTest, EmptyMatchesAreNone) { EXPECT_EQ(matches({{PatternOp::Match}}, "abc"), ""); }

TEST_F(PatternTest, LongRunsTakeLinearTime) {
  using enum PatternOp;
  std::string text(1 << 20, ' ');
  std::vector<Op> program = {
      {Loop, loopGreedy, 1, 1, unlimited}, {Ahead, 1, 4}, {Set, 0, 0}, {Match}, {Match}};
  auto pattern = compile(program);
  ASSERT_TRUE(pattern.ok());
  std::vector<TextRange> ranges;
  ASSERT_TRUE(pattern->findAll(text + "x", ranges).ok());
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].end, text.size() - 1);
}

TEST_F(PatternTest, EndlessAndExponentialProgramsAreStopped) {
  using enum PatternOp;
  auto pattern = compile({{Jump, 0, 0}, {Match}});
  ASSERT_TRUE(pattern.ok());
  std::vector<TextRange> ranges;
  EXPECT_EQ(pattern->findAll("x", ranges).code(), StatusCode::Exhausted);
  // (a*)*b written as a loop around a loop
  pattern = compile(
      {{Fork, 0, 1, 3}, {Loop, loopGreedy, 2, 1, unlimited}, {Jump, 0, 0}, {Set, 0, 1}, {Match}});
  ASSERT_TRUE(pattern.ok());
  EXPECT_EQ(pattern->findAll(std::string(64, 'a'), ranges).code(), StatusCode::Exhausted);
  // a look-ahead into itself
  pattern = compile({{Ahead, 0, 2}, {Jump, 0, 0}, {Match}});
  ASSERT_TRUE(pattern.ok());
  EXPECT_EQ(pattern->findAll("x", ranges).code(), StatusCode::Exhausted);
}

TEST_F(PatternTest, RefusesFalsePrograms) {
  using enum PatternOp;
  EXPECT_FALSE(compile({}).ok());
  EXPECT_FALSE(compile({{Set, 0, 0}}).ok());
  EXPECT_FALSE(compile({{Set, 0, 4}, {Match}}).ok());
  EXPECT_FALSE(compile({{Jump, 0, 2}, {Match}}).ok());
  EXPECT_FALSE(compile({{Fork, 0, 0, 9}, {Match}}).ok());
  EXPECT_FALSE(compile({{Loop, loopGreedy, 0, 2, 1}, {Match}}).ok());
  EXPECT_FALSE(compile({{Loop, 3, 0, 0, 1}, {Match}}).ok());
  EXPECT_FALSE(compile({{PatternOp(99)}, {Match}}).ok());
}

} // namespace
