// Generation on the fake model: streaming, stops, ends, reuse of the cache and cancellation.
#include "runtime/model/generate.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

using namespace smelt;
using namespace smelt::test;

namespace {

TEST(StopMatcher, HoldsBackOnlyWhatMayBeAStop) {
  std::vector<std::string> stops = {"STOP", "TO"};
  StopMatcher matcher(stops);
  EXPECT_EQ(matcher.push("abcS"), "abc");
  EXPECT_EQ(matcher.push("x"), "Sx");
  EXPECT_EQ(matcher.push("ST"), "");
  EXPECT_EQ(matcher.push("R"), "STR");
  EXPECT_EQ(matcher.push("yT"), "y");
  EXPECT_EQ(matcher.finish(), "T");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.push("..S"), "..");
  EXPECT_EQ(matcher.push("TO"), "S");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, WithoutStopsNothingIsHeld) {
  std::vector<std::string> stops = {""};
  StopMatcher matcher(stops);
  EXPECT_EQ(matcher.push("abc"), "abc");
}

class GenerateTest : public testing::Test {
protected:
  void open(const std::function<void(FakeModel &)> &change = {}, uint32_t context = 0) {
    auto model = Model::open(writeFake(folder, change));
    ASSERT_TRUE(model.ok()) << model.status().message();
    auto created = Session::create(*model, {.context = context, .slots = 2, .threads = 2});
    ASSERT_TRUE(created.ok()) << created.status().message();
    session = *std::move(created);
  }
  /// What the fake model says after `prompt`.
  static std::vector<int32_t> expected(std::vector<int32_t> history, size_t count) {
    std::vector<int32_t> answer;
    for (size_t i = 0; i < count; ++i) {
      answer.push_back(fakeNext(history));
      history.push_back(answer.back());
    }
    return answer;
  }
  TemporaryFolder folder;
  std::unique_ptr<Session> session;
  std::vector<int32_t> prompt = fakeTokens("HELLO THERE");
};

TEST_F(GenerateTest, StreamsWhatItReturns) {
  open();
  std::string streamed;
  auto result = generate(*session, 0, prompt, {.maxTokens = 12}, [&](std::string_view text) {
    streamed += text;
    return true;
  });
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->tokens, expected(prompt, 12));
  EXPECT_EQ(result->text, fakeText(result->tokens));
  EXPECT_EQ(streamed, result->text);
  EXPECT_EQ(result->finish, FinishReason::MaxTokens);
  EXPECT_EQ(result->promptTokens, prompt.size());
}

TEST_F(GenerateTest, EndTokensEndUnlessIgnored) {
  auto answer = expected(prompt, 6);
  size_t first = size_t(std::find(answer.begin(), answer.end(), answer[4]) - answer.begin());
  open([&](FakeModel &model) { model.config.eosTokens[0] = answer[4]; });
  auto result = generate(*session, 0, prompt, {});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->finish, FinishReason::EndToken);
  EXPECT_EQ(result->tokens.size(), first + 1);
  EXPECT_EQ(result->text, fakeText(std::span(answer).first(first)));
  auto ignored = generate(*session, 1, prompt, {.maxTokens = 6, .ignoreEnd = true});
  EXPECT_EQ(ignored->tokens, answer);
}

TEST_F(GenerateTest, StopStringsAreLeftOut) {
  open();
  std::string text = fakeText(expected(prompt, 10)), stop = text.substr(5, 2);
  size_t at = text.find(stop);
  std::string streamed;
  auto result = generate(*session, 0, prompt, {.maxTokens = 50, .stop = {"no such text", stop}},
                         [&](std::string_view piece) {
                           streamed += piece;
                           return true;
                         });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->finish, FinishReason::StopString);
  EXPECT_EQ(result->text, text.substr(0, at));
  EXPECT_EQ(streamed, result->text);
}

