// Tests of the import of tokenizer files: what is read, from where, and what is refused.
#include "compiler/tokenizer/import.h"
#include "runtime/tokenizer/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace smelt;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

/// A folder with a small tokenizer.json that a test may change.
class ImportTest : public testing::Test {
protected:
  ImportTest() {
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    folder = fs::temp_directory_path() / ("smelt_import_" + name + "_" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    tokenizer = Json::parse(R"({
      "added_tokens": [
        {"id": 5, "content": "<s>", "special": true, "normalized": false},
        {"id": 6, "content": "</s>", "special": true, "normalized": false},
        {"id": 7, "content": "<|end|>", "special": true, "normalized": false}],
      "normalizer": null,
      "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false},
      "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}},
      "decoder": {"type": "Fuse"},
      "model": {"type": "BPE", "unk_token": "?", "vocab": {"a": 0, "b": 1, "ab": 2, "?": 3, "c": 4}, "merges": [["a", "b"]]}})");
  }
  ~ImportTest() override { fs::remove_all(folder); }

  void write(const std::string &name, const std::string &text) {
    std::ofstream(folder / name, std::ios::binary) << text;
  }
  Result<TokenizerImport> import() {
    write("tokenizer.json", tokenizer.dump());
    return importTokenizer(folder);
  }
  /// The message of a refusal.
  std::string refusal() {
    auto result = import();
    return result.ok() ? "accepted" : result.status().message();
  }
  std::vector<int32_t> encode(const TokenizerImport &import, std::string_view text) {
    auto opened = Tokenizer::open(import.blob);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    return *opened->encode(text);
  }

  fs::path folder;
  Json tokenizer;
};

TEST_F(ImportTest, ATokenizerAloneIsEnough) {
  auto result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(encode(*result, "ab abz </s>"), (std::vector<int32_t>{5, 2, 2, 3, 6}));
  EXPECT_TRUE(result->chatTemplate.empty());
  EXPECT_EQ(result->bosId, -1);
  EXPECT_TRUE(result->eosIds.empty());
  EXPECT_FALSE(result->generation.temperature.has_value());
}

TEST_F(ImportTest, ReadsWhatLiesBeside) {
  write("tokenizer_config.json",
        R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "</s>"})");
  write("generation_config.json",
        R"({"eos_token_id": [7, 6], "temperature": 0.6, "top_k": 40, "do_sample": true})");
  write("genai_config.json",
        R"({"model": {"eos_token_id": 4}, "search": {"temperature": 1.0, "top_p": 0.9}})");
  auto result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->bosId, 5);
  EXPECT_EQ(result->padId, 6);
  EXPECT_EQ(result->bosToken, "<s>");
  EXPECT_EQ(result->eosToken, "</s>");
  EXPECT_EQ(result->eosIds, (std::vector<int32_t>{6, 7, 4})); // the tokenizer's own first
  EXPECT_TRUE(result->addBos);
  EXPECT_EQ(result->generation.temperature, 0.6);
  EXPECT_EQ(result->generation.topP, 0.9);
  EXPECT_EQ(result->generation.topK, 40);
  EXPECT_EQ(result->generation.doSample, true);
  EXPECT_FALSE(result->generation.repetitionPenalty.has_value());
}

TEST_F(ImportTest, FindsTheChatTemplate) {
  write("tokenizer_config.json", R"({"chat_template": "inside"})");
  EXPECT_EQ(import()->chatTemplate, "inside");
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(import()->chatTemplate, "d");
  write("chat_template.json", R"({"chat_template": "beside"})");
  EXPECT_EQ(import()->chatTemplate, "beside");
  write("chat_template.jinja", "file");
  EXPECT_EQ(import()->chatTemplate, "file");
}

