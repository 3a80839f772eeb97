// Translates tokenizer.json, component by component. Semantics: huggingface/tokenizers 0.23.
#include "compiler/tokenizer/tokenizer_json.h"

#include "compiler/tokenizer/charsmap.h"
#include "runtime/tokenizer/unicode.h"

#include <string>
#include <unordered_map>

namespace smelt {

namespace {

using Json = nlohmann::json;

constexpr unsigned maxNesting = 16;         // of Sequence components
constexpr uint32_t maxVocabulary = 8 << 20; // tokens; the largest real ones have 262,144
constexpr size_t maxTokenBytes = 0xFFFF;

/// The "type" of a component; "" for null.
std::string typeOf(const Json &component) {
  return component.is_object() ? component.value("type", std::string()) : std::string();
}

Status unsupportedComponent(const char *role, const std::string &type) {
  return unsupported("tokenizer.json uses the " + std::string(role) + " '" + type +
                     "', which smelt does not support");
}

class Translator {
public:
  explicit Translator(const Json &tokenizer) : tokenizer(tokenizer) {}

  Result<BlobContents> translate() {
    SMELT_TRY(model());
    SMELT_TRY(addedTokens());
    SMELT_TRY(normalizer(component("normalizer"), 0));
    SMELT_TRY(preTokenizer(component("pre_tokenizer"), 0));
    SMELT_TRY(postProcessor(component("post_processor"), 0));
    SMELT_TRY(decoder(component("decoder"), 0));
    return std::move(blob);
  }

private:
  const Json &component(const char *name) const {
    static const Json none;
    return tokenizer.contains(name) ? tokenizer[name] : none;
  }

  Status model();
  Status bpe(const Json &model);
  Status wordPiece(const Json &model);
  Status unigram(const Json &model);
  Status vocabulary(const Json &vocab);
  Status unknownToken(const Json &model);
  Status merges(const Json &list);
  Status addToken(uint32_t id, const std::string &text);
  Status addedTokens();
  Status normalizer(const Json &component, unsigned depth);
  void normalForm(const std::string &type);
  void bertNormalizer(const Json &component);
  Status charsmap(const Json &component);
  Status preTokenizer(const Json &component, unsigned depth);
  Status postProcessor(const Json &component, unsigned depth);
  Status decoder(const Json &component, unsigned depth);
  Result<uint32_t> pattern(const Json &pattern);
  Result<SplitBehavior> behavior(const std::string &name);
  void split(uint32_t pattern, SplitBehavior behavior, bool invert = false);
  Status metaspace(const Json &component);
  Status templatePiece(const Json &piece, const Json &specials, bool &afterText);
  Status pairTemplate(const Json &component);

