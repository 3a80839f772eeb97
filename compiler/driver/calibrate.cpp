// Calibration text for a model, and `smelt calibrate`.
#include "compiler/driver/calibrate.h"

#include "compiler/driver/frontend.h"
#include "runtime/tokenizer/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <limits>

namespace fs = std::filesystem;

namespace smelt {

/// The folder of the model's tokenizer; exporters for the web put the graph into a folder "onnx"
/// below it.
static fs::path tokenizerFolder(const fs::path &model) {
  fs::path folder = fs::absolute(model).parent_path();
  std::error_code error;
  if (!fs::exists(folder / "tokenizer.json", error) && folder.filename() == "onnx")
    return folder.parent_path();
  return folder;
}

Result<std::optional<TokenizerImport>> findTokenizer(const std::string &model) {
  fs::path folder = tokenizerFolder(model);
  std::error_code error;
  if (!fs::exists(folder / "tokenizer.json", error))
    return std::optional<TokenizerImport>();
  SMELT_ASSIGN(TokenizerImport found, importTokenizer(folder));
  return std::optional(std::move(found));
}

int64_t positionLimit(const Graph &graph) {
  int64_t limit = std::numeric_limits<int64_t>::max();
  for (const Node &node : graph.nodes)
    if (node.kind == NodeKind::Rope)
      limit = std::min(limit, graph.weights[size_t(node.weights[0])].rows);
    else if (node.kind == NodeKind::Embedding && node.positionOffset >= 0)
      limit = std::min(limit, graph.weights[size_t(node.weights[0])].rows - node.positionOffset);
  return limit;
}

/// For a graph that reads in both directions: texts stay apart, each within the tokens that the
/// tokenizer puts around one.
static Status separateTexts(const Graph &graph, TextEncoder &encoder) {
  for (const Node &node : graph.nodes)
    encoder.separate |= node.bidirectional;
  if (!encoder.separate)
    return {};
  encoder.bosToken = -1;
  SMELT_ASSIGN(std::vector<int32_t> around, encoder.tokenizer->encode("a"));
  SMELT_ASSIGN(std::vector<int32_t> inner, encoder.tokenizer->encode("a", {.addSpecial = false}));
  auto found = std::search(around.begin(), around.end(), inner.begin(), inner.end());
  if (found == around.end())
    return {};
  encoder.before.assign(around.begin(), found);
  encoder.after.assign(found + ptrdiff_t(inner.size()), around.end());
  return {};
}

/// Some templates refuse roles, such as the system's.
static bool rendersAll(const Document &document, const TextEncoder &encoder) {
  return document.messages.empty() ||
         (encoder.chatTemplate &&
          encoder.chatTemplate->renderMessages(document.messages, false, encoder.chatContext).ok());
}

Result<SampleSet> readSamples(const Graph &graph, const std::vector<std::string> &data,
                              SampleOptions sampling,
                              const std::optional<TokenizerImport> &tokenizer) {
  if (!tokenizer)
    return unsupported("the model's folder has no tokenizer.json, which calibration text needs");
  SMELT_ASSIGN(Tokenizer words, Tokenizer::open(tokenizer->blob));
  std::optional<ChatTemplate> chat;
  if (!tokenizer->chatTemplate.empty()) {
    SMELT_ASSIGN(chat, ChatTemplate::parse(tokenizer->chatTemplate));
  }
  TextEncoder encoder;
  encoder.tokenizer = &words;
  encoder.chatTemplate = chat ? &*chat : nullptr;
  encoder.chatContext.bosToken = tokenizer->bosToken;
  encoder.chatContext.eosToken = tokenizer->eosToken;
  encoder.bosToken = tokenizer->addBos ? tokenizer->bosId : -1;
  SMELT_TRY(separateTexts(graph, encoder));
  if (encoder.separate && !sampling.chosen) {
    sampling.samples *= sampling.tokens / usualTextTokens;
    sampling.tokens = usualTextTokens;
  }
  sampling.tokens = std::min(sampling.tokens, positionLimit(graph));
  SMELT_ASSIGN(std::vector<Document> documents,
               data.empty() ? builtInDocuments() : readDocuments(data));
  // What a user gives must suit the model; the built-in samples suit themselves.
  for (Document &document : documents)
    if (encoder.separate || (data.empty() && !rendersAll(document, encoder)))
      flatten(document);
  SMELT_ASSIGN(SampleSet set, makeSamples(documents, encoder, sampling));
  for (const std::vector<int32_t> &sample : set.samples)
    for (int32_t id : sample)
      if (id >= tokenCount(graph))
        return invalidArgument("tokenizer.json has token " + std::to_string(id) +
                               ", but the model knows " + std::to_string(tokenCount(graph)) +
                               " tokens: they do not belong together");
  int64_t widest = 0;
  for (const Node &node : graph.nodes)
    if (node.kind == NodeKind::Linear)
      widest = std::max(widest, graph.nodes[size_t(node.inputs[0])].width);
  set.warnings = dataWarnings(documents, set, words, widest);
  return set;
}

Status calibrateModel(const CalibrateOptions &options) {
  PipelineOptions quiet;
  quiet.quiet = options.quiet;
  Pipeline pipeline(std::move(quiet));
  SMELT_ASSIGN(std::optional<TokenizerImport> tokenizer, findTokenizer(options.model));
  SourceModel source;
  SMELT_TRY(runFrontend(pipeline, options.model, options.samples.tokens, Fallback::None,
                        IntegerProducts::Float, source));
  return pipeline.run(Phase::Calibrated, [&](const Pipeline::Report &report) -> Status {
    CollectOptions collect;
    collect.threads = options.threads;
    collect.secondMoments = options.secondMoments;
    collect.release = [&](const WeightView &view) { releasePages(*source.weights, view); };
    collect.progress = [&](double share) {
      report(share);
      return true;
    };
    SMELT_ASSIGN(SampleSet set,
                 readSamples(source.graph, options.data, options.samples, tokenizer));
    for (const std::string &warning : set.warnings)
      pipeline.warn(warning);
    const std::string hash = hashSamples(set);
    const SampleOptions &part = options.samples;
    if (part.shards > 1)
      set.samples = shardSamples(set.samples, part.shard, part.shards);
    if (set.samples.empty())
      return invalidArgument("--shard " + std::to_string(part.shard + 1) + "/" +
                             std::to_string(part.shards) +
                             " is empty: the data have fewer batches than shards");
    SMELT_ASSIGN(Statistics found, collectStatistics(source.graph, set.samples, collect));
    found.modelHash = source.hash;
    found.data[hash] = {part.shards, {part.shard}};
    return writeStatistics(found, options.output);
  });
}

Status mergeStatisticsFiles(const MergeOptions &options) {
  Statistics sum;
  for (size_t i = 0; i < options.inputs.size(); ++i) {
    SMELT_ASSIGN(Statistics part, readStatistics(options.inputs[i]));
    if (i == 0)
      sum = std::move(part);
    else if (Status status = mergeStatistics(sum, part); !status.ok())
      return std::move(status).withContext("'" + options.inputs[i] + "' cannot be added");
  }
  return writeStatistics(sum, options.output);
}

} // namespace smelt
