// Sessions on the fake model: the right cells of the right slot, for any batch, chunk and thread
// count.
#include "runtime/model/sampler.h"
#include "runtime/model/session.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <random>

using namespace smelt;
using namespace smelt::test;

namespace {

class SessionTest : public testing::Test {
protected:
  std::unique_ptr<Session> open(SessionOptions options = {.threads = 2}) {
    if (!model) {
      auto opened = Model::open(writeFake(folder));
      EXPECT_TRUE(opened.ok()) << opened.status().message();
      model = *opened;
    }
    auto session = Session::create(model, options);
    EXPECT_TRUE(session.ok()) << session.status().message();
    return *std::move(session);
  }
  static int32_t next(const Session &session, size_t row = 0) {
    return int32_t(argmax(session.logits(row)));
  }
  TemporaryFolder folder;
  std::shared_ptr<const Model> model;
};

std::vector<int32_t> randomTokens(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t &token : tokens)
    token = int32_t(random() % fakeVocabulary);
  return tokens;
}

TEST_F(SessionTest, ChunksAndThreadsDoNotMatter) {
  auto tokens = randomTokens(50, 1);
  for (uint32_t threads : {1, 2, 3, 5}) {
    auto session = open({.threads = threads});
    for (size_t chunk : {1, 2, 7, 8, 9, 50}) {
      ASSERT_TRUE(session->truncate(0, 0).ok());
      for (size_t at = 0; at < tokens.size(); at += chunk) {
        auto piece = std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at));
        ASSERT_TRUE(session->append(0, piece).ok());
        EXPECT_EQ(next(*session), fakeNext(std::span(tokens).first(at + piece.size())));
      }
    }
  }
}

TEST_F(SessionTest, RaggedBatchesKeepSlotsApart) {
  auto session = open({.slots = 3, .threads = 2});
  std::vector<std::vector<int32_t>> expected(3);
  std::mt19937 random(2);
  for (int step = 0; step < 40; ++step) {
    std::vector<Token> tokens;
    std::vector<int32_t> rows;
    std::vector<std::vector<int32_t>> after;
    auto count = random() % fakeMaxTokens + 1;
    for (size_t i = 0; i < count; ++i) {
      auto slot = int32_t(random() % 3);
      auto &history = expected[size_t(slot)];
      if (history.size() == fakeMaxContext)
        continue;
      tokens.push_back({int32_t(random() % fakeVocabulary), int32_t(history.size()), slot});
      history.push_back(tokens.back().id);
      if (rows.size() < fakeMaxLogitRows && random() % 2) {
        rows.push_back(int32_t(tokens.size() - 1));
        after.push_back(history);
      }
    }
    ASSERT_TRUE(session->step(tokens, rows).ok());
    for (size_t row = 0; row < rows.size(); ++row)
      EXPECT_EQ(next(*session, row), fakeNext(after[row]));
  }
  for (int32_t slot = 0; slot < 3; ++slot)
    EXPECT_TRUE(std::ranges::equal(session->cached(slot), expected[size_t(slot)]));
}

