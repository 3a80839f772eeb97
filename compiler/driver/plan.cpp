// Survey: sensitivity of a matrix times the loss of a format relative to that of the reference
// format. Plan: a knapsack over formats, then a greedy choice of precise inputs.
#include "compiler/driver/plan.h"

#include "calibration/sensitivity.h"

#include "llvm/ADT/STLExtras.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

using namespace mlir;
using Json = nlohmann::json;

namespace smelt {

namespace {

/// The format whose error the sensitivity is measured with.
constexpr WeightFormat reference = WeightFormat::A4G32;

/// Tiles that are quantized for the losses: enough for a mean, far from all.
constexpr int64_t fewestTiles = 12, mostTiles = 16, usualStride = 4;

int64_t strideOf(int64_t rows) {
  const int64_t tiles = (rows + tileRows - 1) / tileRows;
  if (tiles <= fewestTiles)
    return 1;
  return std::max(std::min(usualStride, tiles / fewestTiles), tiles / mostTiles);
}

/// Statistics that weigh every column alike: for tables whose inputs are token ids.
InputStatistics evenStatistics(int64_t cols) {
  InputStatistics even;
  even.tokens = 1;
  even.sumSquares.assign(size_t(cols), 1.0);
  even.sumAbsolute.assign(size_t(cols), 1.0);
  even.maxAbsolute.assign(size_t(cols), 1.0f);
  auto moments = std::make_shared<std::vector<double>>(size_t(triangleSize(cols)), 0.0);
  for (int64_t k = 0; k < cols; ++k)
    (*moments)[size_t(triangleRow(k, cols))] = 1.0;
  even.secondMoments = std::move(moments);
  return even;
}

/// One matrix of the module with all that is needed to quantize it.
struct Source {
  MatrixOutlook outlook;
  LinearWeights weights;
  std::shared_ptr<const InputStatistics> statistics;
  std::vector<int32_t> nodes; ///< of the graph: the linear, and the embedding that shares its table
  double referenceLoss = 0;
};

/// Rows [first, first + count) of a linear's parts, counted through.
LinearWeights rowsOf(const LinearWeights &linear, int64_t first, int64_t count) {
  LinearWeights rows{linear.name, {}, false};
  for (const WeightView &part : linear.parts) {
    const int64_t begin = std::clamp<int64_t>(first, 0, part.rows),
                  end = std::clamp<int64_t>(first + count, 0, part.rows);
    if (begin < end)
      rows.parts.push_back(viewOfRows(part, begin, end - begin));
    first -= part.rows;
  }
  return rows;
}

class Survey {
public:
  Survey(ModuleOp module, const Graph &graph, const StatisticsLookup &statistics,
         const WeightResolver &resolve, const OutlookOptions &options)
      : module(module), graph(graph), lookup(statistics), resolve(resolve), options(options) {}

  Result<std::vector<MatrixOutlook>> run(const std::vector<std::vector<int32_t>> &samples) {
    SMELT_TRY(findMatrices());
    SMELT_TRY(measureLosses());
    SMELT_TRY(weigh(samples));
    std::vector<MatrixOutlook> outlooks;
    for (Source &source : sources)
      outlooks.push_back(std::move(source.outlook));
    return outlooks;
  }

private:
  Status findMatrices();
  Status addLinear(slm::LinearOp linear);
  Status measureLosses();
  Status weigh(const std::vector<std::vector<int32_t>> &samples);
  Status storedRows(int32_t node, int64_t first, int64_t count, float *out);
  bool report(double share) { return !options.progress || options.progress(share); }

