// Calibration data: what is read from files, what is refused, and how windows are cut.
#include "compiler/driver/dataset.h"
#include "compiler/tokenizer/import.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include <unistd.h>

using namespace smelt;
namespace fs = std::filesystem;

namespace {

class DatasetTest : public testing::Test {
protected:
  DatasetTest() : folder(fs::temp_directory_path() / ("dataset_test_" + std::to_string(getpid()))) {
    fs::create_directories(folder);
  }
  ~DatasetTest() override { fs::remove_all(folder); }

  std::string write(const std::string &name, const std::string &text) {
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name, std::ios::binary) << text;
    return (folder / name).string();
  }

  /// One token per byte of "abcdefghij \n" (ids 0 ..), <s> = 12.
  Tokenizer tokenizer() {
    write("tokenizer.json", R"({"version": "1.0", "truncation": null, "padding": null,
      "added_tokens": [{"id": 12, "content": "<s>", "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false}],
      "normalizer": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true},
      "post_processor": null,
      "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true},
      "model": {"type": "BPE", "dropout": null, "unk_token": null,
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
        "byte_fallback": false, "ignore_merges": false,
        "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6, "h": 7, "i": 8, "j": 9,
          "\u0120": 10, "\u010a": 11}, "merges": []}})");
    Result<TokenizerImport> found = importTokenizer(folder);
    EXPECT_TRUE(found.ok()) << found.status().message();
    imported = *std::move(found);
    Result<Tokenizer> opened = Tokenizer::open(imported.blob);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    return *std::move(opened);
  }

  fs::path folder;
  TokenizerImport imported;
};

TEST_F(DatasetTest, ReadsTextAndConversations) {
  std::string lines = write("a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\"}\r\n\n"
                                       "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"},"
                                       "{\"role\": \"assistant\", \"content\": \"yo\"}]}\n");
  auto documents = readDocuments({lines, write("b.txt", "plain\n")});
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  ASSERT_EQ(documents->size(), 3u);
  EXPECT_EQ((*documents)[0].text, "one\n\n");
  ASSERT_EQ((*documents)[1].messages.size(), 2u);
  EXPECT_EQ((*documents)[1].messages[1].role, "assistant");
  EXPECT_EQ((*documents)[1].messages[1].content, "yo");
  EXPECT_EQ((*documents)[2].text, "plain\n");
}

TEST_F(DatasetTest, FoldersAreReadInOrderOfPaths) {
  write("data/b.txt", "second");
  write("data/a/x.md", "first");
  write("data/c.bin", "no text file");
  auto documents = readDocuments({(folder / "data").string()});
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  ASSERT_EQ(documents->size(), 2u);
  EXPECT_EQ((*documents)[0].text, "first");
  EXPECT_EQ((*documents)[1].text, "second");
}

TEST_F(DatasetTest, MalformedLinesAreNamed) {
  auto failure = [&](const std::string &line) {
    std::string path = write("bad.jsonl", "{\"text\": \"fine\"}\n" + line + "\n");
    auto documents = readDocuments({path});
    EXPECT_FALSE(documents.ok());
    std::string message = documents.status().message();
    EXPECT_NE(message.find("bad.jsonl:2: "), std::string::npos) << message;
    return message;
  };
  EXPECT_NE(failure("{\"text\": ").find("not JSON"), std::string::npos);
  EXPECT_NE(failure("[1]").find("expected an object"), std::string::npos);
  EXPECT_NE(failure("{\"text\": 3}").find("expected a string"), std::string::npos);
  EXPECT_NE(failure("{\"messages\": []}").find("list \"messages\""), std::string::npos);
  EXPECT_NE(failure("{\"messages\": [{\"role\": \"user\"}]}").find("\"content\""),
            std::string::npos);
}

TEST_F(DatasetTest, MissingFilesAndEmptyFolders) {
  EXPECT_EQ(readDocuments({(folder / "none").string()}).status().code(), StatusCode::NotFound);
  fs::create_directories(folder / "empty");
  EXPECT_EQ(readDocuments({(folder / "empty").string()}).status().code(), StatusCode::NotFound);
}