TEST_F(ImportTest, TheConfigurationOfLlamaRulesTheFirstToken) {
  write("tokenizer_config.json",
        R"({"bos_token": "<s>", "tokenizer_class": "LlamaTokenizer", "add_bos_token": false})");
  auto result = import();
  ASSERT_TRUE(result.ok());
  EXPECT_FALSE(result->addBos);
  EXPECT_EQ(encode(*result, "a"), (std::vector<int32_t>{0}));
  tokenizer["post_processor"] = nullptr;
  write("tokenizer_config.json",
        R"({"bos_token": "<s>", "tokenizer_class": "LlamaTokenizer", "add_bos_token": true})");
  result = import();
  EXPECT_TRUE(result->addBos);
  EXPECT_EQ(encode(*result, "a"), (std::vector<int32_t>{5, 0}));
}

TEST_F(ImportTest, ReadsMergesOfOldFiles) {
  tokenizer["model"]["merges"] = {"a b"};
  tokenizer["model"].erase("type");
  auto result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(encode(*result, "ab"), (std::vector<int32_t>{5, 2}));
}

TEST_F(ImportTest, SaysWhatIsMissing) {
  auto result = importTokenizer(folder);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::NotFound);
  EXPECT_NE(result.status().message().find("found no tokenizer.json in " + folder.string()),
            std::string::npos);
}

TEST_F(ImportTest, RefusesUnsupportedPartsByTheirTypes) {
  auto refuses = [&](const char *part, Json value, const char *words) {
    Json before = tokenizer;
    tokenizer[part] = std::move(value);
    EXPECT_NE(refusal().find(words), std::string::npos) << refusal();
    tokenizer = before;
  };
  refuses("model", {{"type", "WordLevel"}, {"vocab", Json::object()}},
          "the model 'WordLevel', which smelt does not support");
  refuses("model", {{"type", "WordPiece"}, {"vocab", {{"a", 0}}}}, "names no unknown token");
  refuses("model", {{"type", "Unigram"}, {"vocab", Json::array()}}, "is empty");
  refuses("normalizer", {{"type", "Mystery"}}, "the normalizer 'Mystery'");
  refuses("pre_tokenizer", {{"type", "UnicodeScripts"}}, "the pre-tokenizer 'UnicodeScripts'");
  refuses("decoder", {{"type", "CTC"}}, "the decoder 'CTC'");
  refuses("post_processor", {{"type", "Mystery"}}, "the post-processor 'Mystery'");
  refuses("pre_tokenizer",
          {{"type", "Split"},
           {"behavior", "Isolated"},
           {"invert", false},
           {"pattern", {{"Regex", "(a"}}}},
          "regular expression '(a'");
}

TEST_F(ImportTest, RefusesFalseContent) {
  auto refuses = [&](auto change, const char *words) {
    Json before = tokenizer;
    change();
    EXPECT_NE(refusal().find(words), std::string::npos) << refusal();
    tokenizer = before;
  };
  refuses([&] { tokenizer["model"]["merges"].push_back({"a", "zz"}); }, "needs the token 'zz'");
  refuses([&] { tokenizer["model"]["merges"].push_back("a b c"); }, "expected two tokens");
  refuses([&] { tokenizer["model"]["unk_token"] = "nope"; }, "the unknown token 'nope'");
  refuses([&] { tokenizer["model"]["vocab"]["big"] = 4000000000u; }, "beyond the limits");
  refuses([&] { tokenizer["model"]["vocab"]["a"] = "text"; },
          "found \"text\" in tokenizer.json, expected a whole number");
  refuses([&] { tokenizer["model"]["dropout"] = 0.1; }, "dropout");
  refuses([&] { tokenizer["model"]["vocab"] = Json::object(); }, "empty");
  refuses([&] { tokenizer.erase("model"); }, "does not have the expected form");
  refuses([&] { tokenizer["post_processor"]["special_tokens"]["<s>"]["ids"] = {99}; },
          "outside the vocabulary");
  tokenizer["model"]["merges"] = Json::array();
  write("generation_config.json", R"({"eos_token_id": 99})");
  EXPECT_NE(refusal().find("names end token 99, the vocabulary has 8 tokens"), std::string::npos)
      << refusal();
  write("generation_config.json", R"({"temperature": -1})");
  EXPECT_NE(refusal().find("have temperature -1.0, expected 0.0 to "), std::string::npos)
      << refusal();
  write("generation_config.json", R"({"top_p": 7})");
  EXPECT_NE(refusal().find("have top_p 7.0, expected 0.0 to 1.0"), std::string::npos) << refusal();
  write("generation_config.json", "{");
  EXPECT_NE(refusal().find("generation_config.json is not valid JSON"), std::string::npos)
      << refusal();
}