  ModuleOp module;
  const Graph &graph;
  const StatisticsLookup &lookup;
  const WeightResolver &resolve;
  const OutlookOptions &options;
  std::vector<Source> sources;
  std::map<int32_t, size_t> sourceOf; ///< graph node -> source
  FeedbackCache cache;
  std::mutex mutex;
  int32_t loadedNode = -1;
  std::vector<float> loaded; ///< dequantized rows of `loadedNode`
};

Status Survey::addLinear(slm::LinearOp linear) {
  Source source;
  MatrixOutlook &outlook = source.outlook;
  outlook.name = linear.getName().str();
  outlook.isHead = isHead(linear);
  SMELT_ASSIGN(source.weights, linearWeights(linear, resolve));
  for (const WeightView &part : source.weights.parts)
    outlook.rows += part.rows;
  outlook.cols = source.weights.parts.front().cols;
  sources.push_back(std::move(source));
  return {};
}

Status Survey::findMatrices() {
  SmallVector<slm::LinearOp> linears;
  SmallVector<slm::EmbeddingOp> embeddings;
  module.walk([&](slm::LinearOp op) { linears.push_back(op); });
  module.walk([&](slm::EmbeddingOp op) { embeddings.push_back(op); });
  for (slm::LinearOp linear : linears)
    SMELT_TRY(addLinear(linear));
  std::map<std::string, size_t> byName;
  for (size_t i = 0; i < sources.size(); ++i)
    byName[sources[i].outlook.name] = i;
  for (slm::EmbeddingOp embedding : embeddings) {
    if (embedding.getPositionOffset())
      continue; // stays in float
    auto tied = llvm::find_if(linears, [&](slm::LinearOp op) { return isTied(embedding, op); });
    if (tied != linears.end()) {
      byName[embedding.getName().str()] = size_t(tied - linears.begin());
      continue;
    }
    Source source;
    source.outlook.name = embedding.getName().str();
    SMELT_ASSIGN(WeightView view, resolve(embedding.getTable()));
    source.outlook.rows = view.rows;
    source.outlook.cols = view.cols;
    source.weights = {source.outlook.name, {std::move(view)}, false};
    source.statistics = std::make_shared<InputStatistics>(evenStatistics(source.outlook.cols));
    byName[source.outlook.name] = sources.size();
    sources.push_back(std::move(source));
  }
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node &node = graph.nodes[i];
    if (node.kind != NodeKind::Linear && node.kind != NodeKind::Embedding)
      continue;
    auto found = byName.find(node.name);
    if (found == byName.end())
      continue;
    Source &source = sources[found->second];
    source.nodes.push_back(int32_t(i));
    sourceOf[int32_t(i)] = found->second;
    if (node.kind == NodeKind::Linear)
      source.outlook.input =
          graph.nodes[size_t(node.inputs[0])].name + "#" + std::to_string(node.inputs[0]);
  }
  return {};
}

/// Bytes and losses of every candidate; loss * sensitivity / loss of the reference is its kl.
Status Survey::measureLosses() {
  double total = 0, done = 0;
  for (const Source &source : sources)
    total += double(source.outlook.rows) * double(source.outlook.cols);
  std::vector<WeightFormat> formats = {reference};
  formats.insert(formats.end(), options.formats.begin(), options.formats.end());
  for (Source &source : sources) {
    MatrixOutlook &outlook = source.outlook;
    std::shared_ptr<const InputStatistics> statistics = source.statistics;
    if (!statistics) {
      SMELT_ASSIGN(statistics, lookup(outlook.name));
      if (!statistics || statistics->cols() != outlook.cols)
        return invalidArgument("the statistics do not fit linear '" + outlook.name +
                               "'; collect them again");
    }
    SMELT_ASSIGN(std::vector<double> losses,
                 measureLinear(source.weights, formats, options.algorithm, *statistics,
                               strideOf(outlook.rows), options.threads, &cache));
    source.referenceLoss = losses[0];
    for (size_t i = 1; i < formats.size(); ++i) {
      outlook.formats.push_back(formats[i]);
      outlook.bytes.push_back(packedBytes(formats[i], packedRows(source.weights), outlook.cols));
      outlook.kl.push_back(losses[i]);
    }
    done += double(outlook.rows) * double(outlook.cols);
    if (options.release)
      for (const WeightView &part : source.weights.parts)
        options.release(part);
    if (!report(0.6 * done / total))
      return cancelled("stopped while formats were compared");
  }
  return {};
}

/// The reference format's rows of a node. A linear is dequantized as a whole when its first rows
/// are asked for; of an embedding, few rows are ever needed.
Status Survey::storedRows(int32_t node, int64_t first, int64_t count, float *out) {
  auto found = sourceOf.find(node);
  if (found == sourceOf.end())
    return internalError("no matrix for node '" + graph.nodes[size_t(node)].name + "'");
  Source &source = sources[found->second];
  const int64_t cols = source.outlook.cols;
  std::lock_guard lock(mutex);
  auto dequantize = [&](const LinearWeights &weights) -> Result<std::vector<float>> {
    std::shared_ptr<const InputStatistics> statistics = source.statistics;
    if (!statistics) {
      SMELT_ASSIGN(statistics, lookup(source.outlook.name));
    }
    // A row or two are not worth other threads.
    return dequantizeLinear(weights, reference, options.algorithm, statistics.get(),
                            weights.parts.front().rows <= tileRows ? 1 : options.threads, &cache);
  };
  if (graph.nodes[size_t(node)].kind == NodeKind::Embedding) {
    SMELT_ASSIGN(std::vector<float> rows, dequantize(rowsOf(source.weights, first, count)));
    std::copy(rows.begin(), rows.end(), out);
    return {};
  }
  if (loadedNode != node) {
    loadedNode = -1;
    SMELT_ASSIGN(loaded, dequantize(source.weights));
    loadedNode = node;
  }
  std::copy_n(loaded.begin() + first * cols, count * cols, out);
  return {};
}

Status Survey::weigh(const std::vector<std::vector<int32_t>> &samples) {
  SensitivityOptions how;
  how.threads = options.threads;
  how.release = options.release;
  how.progress = [&](double share) { return report(0.6 + 0.4 * share); };
  SMELT_ASSIGN(Sensitivity sensitivity,
               measureSensitivity(
                   graph, samples,
                   [&](int32_t node, int64_t first, int64_t count, float *out) {
                     return storedRows(node, first, count, out);
                   },
                   how));
  std::vector<double> kl(sources.size(), 0.0);
  for (const NodeSensitivity &node : sensitivity.nodes) {
    auto found = sourceOf.find(node.node);
    if (found == sourceOf.end())
      continue;
    kl[found->second] += node.kl;
    sources[found->second].outlook.a8g32 += node.a8g32;
    sources[found->second].outlook.a8g64 += node.a8g64;
    sources[found->second].outlook.a16g32 += node.a16g32;
  }
  for (size_t i = 0; i < sources.size(); ++i)
    for (double &loss : sources[i].outlook.kl)
      loss = sources[i].referenceLoss > 0 ? loss / sources[i].referenceLoss * kl[i] : 0.0;
  loaded = {};
  return {};
}

/// Inputs that linears share are rounded once, so they are chosen together.
struct SharedInput {
  std::vector<const MatrixOutlook *> linears;
  double weights = 0;
  double precise = 0; ///< what INT16 gains
  double coarse = 0;  ///< what a scale for 64 inputs gains: a loss, below 0
  bool isHead = false;
};

/// INT16 inputs cost twice the products in prefill: this share of the decoder's weights may have
/// them. The first few hundredths gain most (SmolLM2: a 32nd spares a sixth of what inputs lose, an
/// eighth over a third). More may while inputs lose more than weights do, since finer
/// weights would be wasted on them. The head's run for few rows only.
double shareOfPreciseInputs(const PreciseInputs &precise, bool losesMoreThanWeights) {
  if (precise.onlyPrefill)
    return precise.favored ? 1.0 / 4 : 1.0 / 8;
  if (precise.favored)
    return losesMoreThanWeights ? 1.0 : 1.0 / 4;
  return losesMoreThanWeights ? 1.0 / 8 : 1.0 / 32;
}

/// A gain below this share of the whole divergence is not worth any speed.
constexpr double leastGain = 0.01;
/// A scale for 64 inputs spares a 20th of the time of products: where weights lose less than
/// inputs, as many inputs have it as cost together this share of the whole divergence. INT4 gets
/// none: 18 % of SmolLM2's inputs, by this reckoning for 0.2 %, cost 5 %.
constexpr double mostCoarseLoss = 0.03;
/// A scale per channel spares INT8 weights a tenth of the time of products and a 33rd of the bytes:
/// as many have it as cost together this share of the whole divergence. On SmolLM2 a twentieth, a
/// tenth and a fifth cost 5, 13 and 27 % and speed prefill up by 2, 5 and 6 %.
constexpr double mostRowScaleLoss = 0.1;

/// All inputs, those first that `value` ranks highest for the weights that read them.
std::vector<const SharedInput *> ranked(const std::map<std::string, SharedInput> &inputs,
                                        double SharedInput::*value) {
  std::vector<const SharedInput *> order;
  for (const auto &[name, input] : inputs)
    order.push_back(&input);
  std::stable_sort(order.begin(), order.end(), [&](const SharedInput *a, const SharedInput *b) {
    return a->*value * b->weights > b->*value * a->weights;
  });
  return order;
}

void chooseInputs(const std::vector<MatrixOutlook> &matrices, const PreciseInputs &precise,
                  FormatPlan &plan) {
  std::map<std::string, SharedInput> inputs;
  double decoder = 0;
  for (const MatrixOutlook &matrix : matrices) {
    if (matrix.input.empty())
      continue;
    SharedInput &input = inputs[matrix.input];
    input.linears.push_back(&matrix);
    input.weights += double(matrix.rows) * double(matrix.cols);
    input.precise += matrix.a8g32 - matrix.a16g32;
    input.coarse += std::min(0.0, matrix.a8g32 - matrix.a8g64);
    input.isHead |= matrix.isHead;
    plan.activationKl += matrix.a8g32;
    if (!matrix.isHead)
      decoder += double(matrix.rows) * double(matrix.cols);
  }
  const double whole = plan.weightKl + plan.activationKl;
  const bool inputsLoseMore = plan.activationKl > plan.weightKl; // as they are by themselves
  std::set<const SharedInput *> arePrecise;
  auto choose = [&](const SharedInput &input, ActivationFormat format, double gain) {
    plan.activationKl -= gain;
    for (const MatrixOutlook *linear : input.linears)
      plan.scheme.matrices[linear->name].activation = format;
  };
  double spent = 0;
  for (const SharedInput *input : ranked(inputs, &SharedInput::precise)) {
    if (input->precise < leastGain * whole / double(std::max<size_t>(1, inputs.size())))
      continue;
    const double share = shareOfPreciseInputs(precise, plan.activationKl > plan.weightKl);
    if (!input->isHead && spent + input->weights > share * decoder)
      continue;
    spent += input->isHead ? 0 : input->weights;
    choose(*input, ActivationFormat::A16G32, input->precise);
    arePrecise.insert(input);
  }
  if (!inputsLoseMore || precise.favored)
    return;
  double left = mostCoarseLoss * (plan.weightKl + plan.activationKl);
  for (const SharedInput *input : ranked(inputs, &SharedInput::coarse)) {
    if (arePrecise.contains(input) || left + input->coarse < 0)
      continue;
    left += input->coarse;
    choose(*input, ActivationFormat::A8G64, input->coarse);
  }
}

} // namespace

