// The commands on the fake model: what they print, and how they fail.
#include "runtime/base/json.h"
#include "runtime/tools/commands.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <iostream>

#include <fcntl.h>
#include <unistd.h>

using namespace smelt;
using namespace smelt::cli;
using namespace smelt::test;

namespace {

struct Outcome {
  int code;
  std::string out, err;
};

class CommandsTest : public testing::Test {
protected:
  /// Runs `smelt words...` in this process with its streams in files.
  Outcome run(std::vector<std::string> words, std::string_view input = {},
              const std::string &outPath = {}) {
    writeFile(folder.path("in"), std::as_bytes(std::span(input.data(), input.size())));
    std::string out = outPath.empty() ? folder.path("out") : outPath, err = folder.path("err");
    std::vector<const char *> argv = {"smelt"};
    for (const std::string &word : words)
      argv.push_back(word.c_str());
    int saved[] = {::dup(0), ::dup(1), ::dup(2)};
    redirect(0, folder.path("in"), O_RDONLY);
    redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC);
    redirect(2, err, O_WRONLY | O_CREAT | O_TRUNC);
    std::setvbuf(stdin, nullptr, _IONBF,
                 0); // or the next input would begin with the rest of the last
    std::clearerr(stdin);
    std::cin.clear();
    int code = runMain(int(argv.size()), argv.data(), runtimeCommands());
    std::fflush(stdout);
    std::fflush(stderr);
    for (int stream : {0, 1, 2}) {
      ::dup2(saved[stream], stream);
      ::close(saved[stream]);
    }
    std::clearerr(stdout);
    return {code, outPath.empty() ? text(out) : "", text(err)};
  }

  static std::string text(const std::string &path) {
    auto bytes = readFile(path);
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
  }

  static std::string answer(std::string_view prompt, size_t count) {
    std::vector<int32_t> history = fakeTokens(prompt);
    for (size_t i = 0; i < count; ++i)
      history.push_back(fakeNext(history));
    return fakeText(std::span(history).subspan(prompt.size()));
  }

  TemporaryFolder folder;
  std::string model = writeFake(folder);

private:
  static void redirect(int stream, const std::string &path, int flags) {
    std::fflush(nullptr);
    int file = ::open(path.c_str(), flags, 0600);
    ASSERT_GE(file, 0) << path;
    ::dup2(file, stream);
    ::close(file);
  }
};

TEST_F(CommandsTest, RunAnswers) {
  Outcome raw = run({"run", model, "HELLO", "--raw", "-n", "5", "-j", "1"});
  EXPECT_EQ(raw.code, 0) << raw.err;
  EXPECT_EQ(raw.out, answer("HELLO", 5) + "\n");
  EXPECT_EQ(raw.err, "");
  Outcome chat = run({"run", model, "-n", "5", "--system", "S", "--stats"}, "HI\n");
  EXPECT_EQ(chat.code, 0) << chat.err;
  EXPECT_EQ(chat.out, answer("SYSTEM: S / USER: HI / ASSISTANT: ", 5) + "\n");
  EXPECT_NE(chat.err.find("tok/s"), std::string::npos);
  Outcome sampled =
      run({"run", model, "A", "--raw", "-t", "5", "--top-k", "9", "--top-p", "0.9", "--min-p",
           "0.01", "--repetition-penalty", "1.1", "--seed", "3", "--stop", "X"});
  EXPECT_EQ(sampled.code, 0) << sampled.err;
}

TEST_F(CommandsTest, RunRefusesBadInput) {
  struct Bad {
    std::vector<std::string> words;
    std::string input;
    int code;
    const char *expected;
  };
  const Bad bads[] = {
      {{"run", "/no/such/model", "A"}, "", 1, "cannot open"},
      {{"run", model, ""}, "", 1, "prompt is empty"},
      {{"run", model}, "\n\n", 1, "prompt is empty"},
      {{"run", model, "--raw"}, std::string(5000, 'A'), 1, "context"},
      {{"run", model, "A", "--context", "1000000"}, "", 1, "context"},
      {{"run", model, "A", "--context", "99999999999"}, "", 1, "too large"},
      {{"run", model, "A", "--threads", "100000"}, "", 1, "threads"},
      {{"run", model, "A", "--target", "z80"}, "", 1, "unknown target"},
      {{"run", model, "A", "--top-p", "3"}, "", 1, "top-p"},
      {{"run", model, "A", "--raw", "--system", "x"}, "", 1, "--raw"},
      {{"run", model, "A", "--tempreature", "1"}, "", 2, "did you mean --temperature?"},
      {{"rnu", model}, "", 2, "did you mean run?"},
  };
  for (const Bad &bad : bads) {
    Outcome outcome = run(bad.words, bad.input);
    EXPECT_EQ(outcome.code, bad.code) << outcome.err;
    EXPECT_NE(outcome.err.find(bad.expected), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CommandsTest, RunSaysWhenItCannotWrite) {
  Outcome outcome = run({"run", model, "HELLO", "--raw", "-n", "5"}, "", "/dev/full");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("cannot write"), std::string::npos) << outcome.err;
  EXPECT_EQ(run({"inspect", model}, "", "/dev/full").code, 1);
}

TEST_F(CommandsTest, RunNeedsATemplateOrRaw) {
  writeFake(folder, [](FakeModel &fake) { fake.chatTemplate.clear(); });
  Outcome outcome = run({"run", model, "A"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("--raw"), std::string::npos);
  EXPECT_EQ(run({"chat", model}, "A\n").code, 1);
}

TEST_F(CommandsTest, ChatKeepsItsHistory) {
  std::string first = answer("USER: A / ASSISTANT: ", 3);
  std::string second = answer("USER: A / ASSISTANT: " + first + " / USER: B / ASSISTANT: ", 3);
  Outcome outcome = run({"chat", model, "-n", "3", "--stats"}, "A\n\nB\n/reset\nA\n/exit\nC\n");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, first + "\n" + second + "\n" + first + "\n");
  EXPECT_NE(outcome.err.find("(23 from the cache)"), std::string::npos) << outcome.err;
}

TEST_F(CommandsTest, ChatEndsWhenTheContextIsFull) {
  Outcome outcome = run({"chat", model, "-n", "3"}, std::string(200, 'A') + "\n");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("context"), std::string::npos);
}

