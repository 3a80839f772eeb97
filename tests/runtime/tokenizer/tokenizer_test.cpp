// Tests of the tokenizer on a blob written by hand, and of what damaged blobs do to it: nothing but
// an error.
#include "runtime/tokenizer/tokenizer.h"

#include "tiny_blob.h"

#include <gtest/gtest.h>
#include <random>

using namespace smelt;
using Ids = std::vector<int32_t>;

namespace {

class TokenizerTest : public testing::Test {
protected:
  Tokenizer open(const TinyBlob &tiny) {
    blob = tiny.bytes();
    auto tokenizer = Tokenizer::open(blob);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    return *std::move(tokenizer);
  }
  static Status openingOf(const TinyBlob &tiny) {
    std::vector<std::byte> bytes = tiny.bytes();
    auto tokenizer = Tokenizer::open(bytes);
    return tokenizer.ok() ? Status() : tokenizer.status();
  }
  static int32_t id(char byte) { return 4 + uint8_t(byte); }

  std::vector<std::byte> blob;
};

TEST_F(TokenizerTest, MergesByRank) {
  Tokenizer tokenizer = open({});
  EXPECT_EQ(*tokenizer.encode("the the"), (Ids{0, 261, 262}));
  EXPECT_EQ(*tokenizer.encode("thethe", {.addSpecial = false}), (Ids{261, 261}));
  EXPECT_EQ(*tokenizer.encode("h\u00E9", {.addSpecial = false}), (Ids{id('h'), 263}));
  EXPECT_EQ(*tokenizer.encode("", {.addSpecial = false}), Ids{});
  EXPECT_EQ(*tokenizer.encode(""), Ids{0});
}

TEST_F(TokenizerTest, FindsAddedTokensInTheText) {
  Tokenizer tokenizer = open({});
  EXPECT_EQ(*tokenizer.encode("the<e>the"), (Ids{0, 261, 1, 261}));
  EXPECT_EQ(*tokenizer.encode("<e>", {.addSpecial = false, .parseSpecial = false}),
            (Ids{id('<'), id('e'), id('>')}));
  EXPECT_EQ(*tokenizer.encode("<tag> \n the", {.addSpecial = false}), (Ids{2, 261}));
  // A token that is not special is found even where special ones are text.
  EXPECT_EQ(*tokenizer.encode("<tag>", {.addSpecial = false, .parseSpecial = false}), Ids{2});
}

TEST_F(TokenizerTest, DecodesWhatItEncodes) {
  Tokenizer tokenizer = open({});
  std::string text = "the caf\u00E9 \U0001F600 the\n\x01 \u65E5\u672C";
  Ids ids = *tokenizer.encode(text);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.decode(ids, /*skipSpecial=*/false), "<s>" + text);
  EXPECT_EQ(tokenizer.decode(Ids{-1, 999, 261}), "the");
}

TEST_F(TokenizerTest, InvalidTextCountsAsReplacementCharacters) {
  Tokenizer tokenizer = open({});
  EXPECT_EQ(*tokenizer.encode("a\xFFz"), *tokenizer.encode("a\uFFFDz"));
}

TEST_F(TokenizerTest, StreamsWholeCharactersOnly) {
  Tokenizer tokenizer = open({});
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(262), " the");
  EXPECT_EQ(stream.push(4 + 0xE2), "");
  EXPECT_EQ(stream.push(4 + 0x82), "");
  EXPECT_EQ(stream.push(4 + 0xAC), "\u20AC");
  EXPECT_EQ(stream.push(4 + 0xE2), "");
  EXPECT_EQ(stream.push(id('x')), "\uFFFDx");
  EXPECT_EQ(stream.push(4 + 0xF0), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.push(261), "the");
  EXPECT_EQ(stream.finish(), "");
}