Result<std::vector<MatrixOutlook>> surveyMatrices(ModuleOp module, const Graph &graph,
                                                  const std::vector<std::vector<int32_t>> &samples,
                                                  const StatisticsLookup &statistics,
                                                  const WeightResolver &resolve,
                                                  const OutlookOptions &options) {
  return Survey(module, graph, statistics, resolve, options).run(samples);
}

std::string outlooksText(const std::vector<MatrixOutlook> &matrices, const std::string &key) {
  Json list = Json::array();
  for (const MatrixOutlook &matrix : matrices) {
    Json choices = Json::array();
    for (size_t i = 0; i < matrix.formats.size(); ++i)
      choices.push_back({formatInfo(matrix.formats[i]).name, matrix.bytes[i], matrix.kl[i]});
    list.push_back({{"name", matrix.name},
                    {"head", matrix.isHead},
                    {"rows", matrix.rows},
                    {"cols", matrix.cols},
                    {"choices", std::move(choices)},
                    {"a8g32", matrix.a8g32},
                    {"a8g64", matrix.a8g64},
                    {"a16g32", matrix.a16g32},
                    {"input", matrix.input}});
  }
  return Json{{"key", key}, {"matrices", std::move(list)}}.dump(1, ' ', false,
                                                                Json::error_handler_t::replace);
}