TEST_F(GenerateTest, TheContextEndsTheAnswer) {
  open({}, 20);
  auto result = generate(*session, 0, prompt, {});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->finish, FinishReason::ContextFull);
  EXPECT_EQ(result->tokens.size(), 20 - prompt.size() + 1);
  auto full = generate(*session, 0, std::vector<int32_t>(20, 1), {});
  EXPECT_EQ(full->tokens.size(), 1u);
  auto overflow = generate(*session, 0, std::vector<int32_t>(21, 1), {});
  EXPECT_EQ(overflow.status().code(), StatusCode::Exhausted);
}

TEST_F(GenerateTest, OnlyTheNewPartOfAConversationIsRead) {
  open();
  auto first = generate(*session, 0, prompt, {.maxTokens = 5});
  std::vector<int32_t> longer = prompt;
  longer.insert(longer.end(), first->tokens.begin(), first->tokens.end());
  longer.push_back(7);
  auto second = generate(*session, 0, longer, {.maxTokens = 5});
  // The last sampled token was never run.
  EXPECT_EQ(second->reusedTokens, prompt.size() + 4);
  EXPECT_EQ(second->tokens, expected(longer, 5));
  // Another beginning, and the same prompt again: the last token always runs.
  std::vector<int32_t> other = longer;
  other[3] ^= 1;
  auto third = generate(*session, 0, other, {.maxTokens = 5});
  EXPECT_EQ(third->reusedTokens, 3u);
  EXPECT_EQ(third->tokens, expected(other, 5));
  auto again = generate(*session, 0, other, {.maxTokens = 5});
  EXPECT_EQ(again->reusedTokens, other.size() - 1);
  EXPECT_EQ(again->tokens, third->tokens);
}

TEST_F(GenerateTest, CancellationAndRefusalAreResults) {
  open();
  std::atomic<bool> cancel{false};
  int pieces = 0;
  auto result = generate(
      *session, 0, prompt, {},
      [&](std::string_view) {
        cancel = ++pieces == 3;
        return true;
      },
      &cancel);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->finish, FinishReason::Cancelled);
  EXPECT_EQ(result->tokens.size(), 3u);
  cancel = true;
  auto before = generate(*session, 1, prompt, {}, {}, &cancel);
  EXPECT_EQ(before->finish, FinishReason::Cancelled);
  EXPECT_TRUE(before->tokens.empty());
  auto refused = generate(*session, 1, prompt, {}, [](std::string_view) { return false; });
  EXPECT_EQ(refused->finish, FinishReason::Callback);
  EXPECT_EQ(refused->tokens.size(), 1u);
}

TEST_F(GenerateTest, SeedsDecide) {
  open();
  auto draw = [&](uint64_t seed) {
    return generate(*session, 0, prompt,
                    {.maxTokens = 20, .sampling = {.temperature = 20, .seed = seed}})
        ->tokens;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

TEST_F(GenerateTest, WrongCallsAreSaid) {
  open([](FakeModel &model) { model.tokenizer.clear(); });
  EXPECT_EQ(generate(*session, 0, {}, {}).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(generate(*session, 2, prompt, {}).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(generate(*session, 0, prompt, {.stop = {"x"}}).status().code(),
            StatusCode::Unsupported);
  EXPECT_EQ(generate(*session, 0, prompt, {.sampling = {.topP = 7}}).status().code(),
            StatusCode::InvalidArgument);
  EXPECT_EQ(generate(*session, 0, std::vector<int32_t>{fakeVocabulary}, {}).status().code(),
            StatusCode::InvalidArgument);
  auto ids = generate(*session, 0, prompt, {.maxTokens = 3});
  EXPECT_EQ(ids->tokens, expected(prompt, 3));
  EXPECT_TRUE(ids->text.empty());
}

TEST_F(GenerateTest, ChatPromptsComeFromTheTemplate) {
  open();
  std::vector<ChatMessage> messages = {{"user", "HI"}};
  auto text = session->model().renderChat(messages);
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_EQ(*text, "USER: HI / ASSISTANT: ");
  EXPECT_EQ(*session->model().encode("ABC"), fakeTokens("ABC"));
}

} // namespace
