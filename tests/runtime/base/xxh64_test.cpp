// XXH64 against published vectors, whole and in pieces.
#include "runtime/base/xxh64.h"

#include <gtest/gtest.h>

#include <random>
#include <string_view>
#include <vector>

using namespace smelt;

namespace {

uint64_t hashOf(std::string_view text) {
  return xxh64(std::as_bytes(std::span(text.data(), text.size())));
}

TEST(Xxh64, PublishedVectors) {
  EXPECT_EQ(hashOf(""), 0xEF46DB3751D8E999u);
  EXPECT_EQ(hashOf("a"), 0xD24EC4F1A98C6E5Bu);
  EXPECT_EQ(hashOf("abc"), 0x44BC2CF5AD770999u);
  EXPECT_EQ(hashOf("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

TEST(Xxh64, PiecesOfAnySizeGiveTheSame) {
  std::vector<std::byte> bytes(1000);
  std::mt19937 random(1);
  for (std::byte &b : bytes)
    b = std::byte(random());
  uint64_t whole = xxh64(bytes);
  for (size_t piece = 1; piece < 100; ++piece) {
    Xxh64 hash;
    for (size_t at = 0; at < bytes.size(); at += piece)
      hash.update(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    EXPECT_EQ(hash.digest(), whole) << piece;
  }
}

} // namespace
