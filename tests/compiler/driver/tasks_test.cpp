// Task files, sound and malformed, and scores of a model whose probabilities are known.
#include "compiler/driver/task_scores.h"
#include "compiler/tokenizer/import.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include <unistd.h>

using namespace smelt;
namespace fs = std::filesystem;

namespace {

class TasksTest : public testing::Test {
protected:
  TasksTest() : folder(fs::temp_directory_path() / ("tasks_test_" + std::to_string(getpid()))) {
    fs::create_directories(folder);
  }
  ~TasksTest() override { fs::remove_all(folder); }

  std::string write(const std::string &name, const std::string &text) {
    std::ofstream(folder / name, std::ios::binary) << text;
    return (folder / name).string();
  }

  fs::path folder;
};

/// Tokens are the letters a to i, a space and "hi" (10). Any token is followed by the next letter
/// with probability 1/2; the rest is shared alike.
class AlphabetModel : public EvaluatedModel {
public:
  explicit AlphabetModel(const fs::path &folder) {
    std::ofstream(folder / "tokenizer.json") << R"({"version": "1.0", "truncation": null,
      "padding": null, "added_tokens": [], "normalizer": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": false},
      "post_processor": null,
      "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true},
      "model": {"type": "BPE", "dropout": null, "unk_token": null,
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
        "byte_fallback": false, "ignore_merges": false,
        "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6, "h": 7, "i": 8,
          "\u0120": 9, "hi": 10}, "merges": ["h i"]}})";
    Result<TokenizerImport> found = importTokenizer(folder);
    EXPECT_TRUE(found.ok()) << found.status().message();
    imported = *std::move(found);
    Result<Tokenizer> opened = Tokenizer::open(imported.blob);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    words.emplace(*std::move(opened));
  }

  Status logits(const std::vector<int32_t> &tokens, int64_t first,
                const Receiver &receiver) override {
    for (int64_t i = first; i < int64_t(tokens.size()); ++i) {
      std::vector<float> row(11);
      row[size_t(tokens[size_t(i)] + 1) % 11] = std::log(10.0f);
      SMELT_TRY(receiver(i, row));
    }
    return {};
  }
  Result<std::string> answer(const std::vector<int32_t> &prompt, int64_t maxTokens) override {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < maxTokens; ++i)
      out.push_back(int32_t((prompt.back() + 1 + i) % 9));
    return words->decode(out);
  }
  Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) override {
    std::vector<std::vector<float>> rows;
    for (const std::string &text : texts)
      rows.push_back({float(std::count(text.begin(), text.end(), 'a')),
                      float(std::count(text.begin(), text.end(), 'b'))});
    return rows;
  }
  bool isEncoder() const override { return encodes; }
  int64_t vocabSize() const override { return 11; }
  uint64_t bytes() const override { return 0; }
  const Tokenizer *tokenizer() const override { return &*words; }
  int32_t bosToken() const override { return -1; }
  Result<std::string> renderChat(std::span<const ChatMessage> messages) const override {
    return messages.back().content;
  }

  bool encodes = false;

private:
  TokenizerImport imported;
  std::optional<Tokenizer> words;
};

TEST_F(TasksTest, ReadsEveryKind) {
  auto choices = readTaskFile(
      write("c.jsonl", "{\"question\": \"q\", \"choices\": [\"x\", \"y\"], \"answer\": 1}\r\n\n"));
  ASSERT_TRUE(choices.ok()) << choices.status().message();
  ASSERT_EQ(choices->choices.size(), 1u);
  EXPECT_EQ(choices->choices[0].context, "q");
  EXPECT_EQ(choices->choices[0].answer, 1u);

  auto answers = readTaskFile(write(
      "g.jsonl",
      "{\"prompt\": \"p\", \"expect\": \"x\", \"check\": \"exact\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"m\"}], \"expect\": [\"x\", \"y\"], "
      "\"check\": \"contains\", \"max_tokens\": 7}\n"
      "{\"prompt\": \"p\", \"check\": \"json\"}\n"));
  ASSERT_TRUE(answers.ok()) << answers.status().message();
  ASSERT_EQ(answers->generations.size(), 3u);
  EXPECT_EQ(answers->generations[1].messages[0].content, "m");
  EXPECT_EQ(answers->generations[1].expect.size(), 2u);
  EXPECT_EQ(answers->generations[1].maxTokens, 7);

  for (const char *name : {"p.jsonl", "p.tsv"}) {
    auto pairs = readTaskFile(write(name, std::string(name).ends_with("tsv")
                                              ? "one\ttwo\t2.5\n"
                                              : "{\"a\":\"one\",\"b\":\"two\",\"score\":2.5}\n"));
    ASSERT_TRUE(pairs.ok()) << pairs.status().message();
    ASSERT_EQ(pairs->pairs.size(), 1u);
    EXPECT_EQ(pairs->pairs[0].b, "two");
    EXPECT_EQ(pairs->pairs[0].score, 2.5);
  }
}

