// Reads tokenizer files of a model folder.
#include "compiler/tokenizer/import.h"

#include "compiler/tokenizer/tokenizer_json.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

namespace smelt {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr uintmax_t maxFileBytes = 256u << 20;

/// The content of a file, or nothing when it does not exist.
Result<std::optional<std::string>> readIfThere(const fs::path &path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    return std::optional<std::string>();
  uintmax_t size = fs::file_size(path, error);
  if (error || size > maxFileBytes)
    return unsupported(path.string() + " has " + std::to_string(size) +
                       " bytes, at most 256 MiB are expected of a tokenizer file");
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file && !file.eof())
    return notFound("cannot read " + path.string() + ": " + std::strerror(errno));
  return std::optional<std::string>(std::move(text));
}

/// The parsed content of a file; null when it does not exist.
Result<Json> readJsonIfThere(const fs::path &path) {
  SMELT_ASSIGN(std::optional<std::string> text, readIfThere(path));
  if (!text)
    return Json();
  try {
    return Json::parse(*text);
  } catch (const Json::exception &e) {
    return corrupt(path.string() + " is not valid JSON: " + e.what());
  }
}

/// A field of an object, or null.
const Json &field(const Json &object, const char *name) {
  static const Json none;
  return object.is_object() && object.contains(name) ? object[name] : none;
}

/// The text of a token that is written as a string or as {"content": ...}.
std::string tokenText(const Json &token) {
  if (token.is_string())
    return token.get<std::string>();
  const Json &content = field(token, "content");
  return content.is_string() ? content.get<std::string>() : std::string();
}

/// Takes a setting that is not yet known, when it has the type it must have.
template <typename T> void take(std::optional<T> &into, const Json &value) {
  bool fits = std::is_same_v<T, bool>     ? value.is_boolean()
              : std::is_same_v<T, double> ? value.is_number()
                                          : value.is_number_integer();
  if (!into && fits)
    into = value.get<T>();
}

/// The files of a model folder that say something about its tokenizer.
struct Files {
  Json tokenizer, tokenizerConfig, specialTokens, generation, config, genai;
  std::optional<std::string> templateText;
};

Result<Files> readFiles(const fs::path &folder) {
  Files files;
  std::pair<const char *, Json *> all[] = {{"tokenizer.json", &files.tokenizer},
                                           {"tokenizer_config.json", &files.tokenizerConfig},
                                           {"special_tokens_map.json", &files.specialTokens},
                                           {"generation_config.json", &files.generation},
                                           {"config.json", &files.config},
                                           {"genai_config.json", &files.genai}};
  for (auto &[name, json] : all) {
    SMELT_ASSIGN(*json, readJsonIfThere(folder / name));
  }
  if (files.tokenizer.is_null())
    return notFound("found no tokenizer.json in " + folder.string() +
                    ", expected the tokenizer beside the model: save it there with "
                    "AutoTokenizer.from_pretrained(...).save_pretrained(...)");
  SMELT_ASSIGN(files.templateText, readIfThere(folder / "chat_template.jinja"));
  if (!files.templateText) {
    SMELT_ASSIGN(Json json, readJsonIfThere(folder / "chat_template.json"));
    const Json &text = field(json, "chat_template");
    if (text.is_string())
      files.templateText = text.get<std::string>();
  }
  return files;
}

/// The chat template: a file of its own, or a string or a list of named ones in
/// tokenizer_config.json.
std::string chatTemplate(const Files &files) {
  if (files.templateText)
    return *files.templateText;
  const Json &inside = field(files.tokenizerConfig, "chat_template");
  if (inside.is_string())
    return inside.get<std::string>();
  std::string chosen;
  if (inside.is_array())
    for (const Json &entry : inside) {
      const Json &text = field(entry, "template");
      if (text.is_string() && (chosen.empty() || field(entry, "name") == "default"))
        chosen = text.get<std::string>();
    }
  return chosen;
}

void takeIds(const Json &value, std::vector<int32_t> &ids) {
  auto takeOne = [&](const Json &id) {
    if (!id.is_number_integer())
      return;
    // What does not fit is kept as -1, which the check against the vocabulary refuses.
    int64_t wide =
        id.is_number_unsigned() && id.get<uint64_t>() > INT32_MAX ? -1 : id.get<int64_t>();
    int32_t value = wide < 0 ? -1 : int32_t(wide);
    if (std::find(ids.begin(), ids.end(), value) == ids.end())
      ids.push_back(value);
  };
  if (value.is_array())
    for (const Json &id : value)
      takeOne(id);
  else
    takeOne(value);
}

/// The text of bos, eos or pad as the tokenizer's own files say it.
std::string namedToken(const Files &files, const char *name) {
  std::string text = tokenText(field(files.tokenizerConfig, name));
  return text.empty() ? tokenText(field(files.specialTokens, name)) : text;
}

/// The id of bos or pad: by its text, else by number from the configurations.
int32_t namedId(const Files &files, const Tokenizer &tokenizer, const std::string &text,
                const char *idName) {
  if (int32_t id = tokenizer.findToken(text); id >= 0)
    return id;
  const Json &genai = field(files.genai, "model");
  for (const Json *source : {&files.generation, &files.config, &genai}) {
    std::vector<int32_t> ids;
    takeIds(field(*source, idName), ids);
    if (!ids.empty())
      return ids[0];
  }
  return -1;
}

