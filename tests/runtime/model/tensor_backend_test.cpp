// Text through tensor programs: the same session as over token programs, whatever state there is.
#include "runtime/model/generate.h"
#include "runtime/model/session.h"
#include "support/fake_tensors.h"

#include <gtest/gtest.h>

#include <random>

using namespace smelt;
using namespace smelt::format;
using namespace smelt::test;

namespace {

class TensorBackendTest : public testing::TestWithParam<bool> {
protected:
  std::unique_ptr<Session> open(SessionOptions options = {.threads = 2},
                                const std::function<void(FakeModel &)> &change = {}) {
    auto model = Model::open(writeFake(folder, [&](FakeModel &fake) {
      GetParam() ? makeTensorDecoder(fake) : makeStatelessDecoder(fake);
      if (change)
        change(fake);
    }));
    EXPECT_TRUE(model.ok()) << model.status().message();
    auto session = Session::create(*model, options);
    EXPECT_TRUE(session.ok()) << session.status().message();
    return *std::move(session);
  }
  static int32_t next(const Session &session, size_t row = 0) {
    return int32_t(argmax(session.logits(row)));
  }
  TemporaryFolder folder;
};

INSTANTIATE_TEST_SUITE_P(States, TensorBackendTest, testing::Bool(),
                         [](const auto &info) { return info.param ? "cached" : "stateless"; });

TEST_P(TensorBackendTest, Generates) {
  auto session = open();
  GenerateOptions options;
  options.maxTokens = 20;
  auto prompt = fakeTokens("HELLO THERE, THIS IS LONGER THAN A STEP");
  auto result = generate(*session, 0, prompt, options);
  ASSERT_TRUE(result.ok()) << result.status().message();
  std::vector<int32_t> history = prompt;
  for (int32_t token : result->tokens) {
    ASSERT_EQ(token, fakeNext(history));
    history.push_back(token);
  }
  EXPECT_EQ(result->tokens.size(), 20u);
}

TEST_P(TensorBackendTest, RaggedBatchesTruncationAndChunks) {
  auto session = open({.slots = 3, .threads = 2});
  std::vector<std::vector<int32_t>> expected(3);
  std::mt19937 random(2);
  for (int step = 0; step < 60; ++step) {
    if (step % 7 == 6) {
      auto slot = random() % 3;
      auto length = random() % (expected[slot].size() + 1);
      ASSERT_TRUE(session->truncate(int32_t(slot), uint32_t(length)).ok());
      expected[slot].resize(length);
    }
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
    std::reverse(rows.begin(), rows.end());
    std::reverse(after.begin(), after.end());
    Status status = session->step(tokens, rows);
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t row = 0; row < rows.size(); ++row)
      EXPECT_EQ(next(*session, row), fakeNext(after[row]));
    EXPECT_TRUE(session->logits(rows.size()).empty());
  }
  for (int32_t slot = 0; slot < 3; ++slot)
    EXPECT_TRUE(std::ranges::equal(session->cached(slot), expected[size_t(slot)]));
}

TEST_P(TensorBackendTest, AFailingStepChangesNothing) {
  auto session = open({.slots = 2, .threads = 1});
  ASSERT_TRUE(session->append(0, std::vector<int32_t>{1, 2, 3}).ok());
  ASSERT_TRUE(session->append(1, std::vector<int32_t>{5}).ok());
  // Slot 0 is fine, slot 1 finds a fault.
  Token tokens[] = {{4, 3, 0}, {63, 1, 1}, {63, 2, 1}};
  int32_t rows[] = {0, 2};
  Status status = session->step(tokens, rows);
  EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
  EXPECT_NE(status.message().find("node 'append': an index"), std::string::npos)
      << status.message();
  EXPECT_EQ(session->cached(0).size(), 3u);
  EXPECT_EQ(session->cached(1).size(), 1u);
  EXPECT_EQ(next(*session), fakeNext(std::vector<int32_t>{5})) << "logits of the step before";
  Token fine[] = {{6, 3, 0}, {7, 1, 1}};
  int32_t both[] = {0, 1};
  ASSERT_TRUE(session->step(fine, both).ok());
  EXPECT_EQ(next(*session, 0), fakeNext(std::vector<int32_t>{1, 2, 3, 6}));
  EXPECT_EQ(next(*session, 1), fakeNext(std::vector<int32_t>{5, 7}));
}

TEST_P(TensorBackendTest, AnotherVocabularyIsSaid) {
  auto session = open({.threads = 1}, [](FakeModel &fake) { fake.config.vocabSize = 65; });
  Status status = session->append(0, std::vector<int32_t>{1, 2, 3});
  EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
  EXPECT_NE(status.message().find("vocabulary of 65"), std::string::npos) << status.message();
  EXPECT_EQ(session->cached(0).size(), 0u);
}

Status createStatus(const std::function<void(FakeModel &)> &change) {
  TemporaryFolder folder;
  auto model = Model::open(writeFake(folder, change));
  EXPECT_TRUE(model.ok()) << model.status().message();
  return Session::create(*model, {.threads = 1}).status();
}

TEST(TensorBackend, UnknownInputsAreNamed) {
  Status status = createStatus([](FakeModel &fake) {
    makeTensorDecoder(fake);
    fake.tensors->inputs[2].port.role = PortRole::Other;
  });
  EXPECT_EQ(status.code(), StatusCode::Unsupported);
  EXPECT_NE(status.message().find("'position_ids'"), std::string::npos) << status.message();
  status = createStatus([](FakeModel &fake) {
    makeTensorDecoder(fake);
    fake.tensors->outputs[0].port.role = PortRole::HiddenState;
  });
  EXPECT_NE(status.message().find("no logits"), std::string::npos) << status.message();
  status = createStatus([](FakeModel &fake) {
    makeTensorDecoder(fake);
    fake.tensors->inputs[3].port.growAxis = 0;
  });
  EXPECT_NE(status.message().find("'past'"), std::string::npos) << status.message();
}

} // namespace
