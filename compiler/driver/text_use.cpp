// Reads what sentence-transformers and transformers write beside an encoder.
#include "compiler/driver/text_use.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>

namespace smelt {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

/// The content of a file; null where it does not exist.
Result<Json> readJson(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return Json();
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded())
    return corrupt(path.string() + " is not valid JSON");
  return json;
}

const Json &field(const Json &object, const char *name) {
  static const Json none;
  return object.is_object() && object.contains(name) ? object[name] : none;
}

bool isOn(const Json &object, const char *name) {
  const Json &value = field(object, name);
  return value.is_boolean() && value.get<bool>();
}

/// {"0": "NEGATIVE", ...} as a list; empty if the numbers have gaps.
std::vector<std::string> labelsOf(const Json &config) {
  const Json &names = field(config, "id2label");
  std::vector<std::string> labels;
  if (!names.is_object())
    return labels;
  for (size_t i = 0; i < names.size(); ++i) {
    const Json &name = field(names, std::to_string(i).c_str());
    if (!name.is_string())
      return {};
    labels.push_back(name.get<std::string>());
  }
  return labels;
}

/// As transformers' pipeline chooses it.
std::string activationOf(const Json &config, size_t labels) {
  const Json &problem = field(config, "problem_type");
  if (problem == "regression")
    return "none";
  return problem == "multi_label_classification" || labels == 1 ? "sigmoid" : "softmax";
}

/// The folder of 1_Pooling and modules.json: beside the graph, or above a folder "onnx".
fs::path moduleFolder(const fs::path &folder) {
  std::error_code error;
  if (!fs::exists(folder / "modules.json", error) &&
      !fs::exists(folder / "1_Pooling" / "config.json", error) && folder.filename() == "onnx")
    return folder.parent_path();
  return folder;
}

} // namespace

Result<TextUse> readTextUse(const fs::path &modelFolder) {
  // A file named without a folder lies in the current one.
  fs::path folder = modelFolder.empty() ? fs::path(".") : modelFolder;
  std::error_code error;
  TextUse use;
  fs::path configFolder = !fs::exists(folder / "config.json", error) && folder.filename() == "onnx"
                              ? folder.parent_path()
                              : folder;
  SMELT_ASSIGN(Json config, readJson(configFolder / "config.json"));
  use.labels = labelsOf(config);
  use.activation = activationOf(config, use.labels.size());

  fs::path modules = moduleFolder(folder);
  SMELT_ASSIGN(Json pooling, readJson(modules / "1_Pooling" / "config.json"));
  if (isOn(pooling, "pooling_mode_cls_token"))
    use.pooling = format::Pooling::First;
  else if (isOn(pooling, "pooling_mode_mean_tokens"))
    use.pooling = format::Pooling::Mean;
  else if (isOn(pooling, "pooling_mode_lasttoken"))
    use.pooling = format::Pooling::Last;
  else if (!pooling.is_null())
    return unsupported((modules / "1_Pooling" / "config.json").string() +
                       " asks for another pooling than the mean, first or last token");
  SMELT_ASSIGN(Json chain, readJson(modules / "modules.json"));
  if (chain.is_array())
    use.normalize = std::any_of(chain.begin(), chain.end(), [](const Json &module) {
      const Json &type = field(module, "type");
      return type.is_string() && type.get<std::string>().ends_with("Normalize");
    });
  SMELT_ASSIGN(Json sentences, readJson(modules / "sentence_bert_config.json"));
  const Json &most = field(sentences, "max_seq_length");
  if (most.is_number_unsigned() && most.get<uint64_t>() <= 1 << 20)
    use.maxTokens = most.get<int64_t>();
  return use;
}

void completeConfig(format::ModelConfig &config, const TextUse &use) {
  using format::Pooling;
  if (config.output != format::PortRole::HiddenState || config.pooling != Pooling::None)
    return;
  config.pooling = use.pooling.value_or(Pooling::Mean);
  config.normalize = use.normalize.value_or(!use.pooling);
}

int64_t describeOutputs(format::ModelConfig &config, const TensorProgramImage &image) {
  using format::PortRole;
  for (PortRole wanted : {PortRole::Logits, PortRole::Classes, PortRole::TokenClasses,
                          PortRole::Embedding, PortRole::HiddenState})
    for (const auto &output : image.outputs)
      if (output.port.role == wanted) {
        config.output = wanted;
        const format::TensorEntry &tensor = image.tensors[output.port.tensor];
        return tensor.rank == 0 ? -1 : tensor.dims[tensor.rank - 1];
      }
  return -1;
}

bool isEncoder(const Graph &graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const Node &node) { return node.bidirectional; });
}

LowerOptions encoderSizes(LowerOptions options, const Graph &graph, int64_t positionLimit) {
  if (!isEncoder(graph))
    return options;
  options.maxContext = std::min(options.maxContext, positionLimit);
  options.maxTokens = std::max<int64_t>(options.maxContext, 64);
  constexpr int64_t mostBytes = 64 << 20; // of rows of one step
  options.maxLogitRows =
      std::clamp<int64_t>(mostBytes / (graph.vocabSize * 4),
                          std::min<int64_t>(16, options.maxTokens), options.maxTokens);
  // The kernels count positions in whole blocks.
  options.maxContext = std::max<int64_t>(options.maxContext, 64);
  return options;
}

} // namespace smelt