GenerationDefaults generationDefaults(const Files &files) {
  GenerationDefaults defaults;
  for (const Json *source : {&files.generation, &field(files.genai, "search")}) {
    take(defaults.doSample, field(*source, "do_sample"));
    take(defaults.temperature, field(*source, "temperature"));
    take(defaults.topP, field(*source, "top_p"));
    take(defaults.minP, field(*source, "min_p"));
    take(defaults.topK, field(*source, "top_k"));
    take(defaults.repetitionPenalty, field(*source, "repetition_penalty"));
  }
  return defaults;
}

/// What no sampler can do would be refused of the finished artifact.
Status checkDefaults(const GenerationDefaults &defaults) {
  auto check = [](const char *name, const std::optional<double> &value, double least,
                  double most) -> Status {
    if (!value || (*value >= least && *value <= most))
      return {};
    return invalidArgument("the generation defaults beside the model have " + std::string(name) +
                           " " + Json(*value).dump() + ", expected " + Json(least).dump() + " to " +
                           Json(most).dump() + "; mend generation_config.json");
  };
  constexpr double largest = std::numeric_limits<float>::max();
  SMELT_TRY(check("temperature", defaults.temperature, 0, largest));
  SMELT_TRY(check("top_p", defaults.topP, 0, 1));
  return check("repetition_penalty", defaults.repetitionPenalty, 0, largest);
}

/// Classes of transformers whose add_bos_token overrides the post-processor of tokenizer.json.
bool configRulesBos(const Json &tokenizerConfig) {
  const Json &name = field(tokenizerConfig, "tokenizer_class");
  static constexpr const char *families[] = {"Llama", "CodeLlama", "Gemma", "Cohere"};
  return name.is_string() &&
         std::any_of(std::begin(families), std::end(families), [&](const char *family) {
           return name.get_ref<const std::string &>().starts_with(family);
         });
}

Result<TokenizerImport> import(const fs::path &folder) {
  SMELT_ASSIGN(Files files, readFiles(folder));
  auto translated = translateTokenizer(files.tokenizer);
  if (!translated.ok())
    return std::move(translated).status().withContext(folder.string());
  BlobContents &blob = *translated;

  TokenizerImport result;
  result.blob = blob.serialize();
  SMELT_ASSIGN(Tokenizer tokenizer, Tokenizer::open(result.blob));
  result.chatTemplate = chatTemplate(files);
  result.bosToken = namedToken(files, "bos_token");
  result.eosToken = namedToken(files, "eos_token");
  result.bosId = namedId(files, tokenizer, result.bosToken, "bos_token_id");
  result.padId = namedId(files, tokenizer, namedToken(files, "pad_token"), "pad_token_id");
  // Every file that names an end counts: chat models often stop at another token than their
  // tokenizer's.
  // The tokenizer's own comes first: it is what a chat template writes.
  if (int32_t id = tokenizer.findToken(result.eosToken); id >= 0)
    takeIds(Json(id), result.eosIds);
  takeIds(field(files.generation, "eos_token_id"), result.eosIds);
  takeIds(field(field(files.genai, "model"), "eos_token_id"), result.eosIds);
  if (result.eosIds.empty())
    takeIds(field(files.config, "eos_token_id"), result.eosIds);
  for (int32_t id : result.eosIds)
    if (id < 0 || uint32_t(id) >= tokenizer.vocabSize())
      return corrupt(folder.string() + " names end token " + std::to_string(id) +
                     ", the vocabulary has " + std::to_string(tokenizer.vocabSize()) + " tokens");

  result.addBos =
      result.bosId >= 0 && !blob.before.empty() && blob.before.front() == uint32_t(result.bosId);
  const Json &addBos = field(files.tokenizerConfig, "add_bos_token");
  if (addBos.is_boolean() && addBos.get<bool>() != result.addBos && result.bosId >= 0 &&
      configRulesBos(files.tokenizerConfig)) {
    result.addBos = addBos.get<bool>();
    if (result.addBos)
      blob.before.insert(blob.before.begin(), uint32_t(result.bosId));
    else
      blob.before.erase(blob.before.begin());
    result.blob = blob.serialize();
  }
  result.generation = generationDefaults(files);
  SMELT_TRY(checkDefaults(result.generation));
  return result;
}

/// Messages quote what the files hold; a file that is not UTF-8 must not make the message so.
Status legible(const Status &status) { return {status.code(), toValidUtf8(status.message())}; }

} // namespace

Result<TokenizerImport> importTokenizer(const fs::path &modelFolder) {
  try {
    auto result = import(modelFolder);
    if (!result.ok())
      return legible(result.status());
    return result;
  } catch (const Json::exception &e) { // a field of another type than the format says
    return legible(corrupt("a tokenizer file in " + modelFolder.string() +
                           " does not have the expected form: " + e.what()));
  } catch (const std::exception &e) {
    return legible(
        corrupt("cannot read the tokenizer in " + modelFolder.string() + ": " + e.what()));
  }
}

} // namespace smelt