  const Json &tokenizer;
  BlobContents blob;
  std::unordered_map<std::string, uint32_t> modelVocabulary;
};

/// A count or token id: a whole number that fits 32 bits.
Result<uint32_t> wholeNumber(const Json &value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX)
    return corrupt("found " + value.dump().substr(0, 40) +
                   " in tokenizer.json, expected a whole number from 0 to 4294967295");
  return uint32_t(value.get<uint64_t>());
}

/// A string operand of a step: UTF-8 and short.
Result<std::string> operand(const Json &component, const char *name) {
  std::string text = component.at(name).get<std::string>();
  if (text.size() > maxTokenBytes || !isValidUtf8(text))
    return unsupported("the '" + std::string(name) + "' of a component of tokenizer.json is " +
                       std::to_string(text.size()) + " bytes long, at most 65535 are supported");
  return text;
}

Status Translator::addToken(uint32_t id, const std::string &text) {
  if (id >= maxVocabulary || text.size() > maxTokenBytes)
    return unsupported("token " + std::to_string(id) + " of " + std::to_string(text.size()) +
                       " bytes is beyond the limits of 8388608 tokens and 65535 bytes");
  if (id >= blob.vocabulary.size())
    blob.vocabulary.resize(id + 1);
  blob.vocabulary[id] = text;
  return {};
}

Status Translator::model() {
  const Json &model = tokenizer.at("model");
  std::string type = typeOf(model);
  if (type.empty() && model.contains("merges"))
    type = "BPE"; // files written before the field existed
  if (type.empty() && model.contains("max_input_chars_per_word"))
    type = "WordPiece";
  if (type == "BPE")
    return bpe(model);
  if (type == "WordPiece")
    return wordPiece(model);
  if (type == "Unigram")
    return unigram(model);
  return unsupportedComponent("model", type);
}

/// The text of a field of the model; "" for null.
static std::string modelText(const Json &model, const char *name) {
  return model.contains(name) && model[name].is_string() ? model[name].get<std::string>()
                                                         : std::string();
}

Status Translator::vocabulary(const Json &vocab) {
  for (const auto &[token, id] : vocab.items()) {
    SMELT_ASSIGN(uint32_t number, wholeNumber(id));
    SMELT_TRY(addToken(number, token));
    modelVocabulary.emplace(token, number);
  }
  if (modelVocabulary.empty())
    return corrupt("the vocabulary of tokenizer.json is empty");
  return {};
}

Status Translator::unknownToken(const Json &model) {
  std::string unknown = modelText(model, "unk_token");
  if (unknown.empty())
    return {};
  auto found = modelVocabulary.find(unknown);
  if (found == modelVocabulary.end())
    return corrupt("the unknown token '" + unknown +
                   "' of tokenizer.json is not in its vocabulary");
  blob.unknown = found->second;
  return {};
}

Status Translator::wordPiece(const Json &model) {
  blob.isWordPiece = true;
  SMELT_TRY(vocabulary(model.at("vocab")));
  SMELT_TRY(unknownToken(model));
  if (blob.unknown == blobNone)
    return corrupt("the WordPiece model of tokenizer.json names no unknown token");
  blob.continuingPrefix = modelText(model, "continuing_subword_prefix");
  SMELT_ASSIGN(blob.maxWordCharacters,
               wholeNumber(model.value("max_input_chars_per_word", Json(100u))));
  return {};
}

Status Translator::unigram(const Json &model) {
  blob.isUnigram = true;
  for (const Json &token : model.at("vocab")) { // [[text, score], ...], by id
    uint32_t id = uint32_t(blob.scores.size());
    std::string text = token.at(0).get<std::string>();
    SMELT_TRY(addToken(id, text));
    modelVocabulary.insert_or_assign(text, id);
    blob.scores.push_back(token.at(1).get<double>());
  }
  if (blob.scores.empty())
    return corrupt("the vocabulary of tokenizer.json is empty");
  if (model.value("byte_fallback", false))
    blob.modelFlags |= modelByteFallback;
  if (model.contains("unk_id") && !model["unk_id"].is_null()) {
    SMELT_ASSIGN(blob.unknown, wholeNumber(model["unk_id"]));
    if (blob.unknown >= blob.scores.size())
      return corrupt("the unknown token " + std::to_string(blob.unknown) +
                     " of tokenizer.json is not in its vocabulary");
  }
  return {};
}

Status Translator::bpe(const Json &model) {
  if (model.contains("dropout") && model["dropout"].is_number() && model["dropout"] != 0.0)
    return unsupported("tokenizer.json asks for BPE dropout, which makes encoding random");
  auto flag = [&](const char *name, ModelFlag bit) {
    if (model.contains(name) && model[name].is_boolean() && model[name].get<bool>())
      blob.modelFlags |= bit;
  };
  flag("byte_fallback", modelByteFallback);
  flag("fuse_unk", modelFuseUnknown);
  flag("ignore_merges", modelIgnoreMerges);
  blob.continuingPrefix = modelText(model, "continuing_subword_prefix");
  blob.wordSuffix = modelText(model, "end_of_word_suffix");
  SMELT_TRY(vocabulary(model.at("vocab")));
  SMELT_TRY(unknownToken(model));
  return merges(model.at("merges"));
}

Status Translator::merges(const Json &list) {
  size_t rank = 0;
  for (const Json &merge : list) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      std::string text = merge.get<std::string>();
      size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        return corrupt("merge " + std::to_string(rank) + " of tokenizer.json is '" + text +
                       "', expected two tokens");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
    if (right.size() < blob.continuingPrefix.size())
      return corrupt("merge " + std::to_string(rank) + " of tokenizer.json joins '" + right +
                     "', which is shorter than the prefix of continuing pieces");
    std::array<uint32_t, 3> ids;
    const std::string texts[] = {left, right, left + right.substr(blob.continuingPrefix.size())};
    for (size_t i = 0; i < 3; ++i) {
      auto found = modelVocabulary.find(texts[i]);
      if (found == modelVocabulary.end())
        return corrupt("merge " + std::to_string(rank) + " of tokenizer.json needs the token '" +
                       texts[i] + "', which is not in its vocabulary");
      ids[i] = found->second;
    }
    blob.merges.push_back(ids);
    ++rank;
  }
  return {};
}