TEST_F(TokenizerTest, KnowsItsTokens) {
  Tokenizer tokenizer = open({});
  EXPECT_EQ(tokenizer.vocabSize(), 264u);
  EXPECT_EQ(tokenizer.tokenText(262), "\u0120the");
  EXPECT_EQ(tokenizer.tokenText(-1), "");
  EXPECT_EQ(tokenizer.tokenText(264), "");
  EXPECT_EQ(tokenizer.findToken("<e>"), 1);
  EXPECT_EQ(tokenizer.findToken("\u0120the"), 262);
  EXPECT_EQ(tokenizer.findToken("nothing"), -1);
  EXPECT_TRUE(tokenizer.isSpecial(0));
  EXPECT_FALSE(tokenizer.isSpecial(2));
  EXPECT_FALSE(tokenizer.isSpecial(-5));
}

TEST_F(TokenizerTest, AnAddedTokenOutsideTheModelIsNotFoundByMerging) {
  TinyBlob tiny;
  tiny.sections[BlobSection::Model][0] = char(modelIgnoreMerges);
  Tokenizer tokenizer = open(tiny);
  // Whole words are taken from the vocabulary, but "<e>" is no word of the model.
  EXPECT_EQ(*tokenizer.encode("the", {.addSpecial = false}), Ids{261});
  EXPECT_EQ(*tokenizer.encode("<e>", {.addSpecial = false, .parseSpecial = false}),
            (Ids{id('<'), id('e'), id('>')}));
}

TEST_F(TokenizerTest, SaysWhatIsWrongWithABlob) {
  EXPECT_EQ(Tokenizer::open({}).status().code(), StatusCode::Corrupt);
  TinyBlob tiny;
  tiny.version = 2;
  EXPECT_EQ(openingOf(tiny).code(), StatusCode::Unsupported);
  EXPECT_NE(openingOf(tiny).message().find("version 2"), std::string::npos);

  tiny = {};
  tiny.sections[BlobSection::Merges][5] = char(0xFF);
  tiny.sections[BlobSection::Merges][6] = char(0xFF);
  EXPECT_EQ(openingOf(tiny).message(), "merge 0 names a token outside the vocabulary");

  tiny = {};
  tiny.sections[BlobSection::PostProcessor][5] = 100;
  EXPECT_NE(openingOf(tiny).message().find("outside the vocabulary"), std::string::npos);

  tiny = {};
  tiny.sections[BlobSection::Decoder] += '\0';
  EXPECT_EQ(openingOf(tiny).message(), "the decoder section has 1 bytes after its end");

  for (int section = 1; section <= 11; ++section) {
    tiny = {};
    tiny.sections.erase(BlobSection(section));
    EXPECT_EQ(openingOf(tiny).code(), StatusCode::Corrupt) << section;
  }
}

TEST_F(TokenizerTest, SkipsSectionsOfALaterWriter) {
  TinyBlob tiny;
  tiny.sections[BlobSection(99)] = "whatever";
  EXPECT_EQ(*open(tiny).encode("the"), (Ids{0, 261}));
}

TEST_F(TokenizerTest, EveryTruncationIsRefused) {
  std::vector<std::byte> whole = TinyBlob().bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> cut(whole.begin(), whole.begin() + std::ptrdiff_t(size));
    EXPECT_FALSE(Tokenizer::open(cut).ok()) << size;
  }
}

TEST_F(TokenizerTest, DamagedBlobsNeverCrash) {
  std::vector<std::byte> whole = TinyBlob().bytes();
  std::mt19937 random(7);
  int opened = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::byte> damaged = whole;
    for (unsigned change = random() % 3 + 1; change > 0; --change)
      damaged[random() % damaged.size()] = std::byte(random());
    auto tokenizer = Tokenizer::open(damaged);
    if (!tokenizer.ok())
      continue;
    ++opened;
    auto ids = tokenizer->encode("the <e> caf\u00E9 <tag> x");
    if (ids.ok())
      tokenizer->decode(*ids, false);
  }
  EXPECT_GT(opened, 100); // the test reaches what lies behind the checks
}

} // namespace
