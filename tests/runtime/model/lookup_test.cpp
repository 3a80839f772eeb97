// The n-gram index against a search through the whole text.
#include "runtime/model/lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace smelt;

namespace {

/// Length of the longest end of `text` that also stands before `place`.
size_t matchAt(std::span<const int32_t> text, size_t place) {
  size_t length = 0;
  while (length < place && text[place - 1 - length] == text[text.size() - 1 - length])
    ++length;
  return length;
}

TEST(PromptLookup, FindsOnlyWhatStoodThere) {
  std::mt19937 random(1);
  for (int vocabulary : {2, 5, 100}) {
    PromptLookup lookup(400);
    std::vector<int32_t> text;
    for (int i = 0; i < 400; ++i) {
      text.push_back(int32_t(random() % unsigned(vocabulary)));
      lookup.push(text.back());
      size_t longest = 0, places = 0;
      for (size_t place = 1; place < text.size(); ++place) {
        longest = std::max(longest, matchAt(text, place));
        places += matchAt(text, place) >= 2;
      }
      PromptLookup::Match match = lookup.find();
      // What stood there only a few times is found, and the longest of it taken.
      if (vocabulary == 100 && places <= 4) {
        EXPECT_EQ(match.length, longest >= 2 ? longest : 0);
      }
      if (match.length != 0) {
        EXPECT_GE(matchAt(text, match.next), match.length);
        EXPECT_EQ(lookup.continuation(match, 0), text[match.next]);
      }
    }
  }
}

TEST(PromptLookup, TheLatestOfEqualMatches) {
  PromptLookup lookup(16);
  for (int32_t token : {1, 2, 7, 1, 2, 8, 1, 2})
    lookup.push(token);
  PromptLookup::Match match = lookup.find();
  EXPECT_EQ(match.length, 2u);
  EXPECT_EQ(lookup.continuation(match, 0), 8);
  lookup.push(7);
  match = lookup.find();
  EXPECT_EQ(match.length, 3u);
  EXPECT_EQ(lookup.continuation(match, 0), 1);
}

TEST(PromptLookup, ALoopGoesOn) {
  PromptLookup lookup(8);
  for (int32_t token : {9, 1, 2, 3, 1, 2, 3})
    lookup.push(token);
  PromptLookup::Match match = lookup.find();
  ASSERT_EQ(match.length, 3u);
  for (size_t i = 0; i < 10; ++i)
    EXPECT_EQ(lookup.continuation(match, i), int32_t(i % 3 + 1));
}

TEST(PromptLookup, MoreThanItHoldsIsLeftOut) {
  PromptLookup lookup(4);
  for (int32_t token : {1, 2, 1, 2, 3, 4})
    lookup.push(token);
  EXPECT_EQ(lookup.tokens().size(), 4u);
  EXPECT_EQ(lookup.find().length, 2u);
  EXPECT_EQ(PromptLookup(0).find().length, 0u);
}

} // namespace
