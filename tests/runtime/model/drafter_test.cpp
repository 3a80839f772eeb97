// Drafts on the fake model: what is tried never changes what is said.
#include "runtime/model/drafter.h"
#include "runtime/model/generate.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

using namespace smelt;
using namespace smelt::test;

namespace {

class DrafterTest : public testing::Test {
protected:
  std::shared_ptr<const Model> load(const std::function<void(FakeModel &)> &change = {}) {
    auto model = Model::open(writeFake(folder, change));
    EXPECT_TRUE(model.ok()) << model.status().message();
    return *model;
  }
  void open(SessionOptions options = {.slots = 2, .threads = 2},
            const std::function<void(FakeModel &)> &change = {}) {
    auto created = Session::create(load(change), options);
    ASSERT_TRUE(created.ok()) << created.status().message();
    session = *std::move(created);
  }
  /// Makes every draft look as if it paid.
  void favourDrafts() {
    session->costs().record(1, 1e6);
    for (size_t tokens = 2; tokens <= fakeMaxLogitRows; ++tokens)
      session->costs().record(tokens, 1e-9);
  }
  GenerateResult answer(const std::vector<int32_t> &prompt, GenerateOptions options,
                        bool speculate) {
    options.speculate = speculate;
    favourDrafts();
    auto result = generate(*session, speculate, prompt, options);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return *result;
  }
  /// Drafts that are accepted in answers that hardly repeat themselves; all answers must be those
  /// without drafts.
  uint32_t acceptedInRandomAnswers() {
    uint32_t accepted = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      GenerateOptions options{.maxTokens = 60, .sampling = {.temperature = 2, .seed = seed}};
      GenerateResult plain = answer(fakeTokens("HELLO THERE"), options, false);
      GenerateResult tried = answer(fakeTokens("HELLO THERE"), options, true);
      EXPECT_EQ(tried.tokens, plain.tokens);
      accepted += tried.acceptedTokens;
    }
    return accepted;
  }
  TemporaryFolder folder;
  std::unique_ptr<Session> session;
  /// Its sum is 0, so the fake model goes on with zeros as long as nothing else is sampled.
  const std::vector<int32_t> zeros = std::vector<int32_t>(8, 0);
};

TEST_F(DrafterTest, DraftsWhatFollowedBefore) {
  open();
  favourDrafts();
  Drafter drafter(*session, 0, 90);
  ASSERT_TRUE(drafter.begin(std::vector<int32_t>{5, 6, 7, 8, 9, 1, 6, 7}, nullptr).ok());
  auto draft = drafter.draft(15);
  ASSERT_TRUE(draft.ok());
  // One row of the step is the certain token's.
  EXPECT_EQ(std::vector<int32_t>(draft->begin(), draft->end()), (std::vector<int32_t>{8, 9, 1}));
  for (int32_t token : {8, 9, 2})
    drafter.push(token);
  EXPECT_EQ(drafter.drafted(), 3u);
  EXPECT_EQ(drafter.accepted(), 2u);
  // What was said since counts as text, and nothing stood behind this.
  EXPECT_TRUE(drafter.draft(15)->empty());
  drafter.push(6);
  drafter.push(7);
  EXPECT_EQ(drafter.draft(2)->size(), 2u);
  EXPECT_EQ(drafter.draft(0)->size(), 0u);
}

TEST_F(DrafterTest, WithoutAMeasuredStepNothingIsDrafted) {
  open();
  Drafter drafter(*session, 0, 90);
  ASSERT_TRUE(drafter.begin(zeros, nullptr).ok());
  EXPECT_TRUE(drafter.draft(3)->empty());
}

TEST_F(DrafterTest, GreedyAnswersAreTheSame) {
  open();
  std::vector<std::vector<int32_t>> prompts = {
      zeros, fakeTokens("ABABABAB"), fakeTokens("A"), {0, 0, 63, 0, 0, 63, 0, 0, 63, 1}};
  for (const auto &prompt : prompts)
    for (uint32_t most : {0u, 1u, 2u, 3u, 9u}) {
      GenerateResult plain = answer(prompt, {.maxTokens = most}, false);
      GenerateResult drafted = answer(prompt, {.maxTokens = most}, true);
      EXPECT_EQ(drafted.tokens, plain.tokens);
      EXPECT_EQ(drafted.text, plain.text);
      EXPECT_EQ(drafted.finish, plain.finish);
      EXPECT_TRUE(std::ranges::equal(session->cached(0), session->cached(1)));
      EXPECT_EQ(plain.draftedTokens, 0u);
    }
  GenerateResult loop = answer(zeros, {.maxTokens = 40}, true);
  EXPECT_GT(loop.acceptedTokens, 20u);
  EXPECT_EQ(loop.acceptedTokens, loop.draftedTokens);
}