std::optional<std::vector<MatrixOutlook>> readOutlooks(const std::string &text,
                                                       const std::string &key) {
  std::vector<MatrixOutlook> matrices;
  // The library throws at wrong types; a damaged file is as good as none.
  try {
    const Json json = Json::parse(text);
    if (json.at("key") != key)
      return std::nullopt;
    for (const Json &entry : json.at("matrices")) {
      MatrixOutlook matrix;
      matrix.name = entry.at("name");
      matrix.isHead = entry.at("head");
      matrix.rows = entry.at("rows");
      matrix.cols = entry.at("cols");
      matrix.a8g32 = entry.at("a8g32");
      matrix.a8g64 = entry.at("a8g64");
      matrix.a16g32 = entry.at("a16g32");
      matrix.input = entry.at("input");
      for (const Json &choice : entry.at("choices")) {
        Result<WeightFormat> format = findFormat(choice.at(0).get<std::string>());
        if (!format)
          return std::nullopt;
        matrix.formats.push_back(*format);
        matrix.bytes.push_back(choice.at(1));
        matrix.kl.push_back(choice.at(2));
      }
      matrices.push_back(std::move(matrix));
    }
  } catch (const Json::exception &) {
    return std::nullopt;
  }
  return matrices;
}

BudgetGoal usualGoal(const std::vector<MatrixOutlook> &matrices, const QuantizeScheme &scheme,
                     bool favorsQuality) {
  double bytes = 0, finest = 0, inputs = 0;
  for (const MatrixOutlook &matrix : matrices) {
    const bool isTable = matrix.isHead || matrix.input.empty();
    bytes += double(packedBytes(isTable ? scheme.head : scheme.decoder, matrix.rows, matrix.cols));
    finest += *std::min_element(matrix.kl.begin(), matrix.kl.end());
    inputs += matrix.a8g32;
  }
  if (scheme.decoder != WeightFormat::S8G32)
    return {BudgetKind::MaxBytes, bytes};
  return {BudgetKind::MaxKl, finest + (favorsQuality ? 0 : mostRowScaleLoss * (finest + inputs))};
}