TEST_F(DatasetTest, LongTextIsCutAtLineEnds) {
  std::string text;
  for (int i = 0; i < 4000; ++i)
    text += "line " + std::to_string(i) + "\n";
  auto documents = readDocuments({write("long.txt", text)});
  ASSERT_TRUE(documents.ok());
  EXPECT_GT(documents->size(), 2u);
  std::string joined;
  for (const Document &document : *documents) {
    EXPECT_EQ(document.text.back(), '\n');
    joined += document.text;
  }
  EXPECT_EQ(joined, text);
}

TEST_F(DatasetTest, WindowsAreEvenAndBeginWithBos) {
  Tokenizer words = tokenizer();
  TextEncoder encoder{&words, nullptr, {}, 12};
  std::vector<Document> documents = {{"abcdefghij", {}}, {"jihgfedcba", {}}};
  auto set = makeSamples(documents, encoder, {2, 5});
  ASSERT_TRUE(set.ok()) << set.status().message();
  ASSERT_EQ(set->samples.size(), 2u);
  // Five windows of four tokens: the first and the one in the middle.
  EXPECT_EQ(set->samples[0], (std::vector<int32_t>{12, 0, 1, 2, 3}));
  EXPECT_EQ(set->samples[1], (std::vector<int32_t>{12, 8, 9, 9, 8}));
  EXPECT_EQ(set->tokens, 10);

  encoder.bosToken = -1;
  set = makeSamples(documents, encoder, {100, 8});
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(set->samples.size(), 3u);
  EXPECT_EQ(set->samples[2], (std::vector<int32_t>{3, 2, 1, 0}));
}

TEST_F(DatasetTest, SpecialTokensInTextArePlainText) {
  Tokenizer words = tokenizer();
  TextEncoder encoder{&words, nullptr, {}, -1};
  auto set = makeSamples({{"ab<s>cd", {}}}, encoder, {1, 64});
  ASSERT_TRUE(set.ok());
  for (int32_t id : set->samples[0])
    EXPECT_NE(id, 12);
}

TEST_F(DatasetTest, ConversationsNeedATemplate) {
  Tokenizer words = tokenizer();
  std::vector<Document> documents = {{"", {{"user", "ab"}, {"assistant", "cd"}}}};
  auto refused = makeSamples(documents, {&words, nullptr, {}, -1}, {1, 64});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("no chat template"), std::string::npos);
  auto chat = ChatTemplate::parse("{% for m in messages %}<s>{{ m['content'] }}{% endfor %}");
  ASSERT_TRUE(chat.ok()) << chat.status().message();
  auto set = makeSamples(documents, {&words, &*chat, {}, -1}, {1, 64});
  ASSERT_TRUE(set.ok()) << set.status().message();
  EXPECT_EQ(set->samples[0], (std::vector<int32_t>{12, 0, 1, 12, 2, 3}));
}

TEST_F(DatasetTest, EncodersReadOneTextAtATime) {
  Tokenizer words = tokenizer();
  TextEncoder encoder{&words, nullptr, {}, -1, true, {12}, {11, 10}};
  auto set = makeSamples({{"abcdefg", {}}, {"ab", {}}}, encoder, {10, 7});
  ASSERT_TRUE(set.ok()) << set.status().message();
  EXPECT_EQ(set->samples,
            (std::vector<std::vector<int32_t>>{
                {12, 0, 1, 2, 3, 11, 10}, {12, 4, 5, 6, 11, 10}, {12, 0, 1, 11, 10}}));
  EXPECT_EQ(set->tokens, 18);
  EXPECT_EQ(set->textTokens, 9);
  set = makeSamples({{"abcdefg", {}}, {"ab", {}}}, encoder, {1, 7});
  EXPECT_EQ(set->samples.size(), 1u);
}