Status Translator::addedTokens() {
  for (const Json &token : component("added_tokens")) {
    std::string text = token.at("content").get<std::string>();
    if (text.empty())
      continue;
    SMELT_ASSIGN(uint32_t id, wholeNumber(token.at("id")));
    uint8_t flags = 0;
    auto flag = [&](const char *name, AddedFlag bit) {
      if (token.value(name, false))
        flags |= bit;
    };
    flag("special", addedSpecial);
    flag("single_word", addedSingleWord);
    flag("lstrip", addedLeftStrip);
    flag("rstrip", addedRightStrip);
    flag("normalized", addedNormalized);
    if (auto found = modelVocabulary.find(text); found != modelVocabulary.end()) {
      id = found->second; // the model's id counts
      flags |= addedInModel;
    }
    SMELT_TRY(addToken(id, text));
    blob.added.push_back({id, flags});
  }
  return {};
}

Result<uint32_t> Translator::pattern(const Json &pattern) {
  if (pattern.contains("String")) {
    SMELT_ASSIGN(PatternProgram program,
                 compileLiteral(pattern["String"].get<std::string>(), blob.sets));
    return blob.addPattern(std::move(program));
  }
  SMELT_ASSIGN(PatternProgram program,
               compilePattern(pattern.at("Regex").get<std::string>(), blob.sets));
  return blob.addPattern(std::move(program));
}

void Translator::normalForm(const std::string &type) {
  uint32_t map = blob.tableIndex(type[2] == 'K' ? "Compatible" : "Canonical");
  uint32_t classes = blob.tableIndex("Classes");
  uint32_t compose = type.back() == 'C' ? blob.tableIndex("Compositions") : blobNone;
  ByteWriter &out = blob.normalizer.add(NormalizerStep::NormalForm);
  out.u32(map);
  out.u32(classes);
  out.u32(compose);
}

/// Control characters go, white space becomes a space; Han gets spaces around; accents go; lower
/// case.
void Translator::bertNormalizer(const Json &component) {
  auto on = [&](const char *name, bool otherwise) {
    return component.contains(name) && component[name].is_boolean() ? component[name].get<bool>()
                                                                    : otherwise;
  };
  bool lowercase = on("lowercase", true);
  if (on("clean_text", true))
    for (auto [set, content] : {std::pair("BertRemoved", ""), std::pair("BertSpace", " ")}) {
      uint32_t index = blob.addPattern(compileSet(*namedCodeSet(set), blob.sets));
      ByteWriter &out = blob.normalizer.add(NormalizerStep::Replace);
      out.u32(index);
      out.string(content);
    }
  if (on("handle_chinese_chars", true)) {
    uint32_t set = blob.sets.indexOf(*namedCodeSet("BertChinese"));
    blob.normalizer.add(NormalizerStep::Pad).u32(set);
  }
  if (on("strip_accents", lowercase)) {
    normalForm("NFD");
    uint32_t map = blob.tableIndex("BertAccents");
    blob.normalizer.add(NormalizerStep::CharMap).u32(map);
  }
  if (lowercase) {
    uint32_t map = blob.tableIndex("Lowercase");
    blob.normalizer.add(NormalizerStep::CharMap).u32(map);
  }
}

Status Translator::charsmap(const Json &component) {
  const Json &map = component.at("precompiled_charsmap");
  if (map.is_null() || map.get_ref<const std::string &>().empty())
    return {};
  SMELT_ASSIGN(auto rows, readCharsmap(map.get_ref<const std::string &>()));
  uint32_t table = blob.tables.count;
  ByteWriter &out = blob.tables.add(TableKind::Charsmap);
  out.u32(uint32_t(rows.size()));
  for (const auto &[key, image] : rows) {
    if (image.size() > maxTokenBytes || !isValidUtf8(image))
      return corrupt("the precompiled character map of tokenizer.json maps to text that is not "
                     "UTF-8");
    out.string(key);
    out.string(image);
  }
  uint32_t sets[] = {blob.sets.indexOf(*namedCodeSet("GraphemeJoin")),
                     blob.sets.indexOf(*namedCodeSet("GraphemePrepend")),
                     blob.sets.indexOf(*namedCodeSet("GraphemeControl"))};
  ByteWriter &step = blob.normalizer.add(NormalizerStep::Charsmap);
  step.u32(table);
  for (uint32_t set : sets)
    step.u32(set);
  return {};
}

