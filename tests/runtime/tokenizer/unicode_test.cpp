// Tests of UTF-8 and character sets.
#include "runtime/tokenizer/unicode.h"

#include "runtime/tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

TEST(Unicode, EncodesAndDecodesEveryLength) {
  for (uint32_t c : {0x24u, 0xE9u, 0x20ACu, 0xD7FFu, 0xE000u, 0x1F600u, 0x10FFFFu}) {
    std::string text;
    appendUtf8(text, c);
    size_t at = 0;
    EXPECT_EQ(nextChar(text, at), c);
    EXPECT_EQ(at, text.size());
    EXPECT_EQ(previousChar(text, text.size()), 0u);
    EXPECT_TRUE(isValidUtf8(text));
  }
  std::string text;
  appendUtf8(text, 0xD800);
  EXPECT_EQ(text, "\uFFFD");
}

TEST(Unicode, ReplacesMaximalInvalidParts) {
  // The example of the Unicode standard, table 3-8.
  EXPECT_EQ(toValidUtf8("\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"), "\uFFFD\uFFFD\uFFFD"
                                                                             "b\uFFFD"
                                                                             "c\uFFFD\uFFFD"
                                                                             "d");
  EXPECT_EQ(toValidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
                                                                 "\uFFFD\uFFFD\uFFFD"
                                                                 "A");
  EXPECT_EQ(toValidUtf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD"); // a surrogate
}

TEST(Unicode, TellsIncompleteFromInvalid) {
  EXPECT_EQ(classifyUtf8("\xE2\x82").kind, Utf8Prefix::Incomplete);
  EXPECT_EQ(classifyUtf8("\xE2\x82").bytes, 2u);
  EXPECT_EQ(classifyUtf8("\xE2\x28").kind, Utf8Prefix::Invalid);
  EXPECT_EQ(classifyUtf8("\xE2\x28").bytes, 1u);
  EXPECT_EQ(classifyUtf8("\xF4\x90").kind, Utf8Prefix::Invalid);
}

TEST(Unicode, NextCharStaysInsideDamagedText) {
  for (std::string_view text : {"\xF0", "\xF0\x9F\x98", "\xE2", "\x80", "\xFF"}) {
    size_t at = 0;
    nextChar(text, at);
    EXPECT_GT(at, 0u);
    EXPECT_LE(at, text.size());
  }
}

TEST(Unicode, ByteAlphabetIsABijection) {
  for (int byte = 0; byte < 256; ++byte)
    EXPECT_EQ(charToByte(byteToChar(uint8_t(byte))), byte);
  EXPECT_EQ(byteToChar(' '), 0x120u);
  EXPECT_EQ(byteToChar('\n'), 0x10Au);
  EXPECT_EQ(byteToChar(0xAD), 0x143u);
  EXPECT_EQ(charToByte(0x20), -1);
  EXPECT_EQ(charToByte(0x10000), -1);
}

std::vector<std::byte> words(std::initializer_list<uint32_t> numbers) {
  std::vector<std::byte> bytes;
  for (uint32_t n : numbers)
    for (int i = 0; i < 4; ++i)
      bytes.push_back(std::byte(n >> (8 * i)));
  return bytes;
}

TEST(CharSet, FindsLowAndHighMembers) {
  auto bytes = words({3, 'a', 'c', 0xFFF0, 0x1000F, 0x20000, 0x10FFFF});
  ByteReader reader(bytes);
  auto set = CharSet::read(reader);
  ASSERT_TRUE(set.ok()) << set.status().message();
  for (uint32_t c :
       {uint32_t('a'), uint32_t('c'), 0xFFF0u, 0xFFFFu, 0x10000u, 0x1000Fu, 0x20000u, 0x10FFFFu})
    EXPECT_TRUE(set->contains(c)) << c;
  for (uint32_t c : {uint32_t('`'), uint32_t('d'), 0xFFEFu, 0x10010u, 0x1FFFFu})
    EXPECT_FALSE(set->contains(c)) << c;
}

TEST(CharSet, RefusesRangesOutOfOrder) {
  for (const auto &bytes : {words({2, 5, 9, 9, 12}), words({1, 9, 5}), words({1, 0, 0x110000}),
                            words({3, 1, 2}), words({0xFFFFFFFF})}) {
    ByteReader reader(bytes);
    EXPECT_FALSE(CharSet::read(reader).ok());
  }
}

} // namespace