TEST_F(DrafterTest, EndsInsideADraft) {
  open({.slots = 2, .threads = 2}, [](FakeModel &model) { model.config.eosTokens[0] = 0; });
  for (bool speculate : {false, true}) {
    GenerateResult result = answer(zeros, {.ignoreEnd = false}, speculate);
    EXPECT_EQ(result.tokens, std::vector<int32_t>{0});
    EXPECT_EQ(result.finish, FinishReason::EndToken);
  }
  std::vector<std::string> stops = {"     "}; // token 0 is a space
  for (bool speculate : {false, true}) {
    GenerateResult result = answer(zeros, {.stop = stops, .ignoreEnd = true}, speculate);
    EXPECT_EQ(result.tokens.size(), 5u);
    EXPECT_EQ(result.finish, FinishReason::StopString);
    EXPECT_EQ(session->cached(speculate).size(), zeros.size() + 4);
  }
  favourDrafts();
  std::atomic<bool> cancel{false};
  int pieces = 0;
  auto cancelled = generate(
      *session, 1, zeros, {.ignoreEnd = true},
      [&](std::string_view) {
        cancel = ++pieces == 3;
        return true;
      },
      &cancel);
  ASSERT_TRUE(cancelled.ok());
  EXPECT_EQ(cancelled->finish, FinishReason::Cancelled);
  EXPECT_EQ(cancelled->tokens.size(), 3u);
  EXPECT_EQ(session->cached(1).size(), zeros.size() + 2);
}

TEST_F(DrafterTest, SampledAnswersAreTheSameForEverySeed) {
  open();
  uint32_t drafted = 0, accepted = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    GenerateOptions options{.maxTokens = 40,
                            .sampling = {.temperature = 0.5f,
                                         .topK = seed % 2 ? 5u : 0u,
                                         .topP = seed % 3 ? 0.9f : 1.0f,
                                         .repetitionPenalty = seed % 5 ? 1.0f : 1.2f,
                                         .seed = seed}};
    GenerateResult plain = answer(zeros, options, false), tried = answer(zeros, options, true);
    ASSERT_EQ(tried.tokens, plain.tokens) << seed;
    drafted += tried.draftedTokens;
    accepted += tried.acceptedTokens;
  }
  EXPECT_GT(accepted, 100u);
  EXPECT_GT(drafted, accepted + 100);
}

TEST_F(DrafterTest, TheDistributionStays) {
  open({.slots = 2, .threads = 1});
  // Of the three likeliest tokens s, s + 1, s - 1 (mod 64; s: the model's next) with logits 0, -1
  // and -63 at temperature 1, the last is as good as impossible.
  const double first = 1 / (1 + std::exp(-1.0));
  const int runs = 2000;
  std::map<std::vector<int32_t>, int> counts;
  uint32_t drafted = 0;
  for (int seed = 0; seed < runs; ++seed) {
    GenerateOptions options{.maxTokens = 3,
                            .sampling = {.temperature = 1, .topK = 2, .seed = uint64_t(seed)}};
    GenerateResult result = answer(zeros, options, true);
    ++counts[result.tokens];
    drafted += result.draftedTokens;
  }
  EXPECT_GT(drafted, unsigned(runs) / 2);
  for (unsigned choice = 0; choice < 8; ++choice) {
    std::vector<int32_t> history = zeros;
    double probability = 1;
    for (unsigned i = 0; i < 3; ++i) {
      bool second = choice >> i & 1;
      history.push_back((fakeNext(history) + second) % fakeVocabulary);
      probability *= second ? 1 - first : first;
    }
    std::vector<int32_t> tokens(history.end() - 3, history.end());
    // Five standard deviations of a binomial share: 8 outcomes fail by chance once in 200,000.
    double bound = 5 * std::sqrt(probability * (1 - probability) / runs);
    EXPECT_NEAR(double(counts[tokens]) / runs, probability, bound) << choice;
  }
}

TEST_F(DrafterTest, ADraftModelHelpsAndIsExact) {
  open({.slots = 2, .threads = 1});
  uint32_t byLookup = acceptedInRandomAnswers();
  open({.slots = 2, .threads = 1, .draft = load()});
  // It drafts the likeliest token, which is taken with probability 0.39 at this temperature.
  EXPECT_GT(acceptedInRandomAnswers(), byLookup + 100);
  // A conversation that goes on: the draft model's slot holds most of it.
  std::vector<int32_t> longer = fakeTokens("HELLO THERE AND MORE");
  EXPECT_EQ(answer(longer, {.maxTokens = 20}, true).tokens,
            answer(longer, {.maxTokens = 20}, false).tokens);
}

TEST_F(DrafterTest, ABadDraftModelDoesNoHarm) {
  open({.slots = 2, .threads = 1});
  uint32_t byLookup = acceptedInRandomAnswers();
  // Its likeliest token is always the one before the right one.
  auto draft = load([](FakeModel &model) {
    auto *table = reinterpret_cast<float *>(model.weights.data()) + 16;
    table[fakeVocabulary - 1] = 1;
  });
  open({.slots = 2, .threads = 1, .draft = draft});
  EXPECT_LE(acceptedInRandomAnswers(), byLookup + 20);
}

TEST_F(DrafterTest, TheVocabularyMustBeTheSame) {
  auto draft = load([](FakeModel &model) {
    // The first token's text: behind the blob's header, section table and lengths.
    auto letter = std::find(model.tokenizer.rbegin(), model.tokenizer.rend(), std::byte('!'));
    *letter = std::byte('~');
  });
  auto model = load();
  auto created = Session::create(model, {.threads = 1, .draft = draft});
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.status().code(), StatusCode::InvalidArgument);
  EXPECT_NE(created.status().message().find("token 1 is '~', expected '!'"), std::string::npos)
      << created.status().message();
}

} // namespace