Status Translator::normalizer(const Json &component, unsigned depth) {
  std::string type = typeOf(component);
  StepWriter &steps = blob.normalizer;
  if (component.is_null())
    return {};
  if (type == "Sequence" && depth < maxNesting) {
    for (const Json &part : component.at("normalizers"))
      SMELT_TRY(normalizer(part, depth + 1));
    return {};
  }
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    normalForm(type);
    return {};
  }
  if (type == "BertNormalizer") {
    bertNormalizer(component);
    return {};
  }
  if (type == "Precompiled")
    return charsmap(component);
  if (type == "Lowercase" || type == "StripAccents" || type == "Nmt") {
    uint32_t map = blob.tableIndex(type);
    steps.add(NormalizerStep::CharMap).u32(map);
    return {};
  }
  if (type == "Replace") {
    SMELT_ASSIGN(uint32_t index, pattern(component.at("pattern")));
    SMELT_ASSIGN(std::string content, operand(component, "content"));
    ByteWriter &out = steps.add(NormalizerStep::Replace);
    out.u32(index);
    out.string(content);
    return {};
  }
  if (type == "Prepend") {
    SMELT_ASSIGN(std::string text, operand(component, "prepend"));
    steps.add(NormalizerStep::Prepend).string(text);
    return {};
  }
  if (type == "Strip") {
    uint32_t space = blob.sets.indexOf(*namedCodeSet("RustSpace"));
    ByteWriter &out = steps.add(NormalizerStep::Strip);
    out.u8(component.at("strip_left").get<bool>());
    out.u8(component.at("strip_right").get<bool>());
    out.u32(space);
    return {};
  }
  return unsupportedComponent("normalizer", type);
}

void Translator::split(uint32_t pattern, SplitBehavior behavior, bool invert) {
  ByteWriter &out = blob.preTokenizer.add(PreTokenizerStep::Split);
  out.u32(pattern);
  out.u8(uint8_t(behavior));
  out.u8(invert);
}

Result<SplitBehavior> Translator::behavior(const std::string &name) {
  static constexpr std::pair<const char *, SplitBehavior> names[] = {
      {"Isolated", SplitBehavior::Isolated},
      {"Removed", SplitBehavior::Removed},
      {"MergedWithPrevious", SplitBehavior::MergedWithPrevious},
      {"MergedWithNext", SplitBehavior::MergedWithNext},
      {"Contiguous", SplitBehavior::Contiguous}};
  for (const auto &[known, value] : names)
    if (name == known)
      return value;
  return unsupportedComponent("split behavior", name);
}

/// The replacement of a meta space component, by default U+2581.
Status Translator::metaspace(const Json &component) {
  std::string replacement = component.value("replacement", std::string("\u2581"));
  std::string scheme = component.value("prepend_scheme", std::string("always"));
  if (component.contains("add_prefix_space") && component["add_prefix_space"] == false)
    scheme = "never";
  if (scheme != "always" && scheme != "first" && scheme != "never")
    return unsupportedComponent("prepend scheme", scheme);
  ByteWriter &out = blob.preTokenizer.add(PreTokenizerStep::Metaspace);
  out.string(replacement);
  out.u8(uint8_t(scheme == "always"  ? PrependScheme::Always
                 : scheme == "first" ? PrependScheme::First
                                     : PrependScheme::Never));
  if (component.value("split", true)) {
    SMELT_ASSIGN(PatternProgram program, compileLiteral(replacement, blob.sets));
    split(blob.addPattern(std::move(program)), SplitBehavior::MergedWithNext);
  }
  return {};
}