TEST_F(CommandsTest, InspectShowsAndVerifies) {
  Outcome plain = run({"inspect", model, "--verify"});
  EXPECT_EQ(plain.code, 0) << plain.err;
  for (const char *part : {"weights", "bits per weight", "verified: runs here as", "cache"})
    EXPECT_NE(plain.out.find(part), std::string::npos) << part;
  Outcome json = run({"inspect", model, "--json", "--verify"});
  Result<Json> value = Json::parse(json.out);
  ASSERT_TRUE(value.ok()) << json.out;
  EXPECT_EQ(value->find("model")->find("vocabulary")->number(), fakeVocabulary);
  EXPECT_EQ(value->find("bits_per_weight")->find("all of role head")->number(), 32);
  EXPECT_EQ(*value->find("metadata")->find("producer")->string(), "test");
  EXPECT_NE(value->find("verified_target"), nullptr);
}

TEST_F(CommandsTest, InspectRefusesDamage) {
  auto bytes = readFile(model);
  bytes[bytes.size() / 2] ^= std::byte(1);
  writeFile(folder.path("damaged"), bytes);
  Outcome damaged = run({"inspect", folder.path("damaged")});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_NE(damaged.err.find("damaged"), std::string::npos);
  writeFake(folder, [](FakeModel &fake) { fake.metadata = "{broken"; });
  EXPECT_EQ(run({"inspect", model}).code, 1);
}

TEST_F(CommandsTest, PromptsAreKeptInAFile) {
  const std::string cache = folder.path("cache");
  auto ask = [&](const std::string &prompt) {
    return run({"run", model, prompt, "--raw", "-n", "4", "--stats", "--prompt-cache", cache});
  };
  Outcome first = ask("A LONG PROMPT");
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.err.find("13 tokens (0 from the cache)"), std::string::npos) << first.err;
  auto written = readFile(cache);
  Outcome second = ask("A LONG PROMPT!");
  EXPECT_EQ(second.out, answer("A LONG PROMPT!", 4) + "\n");
  EXPECT_NE(second.err.find("14 tokens (13 from the cache)"), std::string::npos) << second.err;
  EXPECT_EQ(readFile(cache), written);
  Outcome other = ask("SOMETHING ELSE");
  EXPECT_EQ(other.out, answer("SOMETHING ELSE", 4) + "\n");
  EXPECT_NE(readFile(cache), written);
  // What is no cached prompt is never overwritten.
  writeFile(cache, std::as_bytes(std::span("my notes")));
  Outcome refused = ask("A LONG PROMPT");
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("is not a cached prompt"), std::string::npos) << refused.err;
  EXPECT_EQ(readFile(cache).size(), sizeof "my notes");
}

TEST_F(CommandsTest, DraftsChangeNothing) {
  Outcome plain = run({"run", model, "HELLO", "--raw", "-n", "30", "--no-speculation", "--stats"});
  EXPECT_NE(plain.err.find("0 of 0 drafted tokens"), std::string::npos) << plain.err;
  Outcome drafts = run({"run", model, "HELLO", "--raw", "-n", "30", "--draft", model});
  EXPECT_EQ(drafts.code, 0) << drafts.err;
  EXPECT_EQ(drafts.out, plain.out);
  EXPECT_EQ(run({"run", model, "HELLO", "--raw", "--draft", folder.path("none")}).code, 1);
}

TEST_F(CommandsTest, BenchMeasures) {
  Outcome json = run({"bench", model, "--json", "--profile", "--rounds", "1", "-j", "2"});
  ASSERT_EQ(json.code, 0) << json.err;
  Result<Json> value = Json::parse(json.out);
  ASSERT_TRUE(value.ok()) << json.out;
  for (const char *key : {"load_seconds", "first_token_seconds", "peak_bytes",
                          "read_bytes_per_second", "barrier_seconds", "decode_weight_bytes"})
    EXPECT_GT(value->find(key)->number(), 0) << key;
  EXPECT_GT(value->find("prefill_tokens_per_second")->find("64")->number(), 0);
  EXPECT_GT(value->find("decode_tokens_per_second")->find("16")->number(), 0);
  EXPECT_EQ(value->find("decode_weight_bytes")->number(), 256);
  EXPECT_NE(value->find("decode_profile")->find("16")->find("operations")->find("attention"),
            nullptr);
  EXPECT_GT(value->find("step_seconds")->find("4")->number(), 0);
  EXPECT_EQ(value->find("slots_together")->find("slots")->number(), 4);
  EXPECT_GT(value->find("slots_together")->find("ratio")->number(), 0);
  Outcome plain = run({"bench", model, "--rounds", "1", "--profile", "-j", "1"});
  EXPECT_EQ(plain.code, 0);
  EXPECT_NE(plain.out.find("of read bandwidth"), std::string::npos);
  EXPECT_NE(plain.out.find(" 4 slots together"), std::string::npos);
}

} // namespace
