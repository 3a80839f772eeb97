// Tests of the compiler of regular expressions: the programs it makes and what it refuses. That
// they match as Oniguruma does is tested in tests/differential.
#include "compiler/tokenizer/pattern_compiler.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

/// The operations of a program, or the error.
std::string listing(std::string_view source) {
  CodeSetPool pool;
  auto program = compilePattern(source, pool);
  if (!program.ok())
    return program.status().message();
  static constexpr const char *names[] = {"match",     "set",     "loop",    "fork",      "jump",
                                          "ahead",     "behind",  "atomic",  "textstart", "textend",
                                          "linestart", "lineend", "boundary"};
  std::string out;
  for (const PatternInstruction &i : *program) {
    out += out.empty() ? "" : " ";
    out += names[int(i.op)];
    if (i.flag)
      out += "'" + std::to_string(i.flag);
    if (i.op == PatternOp::Fork)
      out += "(" + std::to_string(i.a) + "," + std::to_string(i.b) + ")";
    if (i.op == PatternOp::Jump || i.op == PatternOp::Ahead || i.op == PatternOp::Atomic)
      out += "(" + std::to_string(i.a) + ")";
    if (i.op == PatternOp::Loop)
      out += "{" + std::to_string(i.b) + "," + (i.c == blobNone ? "" : std::to_string(i.c)) + "}";
  }
  return out;
}

TEST(PatternCompiler, LoopsOfOneSetAreOneInstruction) {
  EXPECT_EQ(listing(R"(\p{L}+)"), "loop{1,} match");
  EXPECT_EQ(listing(R"([a-z]{1,3})"), "loop{1,3} match");
  EXPECT_EQ(listing(R"(a?b*?c++)"), "loop{0,1} loop'1{0,} loop'2{1,} match");
  EXPECT_EQ(listing(R"((?:a)*)"), "loop{0,} match");
}

TEST(PatternCompiler, AlternativesFork) {
  EXPECT_EQ(listing("a|b"), "fork(1,3) set jump(4) set match");
  EXPECT_EQ(listing("(?:ab)+"), "set set fork(3,6) set set jump(2) match");
  EXPECT_EQ(listing("(?:ab)?"), "fork(1,3) set set match");
}

TEST(PatternCompiler, LooksAround) {
  EXPECT_EQ(listing(R"(\s+(?!\S))"), "loop{1,} ahead'1(4) set match match");
  EXPECT_EQ(listing(R"((?<=a)b(?<!c))"), "behind set behind'1 match");
  EXPECT_EQ(listing(R"(^\b(?>ab)$)"), "linestart boundary atomic(6) set set match lineend match");
}

TEST(PatternCompiler, EachSetIsStoredOnce) {
  CodeSetPool pool;
  ASSERT_TRUE(compilePattern(R"(\p{L}\p{L}[\p{L}]x[x])", pool).ok());
  EXPECT_EQ(pool.sets().size(), 2u);
}

TEST(PatternCompiler, CaseFoldsTheUnicodeWay) {
  CodeSetPool pool;
  ASSERT_TRUE(compilePattern("(?i:s)", pool).ok());
  CodeSet expected('S');
  expected.add('s', 's');
  expected.add(0x17F, 0x17F); // long s
  EXPECT_EQ(pool.sets()[0], expected);
}

TEST(PatternCompiler, RefusesByNameAndPlace) {
  EXPECT_EQ(listing("a(b"), "regular expression 'a(b' has a '(' without its ')' at byte 3");
  EXPECT_EQ(listing("a)"), "regular expression 'a)' has a ')' without its '(' at byte 1");
  EXPECT_NE(listing(R"((a)\1)").find("the unsupported escape '\\1'"), std::string::npos);
  EXPECT_NE(listing("[a").find("a '[' without its ']'"), std::string::npos);
  EXPECT_NE(listing(R"(\p{Klingon})").find("the unknown property 'Klingon'"), std::string::npos);
  EXPECT_NE(listing(R"(\p{RustWord})").find("the unknown property"), std::string::npos);
  EXPECT_NE(listing("(?<=ab)c").find("look-behind of more than one character"), std::string::npos);
  EXPECT_NE(listing("(?<name>a)").find("an unsupported group"), std::string::npos);
  EXPECT_NE(listing("(?:a*)*").find("an unlimited repeat of what may be empty"), std::string::npos);
  EXPECT_NE(listing("*").find("a repeat of nothing"), std::string::npos);
  EXPECT_NE(listing("a{2000}").find("too large"), std::string::npos);
  EXPECT_NE(listing("[z-a]").find("range of characters"), std::string::npos);
  EXPECT_NE(listing("\xFF").find("not UTF-8"), std::string::npos);
}

TEST(PatternCompiler, NestedCountsDoNotExplode) {
  EXPECT_NE(listing("(?:(?:(?:(?:ab){999}){999}){999}){999}").find("instructions"),
            std::string::npos);
  EXPECT_NE(listing(std::string(5000, '(')).find("nested too deeply"), std::string::npos);
  EXPECT_NE(listing(std::string(5000, '[')).find("nested too deeply"), std::string::npos);
}

TEST(CodeSet, AlgebraOfRanges) {
  CodeSet set('a', 'f');
  set.add('d', 'k');
  set.add('l', 'm');
  EXPECT_EQ(set, CodeSet('a', 'm'));
  EXPECT_EQ(set.complement().complement(), set);
  EXPECT_EQ(set.intersect(CodeSet('k', 'z')), CodeSet('k', 'm'));
  EXPECT_EQ(CodeSet().complement(), CodeSet(0, 0x10FFFF));
}

TEST(UnicodeData, HoldsWhatTokenizersKnows) {
  CodeSet letters = *namedCodeSet("L");
  EXPECT_EQ(letters.intersect(CodeSet(0x1C89, 0x1C8A)),
            CodeSet(0x1C89, 0x1C8A)); // new in Unicode 16
  EXPECT_EQ(letters.intersect(CodeSet(0, 0x7F)).ranges().size(), 2u);
  EXPECT_FALSE(namedCodeSet("Xx").has_value());
}

} // namespace