Status Translator::preTokenizer(const Json &component, unsigned depth) {
  std::string type = typeOf(component);
  auto set = [&](const char *name) {
    return blob.addPattern(compileSet(*namedCodeSet(name), blob.sets));
  };
  if (component.is_null())
    return {};
  if (type == "Sequence" && depth < maxNesting) {
    for (const Json &part : component.at("pretokenizers"))
      SMELT_TRY(preTokenizer(part, depth + 1));
    return {};
  }
  if (type == "ByteLevel") {
    // The pattern of GPT-2 (github.com/openai/gpt-2, src/encoder.py), as tokenizers writes it.
    static constexpr const char *gpt2 =
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    if (component.value("add_prefix_space", true))
      blob.preTokenizer.add(PreTokenizerStep::PrefixSpace);
    if (component.value("use_regex", true)) {
      SMELT_ASSIGN(PatternProgram program, compilePattern(gpt2, blob.sets));
      split(blob.addPattern(std::move(program)), SplitBehavior::Isolated);
    }
    blob.preTokenizer.add(PreTokenizerStep::ByteMap);
    return {};
  }
  if (type == "Split") {
    SMELT_ASSIGN(SplitBehavior how, behavior(component.at("behavior").get<std::string>()));
    SMELT_ASSIGN(uint32_t index, pattern(component.at("pattern")));
    split(index, how, component.value("invert", false));
    return {};
  }
  if (type == "Digits") {
    split(set("RustNumeric"), component.value("individual_digits", false)
                                  ? SplitBehavior::Isolated
                                  : SplitBehavior::Contiguous);
    return {};
  }
  if (type == "Punctuation") {
    SMELT_ASSIGN(SplitBehavior how, behavior(component.value("behavior", std::string("Isolated"))));
    split(set("RustPunctuation"), how);
    return {};
  }
  if (type == "BertPreTokenizer") {
    split(set("RustSpace"), SplitBehavior::Removed);
    split(set("RustPunctuation"), SplitBehavior::Isolated);
    return {};
  }
  if (type == "WhitespaceSplit") {
    split(set("RustSpace"), SplitBehavior::Removed);
    return {};
  }
  if (type == "Whitespace") { // \w+|[^\w\s]+ of Rust's regex
    CodeSet word = *namedCodeSet("RustWord"), other = word;
    other.add(*namedCodeSet("RustSpace"));
    PatternProgram program = {
        {PatternOp::Fork, 0, 1, 3, 0},
        {PatternOp::Loop, loopGreedy, blob.sets.indexOf(word), 1, blobNone},
        {PatternOp::Jump, 0, 4, 0, 0},
        {PatternOp::Loop, loopGreedy, blob.sets.indexOf(other.complement()), 1, blobNone},
        {}};
    split(blob.addPattern(std::move(program)), SplitBehavior::Removed, /*invert=*/true);
    return {};
  }
  if (type == "CharDelimiterSplit") {
    SMELT_ASSIGN(PatternProgram program,
                 compileLiteral(component.at("delimiter").get<std::string>(), blob.sets));
    split(blob.addPattern(std::move(program)), SplitBehavior::Removed);
    return {};
  }
  if (type == "Metaspace")
    return metaspace(component);
  return unsupportedComponent("pre-tokenizer", type);
}

Status Translator::templatePiece(const Json &piece, const Json &specials, bool &afterText) {
  if (piece.contains("Sequence")) {
    if (piece["Sequence"].at("id") != "A" || afterText)
      return unsupported("the template for one text in tokenizer.json does not hold it once");
    afterText = true;
    return {};
  }
  std::string name = piece.at("SpecialToken").at("id").get<std::string>();
  for (const Json &id : specials.at(name).at("ids")) {
    SMELT_ASSIGN(uint32_t number, wholeNumber(id));
    (afterText ? blob.after : blob.before).push_back(number);
  }
  return {};
}

/// How two texts go together; nothing when the file does not say.
Status Translator::pairTemplate(const Json &component) {
  if (!component.contains("pair") || !component["pair"].is_array())
    return {};
  for (const Json &piece : component["pair"]) {
    bool isText = piece.contains("Sequence");
    const Json &content = piece.at(isText ? "Sequence" : "SpecialToken");
    SMELT_ASSIGN(uint32_t type, wholeNumber(content.value("type_id", Json(0u))));
    if (type > 255)
      return corrupt("the template for two texts in tokenizer.json has token type " +
                     std::to_string(type) + ", expected at most 255");
    std::string name = content.at("id").get<std::string>();
    if (isText) {
      blob.pair.push_back({name == "A" ? PairPart::First : PairPart::Second, uint8_t(type), 0});
      continue;
    }
    for (const Json &id : component.at("special_tokens").at(name).at("ids")) {
      SMELT_ASSIGN(uint32_t number, wholeNumber(id));
      blob.pair.push_back({PairPart::Special, uint8_t(type), number});
    }
  }
  return {};
}