TEST_F(DatasetTest, BuiltInSamplesAreMixed) {
  auto documents = builtInDocuments();
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  EXPECT_GT(documents->size(), 100u);
  size_t conversations = 0, bytes = 0;
  for (Document &document : *documents) {
    conversations += !document.messages.empty();
    flatten(document);
    EXPECT_TRUE(document.messages.empty());
    bytes += document.text.size();
  }
  EXPECT_GT(conversations, 30u);
  EXPECT_GT(bytes, 150'000u);
  EXPECT_LT(bytes, 300'000u);
  Tokenizer words = tokenizer();
  SampleSet set;
  set.tokens = 50'000;
  set.textTokens = 50'000;
  set.textBytes = set.textCharacters = 200'000;
  EXPECT_TRUE(dataWarnings(*builtInDocuments(), set, words, 1536).empty());
}

TEST_F(DatasetTest, PoorDataIsSpokenOf) {
  Tokenizer words = tokenizer();
  std::vector<Document> prose = {{"It was a bright cold day in April, and the clocks struck.", {}}};
  std::vector<Document> code = {{"for (int i = 0; i < n; ++i) { a[i] = b_i; }", {}}};
  std::vector<Document> both = {prose[0], code[0]};
  SampleSet good;
  good.tokens = good.textTokens = 8000;
  good.textBytes = good.textCharacters = 30'000;
  auto expectOne = [&](const std::vector<Document> &documents, const SampleSet &set,
                       const std::string &said) {
    std::vector<std::string> warnings = dataWarnings(documents, set, words, 1536);
    ASSERT_EQ(warnings.size(), 1u) << said;
    EXPECT_NE(warnings[0].find(said), std::string::npos) << warnings[0];
  };
  EXPECT_TRUE(dataWarnings(both, good, words, 1536).empty());
  expectOne(prose, good, "all of one kind (prose)");
  expectOne(code, good, "all of one kind (program code)");
  expectOne({{"", {{"user", "hello"}}}}, good, "all of one kind (conversations)");
  SampleSet few = good;
  few.tokens = 1536;
  expectOne(both, few,
            "only 1536 tokens of calibration text for linears of up to 1536 inputs, "
            "1.0 for each; give at least 6144");
  SampleSet unknown = good;
  unknown.strangeTokens = 4000;
  expectOne(both, unknown, "50.0 % of the calibration text are unknown");
}

TEST_F(DatasetTest, StrangeAndRepeatedTextIsSpokenOf) {
  // A tokenizer of more than 1024 tokens that has no word of this script.
  tokenizer();
  std::ifstream in(folder / "tokenizer.json");
  std::string json((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::string more;
  for (int i = 0; i < 1100; ++i)
    more += ", \"<more" + std::to_string(i) + ">\": " + std::to_string(13 + i);
  json.insert(json.find("}, \"merges\""), more);
  write("tokenizer.json", json);
  Result<TokenizerImport> found = importTokenizer(folder);
  ASSERT_TRUE(found.ok()) << found.status().message();
  Result<Tokenizer> words = Tokenizer::open(found->blob);
  ASSERT_TRUE(words.ok());
  std::vector<Document> documents = {{"hello", {}},
                                     {"for (int i = 0; i < n; ++i) { a[i] = b_i; }", {}}};
  SampleSet set;
  set.tokens = set.textTokens = 8000;
  set.textCharacters = 5000; // of three bytes each, cut into 8000 tokens
  set.textBytes = 15000;
  auto warnings = dataWarnings(documents, set, *words, 1536);
  ASSERT_FALSE(warnings.empty());
  EXPECT_NE(warnings[0].find("only 0.6 characters a token"), std::string::npos) << warnings[0];
  // The same line over and over.
  set.textCharacters = set.textBytes = 30'000;
  set.samples.assign(20, std::vector<int32_t>(400, 3));
  warnings = dataWarnings(documents, set, *words, 1536);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("repeats itself: 8000 tokens, but only 1 different"),
            std::string::npos)
      << warnings[0];
}

TEST_F(DatasetTest, BinaryFilesAreRefused) {
  auto refused = readDocuments({write("b.txt", std::string("ab\0c", 4))});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("b.txt' is not text: byte 2 is zero"),
            std::string::npos);
}

TEST_F(DatasetTest, OneTokenIsNoWindow) {
  Tokenizer words = tokenizer();
  auto set = makeSamples({{"a", {}}}, {&words, nullptr, {}, -1}, {1, 64});
  ASSERT_FALSE(set.ok());
  EXPECT_NE(set.status().message().find("has 1 token of text; expected about 64"),
            std::string::npos)
      << set.status().message();
}

TEST_F(DatasetTest, NoText) {
  Tokenizer words = tokenizer();
  auto set = makeSamples({}, {&words, nullptr, {}, -1}, {1, 64});
  ASSERT_FALSE(set.ok());
  EXPECT_NE(set.status().message().find("no text"), std::string::npos);
}

} // namespace
