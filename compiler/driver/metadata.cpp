// The metadata section as JSON.
#include "compiler/driver/metadata.h"
#include "runtime/formats/caches.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <filesystem>

namespace smelt {

double bitsPerWeight(const std::vector<PackedMatrix> &matrices, std::string_view role) {
  double bits = 0, weights = 0;
  for (const PackedMatrix &matrix : matrices)
    if (matrix.role == role) {
      bits += 8 * double(matrix.bytes);
      weights += double(matrix.rows) * double(matrix.cols);
    }
  return weights == 0 ? 0 : bits / weights;
}

/// What outputs mean for users of text; empty where they are logits.
static llvm::json::Object describeText(const Provenance &provenance) {
  using format::PortRole;
  const PortRole role = provenance.config.output;
  const TextUse &use = provenance.use;
  llvm::json::Object text;
  if (role == PortRole::Classes || role == PortRole::TokenClasses) {
    // Labels that do not fit the classes belong to another model.
    if (provenance.classes < 0 || int64_t(use.labels.size()) == provenance.classes)
      text["labels"] = llvm::json::Array(use.labels);
    if (!use.activation.empty())
      text["activation"] = role == PortRole::Classes ? use.activation : "softmax";
  }
  if (use.maxTokens > 0 && role != PortRole::Logits && role != PortRole::Other)
    text["max_tokens"] = use.maxTokens;
  return text;
}

/// How many linears read folded channels, by algorithm.
static llvm::json::Object describeFolds(const Provenance &provenance) {
  std::map<std::string_view, int64_t> counts;
  for (const auto &[linear, fold] : provenance.folds)
    ++counts[fold.algorithm];
  llvm::json::Object folds;
  for (const auto &[algorithm, count] : counts)
    folds[llvm::StringRef(algorithm)] = count;
  return folds;
}

/// How cosines and sines of positions are stored.
static std::string describeRotary(const Provenance &provenance) {
  const char *combined = "positions 64 a + b combined from two tables";
  if (provenance.wholeTables == 0)
    return combined;
  if (provenance.compactTables == 0)
    return "the model's table";
  return "the model's table in " + std::to_string(provenance.wholeTables) + " of " +
         std::to_string(provenance.wholeTables + provenance.compactTables) + ", else " + combined;
}

std::string metadataJson(const CompileOptions &options, const Provenance &provenance) {
  using llvm::json::Array;
  using llvm::json::Object;
  Object given;
  for (const auto &[name, value] : options.given)
    given[name] = value;
  given["algorithm"] = provenance.algorithm;

  Array linears;
  for (const PackedMatrix &matrix : provenance.matrices) {
    Object linear{{"name", matrix.name},
                  {"rows", matrix.rows},
                  {"cols", matrix.cols},
                  {"weights", llvm::StringRef(formatInfo(matrix.format).name)},
                  {"activations", llvm::StringRef(activationName(matrix.activation))},
                  {"bytes", matrix.bytes},
                  {"offset", matrix.offset},
                  {"role", matrix.role},
                  {"shared", matrix.shared},
                  {"weight_error", matrix.error.weightError},
                  {"output_error", matrix.error.weightedError}};
    if (const QuantizationReport &error = matrix.error; error.searchLoss > 0)
      linear["error_feedback"] = Object{{"search_loss", error.searchLoss},
                                        {"feedback_loss", error.feedbackLoss},
                                        {"loss", error.loss},
                                        {"rows", error.rows},
                                        {"rows_kept", error.rowsKept},
                                        {"rows_polished", error.rowsPolished},
                                        {"damping", error.damping},
                                        {"dead_columns", error.deadColumns}};
    if (const QuantizationReport &error = matrix.error; error.polishedCoupledLoss > 0)
      linear["coupled"] =
          Object{{"polished_loss", error.polishedCoupledLoss}, {"loss", error.coupledLoss}};
    if (!matrix.error.fallback.empty())
      linear["fallback"] = matrix.error.fallback;
    if (auto found = provenance.predicted.find(matrix.name); found != provenance.predicted.end())
      linear["kl"] = found->second;
    if (auto found = provenance.folds.find(matrix.name); found != provenance.folds.end())
      linear["fold"] = Object{{"algorithm", llvm::StringRef(found->second.algorithm)},
                              {"exponent", found->second.exponent},
                              {"error_left", found->second.errorLeft}};
    linears.push_back(std::move(linear));
  }

  const format::ModelConfig &config = provenance.config;
  const CacheInfo &cache = cacheInfo(CacheFormat(config.cacheFormat));
  Object numerics{{"cache", llvm::StringRef(cache.help)},
                  {"accumulation", "float32 over groups, in one order"},
                  {"integer_dot", "exact within a group"}};
  if (cache.keyBits == 8)
    numerics["queries"] = "symmetric int8, a scale per 32 dimensions";
  if (cache.valueBits == 8)
    numerics["softmax_weights"] = "8 bits of the largest of 64 positions, times the values' scales";
  if (provenance.wholeTables + provenance.compactTables > 0)
    numerics["rotary"] = describeRotary(provenance);
  Object root{
      {"producer", "smelt " SMELT_VERSION},
      {"source", Object{{"file", std::filesystem::path(provenance.sourceFile).filename().string()},
                        {"bytes", int64_t(provenance.sourceBytes)},
                        {"hash", provenance.sourceHash}}},
      {"options", std::move(given)},
      {"numerics", std::move(numerics)},
      {"memory",
       Object{{"formula", "scratch + slots * roundUp(context, block) * per_position + logits"},
              {"scratch", int64_t(config.scratchBytes)},
              {"block", int64_t(config.positionBlock)},
              {"per_position", int64_t(config.keyBytesPerPosition + config.valueBytesPerPosition)},
              {"logits", int64_t(config.maxLogitRows) * config.vocabSize * 4}}},
      {"decoder_bits_per_weight", bitsPerWeight(provenance.matrices, "decoder")},
      {"linears", std::move(linears)}};
  if (!provenance.calibration.hash.empty())
    root["statistics"] = Object{{"hash", provenance.calibration.hash},
                                {"samples", provenance.calibration.samples},
                                {"tokens", provenance.calibration.tokens}};
  if (Object folds = describeFolds(provenance); !folds.empty())
    root["folds"] = std::move(folds);
  Array tried;
  for (const TriedPlan &plan : provenance.tried)
    tried.push_back(Object{{"name", plan.name}, {"bytes", plan.bytes}, {"kl", plan.kl}});
  if (!tried.empty())
    root["tried"] = std::move(tried);
  if (Object text = describeText(provenance); !text.empty())
    root["text"] = std::move(text);
  if (!options.licence.empty())
    root["licence"] = options.licence;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(root));
  return text;
}

} // namespace smelt