TEST_F(SessionTest, TheKernelFitsTheNumberOfRows) {
  auto session = open();
  Token tokens[] = {{1, 0, 0}, {2, 1, 0}, {3, 2, 0}};
  int32_t rows[] = {2, 0};
  ASSERT_TRUE(session->step(tokens, {rows, 1}).ok());
  EXPECT_EQ(session->logits(0)[size_t(next(*session))], fakeOneBonus);
  ASSERT_TRUE(session->step(tokens, rows).ok());
  EXPECT_EQ(session->logits(0)[size_t(next(*session))], 0);
  EXPECT_EQ(next(*session, 0), fakeNext(std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(next(*session, 1), fakeNext(std::vector<int32_t>{1}));
  ASSERT_TRUE(session->step(tokens, {}).ok());
  EXPECT_TRUE(session->logits(0).empty());
}

TEST_F(SessionTest, OverwritingCutsTheHistory) {
  auto session = open();
  ASSERT_TRUE(session->append(0, std::vector<int32_t>{5, 6, 7, 8}).ok());
  Token token{9, 2, 0};
  int32_t row = 0;
  ASSERT_TRUE(session->step({&token, 1}, {&row, 1}).ok());
  EXPECT_EQ(next(*session), fakeNext(std::vector<int32_t>{5, 6, 9}));
  EXPECT_EQ(session->cached(0).size(), 3u);
}

TEST_F(SessionTest, WrongStepsChangeNothing) {
  auto session = open({.context = 20, .slots = 2, .threads = 1});
  ASSERT_TRUE(session->append(0, std::vector<int32_t>{1, 2, 3}).ok());
  int32_t rowZero = 0;
  struct Wrong {
    const char *name;
    std::vector<Token> tokens;
    std::vector<int32_t> rows;
    StatusCode code;
  };
  const Wrong wrongs[] = {
      {"no tokens", {}, {}, StatusCode::InvalidArgument},
      {"too many tokens",
       std::vector<Token>(fakeMaxTokens + 1, Token{1, 0, 0}),
       {},
       StatusCode::InvalidArgument},
      {"id", {{fakeVocabulary, 3, 0}}, {}, StatusCode::InvalidArgument},
      {"negative id", {{-1, 3, 0}}, {}, StatusCode::InvalidArgument},
      {"slot", {{1, 0, 2}}, {}, StatusCode::InvalidArgument},
      {"negative slot", {{1, 0, -1}}, {}, StatusCode::InvalidArgument},
      {"gap", {{1, 4, 0}}, {}, StatusCode::InvalidArgument},
      {"negative position", {{1, -1, 0}}, {}, StatusCode::InvalidArgument},
      {"same position twice", {{1, 3, 0}, {1, 3, 0}}, {}, StatusCode::InvalidArgument},
      {"gap inside", {{1, 3, 0}, {1, 5, 0}}, {}, StatusCode::InvalidArgument},
      {"second slot starts late", {{1, 3, 0}, {1, 1, 1}}, {}, StatusCode::InvalidArgument},
      {"row", {{1, 3, 0}}, {1}, StatusCode::InvalidArgument},
      {"negative row", {{1, 3, 0}}, {-1}, StatusCode::InvalidArgument},
      {"too many rows",
       {{1, 3, 0}},
       std::vector<int32_t>(fakeMaxLogitRows + 1, 0),
       StatusCode::InvalidArgument},
      {"context", {{1, 20, 0}}, {}, StatusCode::Exhausted},
  };
  for (const Wrong &wrong : wrongs) {
    Status status = session->step(wrong.tokens, wrong.rows);
    EXPECT_EQ(status.code(), wrong.code) << wrong.name << ": " << status.message();
    EXPECT_EQ(session->cached(0).size(), 3u) << wrong.name;
  }
  Token token{4, 3, 0};
  ASSERT_TRUE(session->step({&token, 1}, {&rowZero, 1}).ok());
  EXPECT_EQ(next(*session), fakeNext(std::vector<int32_t>{1, 2, 3, 4}));
}

TEST_F(SessionTest, TheContextIsABound) {
  auto session = open({.context = 20, .threads = 1});
  auto tokens = randomTokens(21, 3);
  EXPECT_EQ(session->append(0, tokens).code(), StatusCode::Exhausted);
  EXPECT_EQ(session->cached(0).size(), 0u);
  EXPECT_TRUE(session->append(0, std::span(tokens).first(20)).ok());
  EXPECT_EQ(next(*session), fakeNext(std::span(tokens).first(20)));
  EXPECT_EQ(session->append(0, std::span(tokens).first(1)).code(), StatusCode::Exhausted);
  EXPECT_EQ(session->append(0, {}).code(), StatusCode::InvalidArgument);
  EXPECT_EQ(session->append(1, tokens).code(), StatusCode::InvalidArgument);
  EXPECT_EQ(session->truncate(0, 21).code(), StatusCode::InvalidArgument);
  EXPECT_EQ(session->truncate(-1, 0).code(), StatusCode::InvalidArgument);
}

TEST_F(SessionTest, ATextReadBothWaysComesInOneStep) {
  auto opened = Model::open(writeFake(folder, [](FakeModel &fake) {
    fake.config.bidirectional = 1;
    fake.config.tokenTypes = 2;
  }));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  model = *opened;
  auto session = open({.slots = 2, .threads = 1});
  std::vector<Token> text = {{1, 0, 0, 0}, {2, 1, 0, 1}, {3, 0, 1, 0}};
  EXPECT_TRUE(session->step(text, {}).ok());
  std::vector<Token> more = {{4, 2, 0}};
  Status status = session->step(more, {});
  EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
  EXPECT_NE(status.message().find("both directions"), std::string::npos) << status.message();
  EXPECT_FALSE(session->append(0, std::vector<int32_t>{1}).ok()); // the slot holds a text
  ASSERT_TRUE(session->truncate(0, 0).ok());
  EXPECT_TRUE(session->append(0, std::vector<int32_t>{1, 2, 3}).ok());
  EXPECT_FALSE(session->append(1, randomTokens(model->config().maxTokens + 1, 3)).ok());
  text[1].type = 2;
  EXPECT_NE(session->step(text, {}).message().find("token type 2"), std::string::npos);
}

TEST_F(SessionTest, OptionsAreChecked) {
  open();
  auto code = [&](SessionOptions options) {
    return Session::create(model, options).status().code();
  };
  EXPECT_EQ(code({.context = fakeMaxContext + 1}), StatusCode::InvalidArgument);
  EXPECT_EQ(code({.slots = 0}), StatusCode::InvalidArgument);
  EXPECT_EQ(code({.slots = 1u << 30}), StatusCode::InvalidArgument);
  EXPECT_EQ(code({.threads = 100000}), StatusCode::InvalidArgument);
  SessionOptions noGpu;
  noGpu.gpuLayers = 3;
  EXPECT_EQ(Session::create(model, noGpu).status().message(),
            "layers for a GPU are given (--gpu-layers 3), but the device is the CPU; choose one "
            "with --device cuda:N, vulkan:N or auto");
}

TEST_F(SessionTest, CancellationLeavesAConsistentPrefix) {
  auto session = open();
  std::atomic<bool> cancel{true};
  auto tokens = randomTokens(30, 4);
  EXPECT_EQ(session->append(0, tokens, &cancel).code(), StatusCode::Cancelled);
  EXPECT_EQ(session->cached(0).size(), 0u);
  cancel = false;
  EXPECT_TRUE(session->append(0, tokens, &cancel).ok());
  EXPECT_EQ(next(*session), fakeNext(tokens));
}

TEST_F(SessionTest, AMissingKernelIsSaid) {
  auto opened = Model::open(
      writeFake(folder, [](FakeModel &fake) { fake.program.kernelNames[1] = "no_such_kernel"; }));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.status().code(), StatusCode::Corrupt);
  EXPECT_NE(opened.status().message().find("no_such_kernel"), std::string::npos);
}

TEST_F(SessionTest, ADamagedTokenizerIsSaid) {
  auto opened = Model::open(writeFake(folder, [](FakeModel &fake) { fake.tokenizer.resize(30); }));
  ASSERT_FALSE(opened.ok());
}

TEST_F(SessionTest, ModelsShareOneArtifact) {
  auto first = open({.threads = 1}), second = open({.threads = 2});
  ASSERT_TRUE(first->append(0, std::vector<int32_t>{1, 2}).ok());
  ASSERT_TRUE(second->append(0, std::vector<int32_t>{3}).ok());
  EXPECT_EQ(next(*first), fakeNext(std::vector<int32_t>{1, 2}));
  EXPECT_EQ(next(*second), fakeNext(std::vector<int32_t>{3}));
}

} // namespace
