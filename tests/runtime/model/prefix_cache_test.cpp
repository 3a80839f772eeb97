// Cached prompts: from slot to slot, to disk and back, and every file that must be refused.
#include "runtime/model/generate.h"
#include "runtime/model/prefix_cache.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <cstring>

#include <sys/stat.h>

using namespace smelt;
using namespace smelt::test;

namespace {

class PrefixCacheTest : public testing::Test {
protected:
  std::unique_ptr<Session> open(SessionOptions options = {.slots = 3, .threads = 1},
                                const std::function<void(FakeModel &)> &change = {}) {
    auto model = Model::open(writeFake(folder, change));
    EXPECT_TRUE(model.ok()) << model.status().message();
    auto session = Session::create(*model, options);
    EXPECT_TRUE(session.ok()) << session.status().message();
    return *std::move(session);
  }
  /// The answer is right only if all cells of the cache are.
  static void expectAnswers(Session &session, int32_t slot, std::vector<int32_t> prompt,
                            uint32_t reused) {
    auto result = generate(session, slot, prompt, {.maxTokens = 3});
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(result->reusedTokens, reused);
    for (int32_t token : result->tokens) {
      EXPECT_EQ(token, fakeNext(prompt));
      prompt.push_back(token);
    }
  }
  TemporaryFolder folder;
  std::string path = folder.path("prompt.cache");
  /// Of any length beside the 16 positions that keys interleave.
  const std::vector<int32_t> prompt = fakeTokens("YOU ARE A HELPFUL ASSISTANT. HELLO");
};

TEST_F(PrefixCacheTest, SlotsShareBeginnings) {
  auto session = open();
  expectAnswers(*session, 0, prompt, 0);
  expectAnswers(*session, 2, prompt, uint32_t(prompt.size() - 1));
  std::vector<int32_t> other = prompt;
  other[20] ^= 1;
  expectAnswers(*session, 1, other, 20);
  expectAnswers(*session, 0, other, uint32_t(other.size() - 1)); // from slot 1, which knows more
  expectAnswers(*session, 0, fakeTokens("ZZZ"), 0);
  expectAnswers(*session, 2, prompt, uint32_t(prompt.size() - 1));
  EXPECT_EQ(session->reuse(3, prompt).status().code(), StatusCode::InvalidArgument);
}

TEST_F(PrefixCacheTest, DoesNotWaitForAPipe) {
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  auto session = open();
  EXPECT_EQ(loadPrefix(*session, 0, path).status().code(), StatusCode::Corrupt);
}

TEST_F(PrefixCacheTest, ComesBackFromDisk) {
  for (size_t length : {size_t(0), size_t(1), size_t(15), size_t(16), size_t(17), prompt.size()}) {
    auto session = open();
    if (length != 0) {
      ASSERT_TRUE(session->append(1, std::span(prompt).first(length)).ok());
    }
    Status saved = savePrefix(*session, 1, uint32_t(length), path);
    ASSERT_TRUE(saved.ok()) << saved.message();
    // Another context, another number of slots, another slot.
    auto later = open({.context = 40, .slots = 2, .threads = 2});
    ASSERT_TRUE(later->append(0, fakeTokens("SOMETHING ELSE")).ok());
    auto loaded = loadPrefix(*later, 0, path);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    EXPECT_EQ(*loaded, length);
    EXPECT_TRUE(std::ranges::equal(later->cached(0), std::span(prompt).first(length)));
    expectAnswers(*later, 0, prompt, uint32_t(std::min(length, prompt.size() - 1)));
  }
  EXPECT_EQ(folder.files().size(), 2u); // the artifact and the prompt: nothing is left behind
}

TEST_F(PrefixCacheTest, PartOfASlotIsEnough) {
  auto session = open();
  ASSERT_TRUE(session->append(0, prompt).ok());
  ASSERT_TRUE(savePrefix(*session, 0, 10, path).ok());
  EXPECT_EQ(*loadPrefix(*session, 1, path), 10u);
  expectAnswers(*session, 1, prompt, uint32_t(prompt.size() - 1));
  EXPECT_EQ(savePrefix(*session, 0, 90, path).code(), StatusCode::InvalidArgument);
  EXPECT_EQ(savePrefix(*session, 5, 0, path).code(), StatusCode::InvalidArgument);
  EXPECT_EQ(savePrefix(*session, 0, 5, folder.path("no/such/folder")).code(), StatusCode::NotFound);
}

TEST_F(PrefixCacheTest, DamageIsFoundEverywhere) {
  auto session = open();
  ASSERT_TRUE(session->append(0, prompt).ok());
  ASSERT_TRUE(savePrefix(*session, 0, uint32_t(prompt.size()), path).ok());
  const std::vector<std::byte> whole = readFile(path);
  auto expectRefused = [&](const std::vector<std::byte> &bytes, size_t at) {
    writeFile(path, bytes);
    auto loaded = loadPrefix(*session, 0, path);
    ASSERT_FALSE(loaded.ok()) << at;
    EXPECT_NE(loaded.status().message().find(path), std::string::npos) << at;
  };
  for (size_t at = 0; at < whole.size(); at += at < 80 ? 1 : 37) {
    std::vector<std::byte> bytes = whole;
    bytes[at] ^= std::byte(0x40);
    expectRefused(bytes, at);
  }
  for (size_t size : {size_t(0), size_t(7), size_t(55), size_t(56), size_t(57), whole.size() - 1}) {
    std::vector<std::byte> bytes = whole;
    bytes.resize(size);
    expectRefused(bytes, size);
  }
  std::vector<std::byte> longer = whole;
  longer.push_back({});
  expectRefused(longer, whole.size());
  // The slot works on.
  expectAnswers(*session, 0, prompt, 0);
  EXPECT_EQ(loadPrefix(*session, 0, folder.path("missing")).status().code(), StatusCode::NotFound);
  EXPECT_EQ(loadPrefix(*session, 0, "/").status().code(), StatusCode::Corrupt);
}

TEST_F(PrefixCacheTest, OnlyTheSameArtifactFits) {
  auto session = open();
  ASSERT_TRUE(session->append(0, prompt).ok());
  ASSERT_TRUE(savePrefix(*session, 0, uint32_t(prompt.size()), path).ok());
  auto other = open({.slots = 1, .threads = 1}, [](FakeModel &model) {
    model.weights[0] ^= std::byte(1); // nothing reads it, but who knows
  });
  auto loaded = loadPrefix(*other, 0, path);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.status().code(), StatusCode::InvalidArgument);
  EXPECT_NE(loaded.status().message().find("another artifact"), std::string::npos);
  auto shorter = open({.context = 20, .threads = 1});
  EXPECT_EQ(loadPrefix(*shorter, 0, path).status().code(), StatusCode::Exhausted);
}

} // namespace