Status Translator::postProcessor(const Json &component, unsigned depth) {
  std::string type = typeOf(component);
  if (component.is_null() || type == "ByteLevel") // ByteLevel only adjusts offsets
    return {};
  if (type == "Sequence" && depth < maxNesting) {
    for (const Json &part : component.at("processors"))
      SMELT_TRY(postProcessor(part, depth + 1));
    return {};
  }
  if (!blob.before.empty() || !blob.after.empty())
    return unsupported("tokenizer.json adds special tokens in two post-processors");
  if (type == "TemplateProcessing") {
    bool afterText = false;
    for (const Json &piece : component.at("single"))
      SMELT_TRY(templatePiece(piece, component.at("special_tokens"), afterText));
    if (!afterText)
      return unsupported("the template for one text in tokenizer.json does not hold it once");
    return pairTemplate(component);
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    SMELT_ASSIGN(uint32_t first, wholeNumber(component.at("cls").at(1)));
    SMELT_ASSIGN(uint32_t last, wholeNumber(component.at("sep").at(1)));
    blob.before.push_back(first);
    blob.after.push_back(last);
    bool bert = type == "BertProcessing"; // which has a type for each text, and one end between
    blob.pair = {
        {PairPart::Special, 0, first}, {PairPart::First, 0, 0}, {PairPart::Special, 0, last}};
    if (!bert)
      blob.pair.push_back({PairPart::Special, 0, last});
    blob.pair.push_back({PairPart::Second, bert, 0});
    blob.pair.push_back({PairPart::Special, bert, last});
    return {};
  }
  return unsupportedComponent("post-processor", type);
}

Status Translator::decoder(const Json &component, unsigned depth) {
  std::string type = typeOf(component);
  StepWriter &steps = blob.decoder;
  if (component.is_null()) {
    steps.add(DecoderStep::JoinSpaces);
    return {};
  }
  if (type == "Sequence" && depth < maxNesting) {
    for (const Json &part : component.at("decoders"))
      SMELT_TRY(decoder(part, depth + 1));
    return {};
  }
  if (type == "ByteLevel") {
    steps.add(DecoderStep::ByteLevel);
    return {};
  }
  if (type == "WordPiece") {
    SMELT_ASSIGN(std::string prefix, operand(component, "prefix"));
    ByteWriter &out = steps.add(DecoderStep::WordPiece);
    out.string(prefix);
    out.u8(component.value("cleanup", true));
    return {};
  }
  if (type == "ByteFallback") {
    steps.add(DecoderStep::ByteFallback);
    return {};
  }
  if (type == "Fuse") {
    steps.add(DecoderStep::Fuse);
    return {};
  }
  if (type == "Strip") {
    std::string content = component.at("content").get<std::string>();
    size_t at = 0;
    uint32_t character = content.empty() ? 0 : nextChar(content, at);
    if (content.empty() || at != content.size())
      return corrupt("the decoder 'Strip' of tokenizer.json strips '" + content +
                     "', expected one character");
    SMELT_ASSIGN(uint32_t start, wholeNumber(component.at("start")));
    SMELT_ASSIGN(uint32_t stop, wholeNumber(component.at("stop")));
    ByteWriter &out = steps.add(DecoderStep::Strip);
    out.u32(character);
    out.u32(start);
    out.u32(stop);
    return {};
  }
  if (type == "Replace") {
    SMELT_ASSIGN(uint32_t index, pattern(component.at("pattern")));
    SMELT_ASSIGN(std::string content, operand(component, "content"));
    ByteWriter &out = steps.add(DecoderStep::Replace);
    out.u32(index);
    out.string(content);
    return {};
  }
  if (type == "Metaspace") {
    bool never = component.value("prepend_scheme", std::string("always")) == "never" ||
                 (component.contains("add_prefix_space") && component["add_prefix_space"] == false);
    ByteWriter &out = steps.add(DecoderStep::Metaspace);
    out.string(component.value("replacement", std::string("\u2581")));
    out.u8(!never);
    return {};
  }
  return unsupportedComponent("decoder", type);
}

} // namespace

Result<BlobContents> translateTokenizer(const Json &tokenizer) {
  return Translator(tokenizer).translate();
}

} // namespace smelt