static std::vector<BudgetItem> budgetItems(const std::vector<MatrixOutlook> &matrices) {
  std::vector<BudgetItem> items;
  for (const MatrixOutlook &matrix : matrices) {
    BudgetItem item;
    item.name = matrix.name;
    item.weights = matrix.rows * matrix.cols;
    for (size_t i = 0; i < matrix.formats.size(); ++i)
      item.choices.push_back({matrix.bytes[i], matrix.kl[i]});
    items.push_back(std::move(item));
  }
  return items;
}

Result<std::vector<TriedPlan>> tryPlans(const std::vector<MatrixOutlook> &matrices,
                                        const FormatPlan &chosen) {
  std::vector<TriedPlan> tried;
  if (matrices.empty())
    return tried;
  for (WeightFormat format : matrices.front().formats) {
    TriedPlan uniform{std::string(formatInfo(format).name)};
    bool isComplete = true;
    for (const MatrixOutlook &matrix : matrices) {
      auto found = std::find(matrix.formats.begin(), matrix.formats.end(), format);
      isComplete &= found != matrix.formats.end();
      if (!isComplete)
        break;
      uniform.bytes += matrix.bytes[size_t(found - matrix.formats.begin())];
      uniform.kl += matrix.kl[size_t(found - matrix.formats.begin())];
    }
    if (isComplete)
      tried.push_back(std::move(uniform));
  }
  const std::vector<BudgetItem> items = budgetItems(matrices);
  for (double share : {0.85, 0.9, 0.95, 1.05, 1.1, 1.2}) {
    SMELT_ASSIGN(BudgetPlan plan,
                 planBudget(items, {BudgetKind::MaxBytes, share * double(chosen.bytes)}));
    if (plan.met)
      tried.push_back({"", plan.bytes, plan.kl});
  }
  return tried;
}

Result<FormatPlan> planFormats(const std::vector<MatrixOutlook> &matrices, BudgetGoal goal,
                               const QuantizeScheme &base, const PreciseInputs &precise) {
  SMELT_ASSIGN(BudgetPlan chosen, planBudget(budgetItems(matrices), goal));
  FormatPlan plan;
  plan.scheme = base;
  plan.weightKl = chosen.kl;
  plan.bytes = chosen.bytes;
  plan.met = chosen.met;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const size_t choice = size_t(chosen.choices[i]);
    plan.scheme.matrices[matrices[i].name] = {matrices[i].formats[choice], base.activation};
    plan.kl[matrices[i].name] = matrices[i].kl[choice];
  }
  if (base.activation == ActivationFormat::A8G32)
    chooseInputs(matrices, precise, plan);
  return plan;
}

} // namespace smelt