TEST_F(TasksTest, MalformedLinesAreNamed) {
  const std::string choice = R"({"context": "c", "choices": ["x", "y"], "answer": 0})";
  const std::string prompt = R"({"prompt": "p", "expect": "x", "check": "exact"})";
  auto expectRefused = [&](const std::string &first, const std::string &line,
                           const std::string &said) {
    auto file = readTaskFile(write("bad.jsonl", first + "\n" + line + "\n"));
    ASSERT_FALSE(file.ok()) << line;
    const std::string message = file.status().message();
    EXPECT_NE(message.find("bad.jsonl:2: "), std::string::npos) << message;
    EXPECT_NE(message.find(said), std::string::npos) << message;
  };
  expectRefused(choice, "{\"context\": ", "not JSON");
  expectRefused(choice, "[1]", "found a list of 1, expected an object");
  expectRefused(choice, R"({"context": 3, "choices": ["x", "y"], "answer": 0})",
                "\"context\" is a number, expected a string");
  expectRefused(choice, R"({"context": "c", "choices": ["x"], "answer": 0})", "at least 2");
  expectRefused(choice, R"({"context": "c", "choices": ["x", " "], "answer": 0})", "is empty");
  expectRefused(choice, R"({"context": "c", "choices": ["x", "y"], "answer": 2})",
                "\"answer\" is 2, expected the number of the right choice, 0 to 1");
  expectRefused(choice, prompt, "\"question\" is nothing");
  expectRefused(prompt, R"({"prompt": "p", "expect": "x", "check": "like"})",
                "\"check\" is \"like\", expected");
  expectRefused(prompt, R"({"prompt": "p", "check": "exact"})", "\"expect\" is missing");
  expectRefused(prompt, R"({"prompt": "p", "expect": "{", "check": "json"})", "is not JSON");
  expectRefused(prompt, R"({"prompt": "p", "expect": "x", "check": "exact", "max_tokens": 0})",
                "\"max_tokens\"");
  expectRefused(R"({"a": "x", "b": "y", "score": 1})", R"({"a": "x", "b": "y"})",
                "\"score\" is nothing, expected a number");

  auto tabs = readTaskFile(write("bad.tsv", "a\tb\t1\na\tb\n"));
  EXPECT_NE(tabs.status().message().find("bad.tsv:2: found 2 fields"), std::string::npos);
  auto none = readTaskFile(write("none.jsonl", "{\"hello\": 1}\n"));
  EXPECT_NE(none.status().message().find("none.jsonl:1: found none of"), std::string::npos);
  EXPECT_FALSE(readTaskFile(write("empty.jsonl", "\n")).ok());
  EXPECT_EQ(readTaskFile((folder / "missing").string()).status().code(), StatusCode::NotFound);
}

TEST(Answers, AreJudgedAsTheLineSays) {
  GenerationItem item;
  item.expect = {"yes", "no"};
  EXPECT_TRUE(passes(item, " no\n"));
  EXPECT_FALSE(passes(item, "nope"));
  item.check = AnswerCheck::Contains;
  EXPECT_TRUE(passes(item, "nope"));
  EXPECT_FALSE(passes(item, "maybe"));
  item.check = AnswerCheck::Json;
  item.expect = {R"({"a": [1, 2]})"};
  EXPECT_TRUE(passes(item, "```json\n{ \"a\":[1,2] }\n```\n"));
  EXPECT_FALSE(passes(item, R"({"a": [1]})"));
  EXPECT_FALSE(passes(item, R"({"a": [1, 2})"));
  item.expect.clear();
  EXPECT_TRUE(passes(item, R"({"a": [1]})"));
  EXPECT_FALSE(passes(item, "Sure! {}"));
}

TEST_F(TasksTest, ChoicesByLikelihoodAndByLength) {
  AlphabetModel model(folder);
  TaskFile file;
  // After "d ": e starts with 1/20 either way; "efg" goes on with 1/2 a letter, "eg" breaks off.
  file.choices.push_back({"d", {"eg", "efg"}, 1});
  // The shorter one is likelier, the longer one likelier per character.
  file.choices.push_back({"d ", {"c", "cde"}, 1});
  // "hi" is one token of two characters.
  file.choices.push_back({"g", {"hi", "ha"}, 0});
  auto scores = scoreTask(model, file, 0, [](int64_t) {});
  ASSERT_TRUE(scores.ok()) << scores.status().message();
  EXPECT_EQ(scores->right, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(scores->rightNorm, (std::vector<bool>{true, true, true}));
  EXPECT_EQ(scores->answers, (std::vector<std::string>{"1", "0", "0"}));

  TaskScores reference = *scores;
  reference.right = {false, true, true};
  reference.answers = {"0", "1", "0"};
  TaskResult result = summarizeTask(file, *scores, &reference);
  EXPECT_EQ(result.kind, "choice");
  EXPECT_EQ(result.accuracy.hits, 2);
  EXPECT_EQ(result.accuracyNorm.hits, 3);
  ASSERT_TRUE(result.reference.has_value());
  EXPECT_EQ(result.reference->flips.lost, 1);
  EXPECT_EQ(result.reference->flips.won, 1);
  EXPECT_EQ(result.reference->flips.changed, 2);
  EXPECT_NEAR(result.reference->flips.rate.value, 2.0 / 3, 1e-12);

  auto first = scoreTask(model, file, 1, [](int64_t) {});
  EXPECT_EQ(first->right.size(), 1u);
  model.encodes = true;
  EXPECT_NE(scoreTask(model, file, 0, [](int64_t) {}).status().message().find("embeddings"),
            std::string::npos);
}

TEST_F(TasksTest, GenerationsAndPairs) {
  AlphabetModel model(folder);
  TaskFile file;
  file.generations.push_back({"ab", {}, {"cde"}, AnswerCheck::Exact, 3});
  file.generations.push_back({"", {{"user", "abc"}}, {"e"}, AnswerCheck::Exact, 2});
  auto scores = scoreTask(model, file, 0, [](int64_t) {});
  ASSERT_TRUE(scores.ok()) << scores.status().message();
  EXPECT_EQ(scores->answers, (std::vector<std::string>{"cde", "de"}));
  EXPECT_EQ(summarizeTask(file, *scores, nullptr).accuracy.hits, 1);

  TaskFile pairs;
  pairs.pairs = {{"ab", "ab", 5}, {"aab", "ab", 4}, {"a", "b", 0}};
  EXPECT_FALSE(scoreTask(model, pairs, 0, [](int64_t) {}).ok());
  model.encodes = true;
  scores = scoreTask(model, pairs, 0, [](int64_t) {});
  ASSERT_TRUE(scores.ok()) << scores.status().message();
  EXPECT_NEAR(scores->cosines[1], 3 / std::sqrt(10.0), 1e-12);
  TaskScores reference = *scores;
  reference.cosines[2] = 0.25;
  TaskResult result = summarizeTask(pairs, *scores, &reference);
  EXPECT_DOUBLE_EQ(result.spearman, 1);
  EXPECT_DOUBLE_EQ(result.reference->spearmanOfCosines, 1);
  EXPECT_DOUBLE_EQ(result.reference->largestCosineShift, 0.25);
  pairs.pairs[1] = {"c", "ab", 1}; // an embedding of zero has no direction
  EXPECT_NE(scoreTask(model, pairs, 0, [](int64_t) {}).status().message().find("item 2"),
            std::string::npos);
}

TEST(Rates, WilsonIntervals) {
  // Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
  EXPECT_NEAR(rateOf(81, 263).low, 0.2553, 5e-5);
  EXPECT_NEAR(rateOf(81, 263).high, 0.3662, 5e-5);
  EXPECT_EQ(rateOf(0, 20).low, 0);
  EXPECT_NEAR(rateOf(0, 20).high, 0.1611, 5e-5);
  EXPECT_EQ(rateOf(0, 0).items, 0);
}

TEST(Rates, RankCorrelation) {
  const std::vector<double> up = {1, 2, 3, 4}, down = {9, 5, 2, -1}, flat = {1, 1, 1, 1};
  EXPECT_DOUBLE_EQ(spearman(up, down), -1);
  EXPECT_EQ(spearman(up, flat), 0);
  // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / sqrt(5 * 4.5).
  EXPECT_DOUBLE_EQ(spearman(up, std::vector<double>{1, 2, 2, 3}), 4.5 / std::sqrt(22.5));
}

} // namespace