/// A BERT tokenizer of a few words.
const char *bertTokenizer = R"({
  "added_tokens": [{"id": 1, "content": "[CLS]", "special": true, "normalized": false},
                   {"id": 2, "content": "[SEP]", "special": true, "normalized": false}],
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                 "strip_accents": null, "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
               {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
    "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
             {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
             {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                       "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
  "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 8,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "caf": 3, "##e": 4, "!": 5, "\u65e5": 6, "cafe": 7, "##s": 8}}})";

TEST_F(ImportTest, WordPieceTakesTheLongestTokens) {
  tokenizer = Json::parse(bertTokenizer);
  auto result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  // Accents and case go, Han stands alone, a word without tokens or too long is unknown.
  EXPECT_EQ(encode(*result, "Caf\u00C9s!\u65E5 \u0007x cafecafes"),
            (std::vector<int32_t>{1, 7, 8, 5, 6, 0, 0, 2}));
  auto opened = Tokenizer::open(result->blob);
  EXPECT_EQ(opened->decode(*opened->encode("Caf\u00E9s !")), "cafes!");
}

TEST_F(ImportTest, PairsKnowTheirTypesAndLimit) {
  tokenizer = Json::parse(bertTokenizer);
  auto result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  auto opened = Tokenizer::open(result->blob);
  auto pair = opened->encodePair("cafe", "! ! !");
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(pair->ids, (std::vector<int32_t>{1, 7, 2, 5, 5, 5, 2}));
  EXPECT_EQ(pair->types, (std::vector<int32_t>{0, 0, 0, 1, 1, 1, 1}));
  EncodeOptions options;
  options.maxTokens = 5;
  EXPECT_EQ(opened->encodePair("cafe", "! ! !", options)->ids,
            (std::vector<int32_t>{1, 7, 2, 5, 2}));
  EXPECT_EQ(*opened->encode("! ! ! ! !", options), (std::vector<int32_t>{1, 5, 5, 5, 2}));
  tokenizer["post_processor"]["pair"] = Json::array();
  result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  opened = Tokenizer::open(result->blob);
  EXPECT_FALSE(opened->encodesPairs());
  EXPECT_FALSE(opened->encodePair("a", "b").ok());
}

TEST_F(ImportTest, UnigramTakesTheBestSum) {
  tokenizer = Json::parse(R"({
    "normalizer": null, "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"},
    "decoder": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"},
    "model": {"type": "Unigram", "unk_id": 0,
              "vocab": [["<unk>", 0], ["_", -2], ["a", -1.5], ["b", -1.5], ["ab", -2.5], ["_a", -3], ["_ab", -9]]}})");
  auto result = import();
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(encode(*result, "ab aab"),
            (std::vector<int32_t>{1, 4, 5, 4}));                       // "_" + "ab" beats "_ab"
  EXPECT_EQ(encode(*result, "axyb"), (std::vector<int32_t>{5, 0, 3})); // unknown neighbours join
  tokenizer["model"]["unk_id"] = 99;
  EXPECT_NE(refusal().find("99"), std::string::npos);
  tokenizer["model"]["unk_id"] = 0;
  tokenizer["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA*"}};
  EXPECT_NE(refusal().find("base64"), std::string::npos);
  tokenizer["normalizer"]["precompiled_charsmap"] = "//8AAAAA";
  EXPECT_NE(refusal().find("cut short"), std::string::npos);
}

} // namespace
