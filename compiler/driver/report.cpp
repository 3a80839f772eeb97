// Collecting of a report: metadata of the artifact, its weights, and measurements.
#include "compiler/driver/report.h"

#include "calibration/statistics.h"
#include "compiler/driver/evaluate.h"
#include "compiler/driver/evaluated_model.h"
#include "runtime/artifact/reader.h"
#include "runtime/formats/formats.h"
#include "runtime/tools/bench.h"
#include "runtime/tools/progress.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

namespace fs = std::filesystem;

namespace smelt {

namespace {

constexpr int64_t reportVersion = 1;
/// Weights that are looked at for histograms; of larger models evenly spread tiles.
constexpr int64_t sampledWeights = 16 << 20;

std::string textOf(const Json &object, const char *key) {
  const Json *value = object.find(key);
  return value && value->string() ? *value->string() : std::string();
}

double numberOf(const Json &object, const char *key) {
  const Json *value = object.find(key);
  return value ? value->number() : 0;
}

/// The layer and the kind of a linear as exporters name them: "/model/layers.3/attn/q_proj/MatMul"
/// is layer 3, kind "q". Without a number: layer -1.
struct Place {
  int64_t layer = -1;
  std::string kind;
};
Place placeOf(std::string name) {
  for (size_t at; (at = name.find("/MatMul")) != name.npos;)
    name.erase(at, 7);
  Place place;
  size_t begin = 0;
  auto isDigit = [&](size_t at) { return at < name.size() && name[at] >= '0' && name[at] <= '9'; };
  for (size_t at = 1; at < name.size(); ++at) {
    const char before = name[at - 1];
    if (!isDigit(at) || (before != '.' && before != '_' && before != '/'))
      continue;
    size_t end = at;
    while (isDigit(end))
      ++end;
    if (end < name.size() && name[end] != '/' && name[end] != '.')
      continue;
    place.layer = std::stoll(name.substr(at, std::min<size_t>(end - at, 9)));
    begin = std::min(end + 1, name.size());
    break;
  }
  place.kind = name.substr(begin);
  size_t slash = place.kind.find_last_of("/.");
  // "dense" alone says nothing: the part before it does.
  if (slash != place.kind.npos && place.kind.substr(slash + 1) == "dense" && slash > 0)
    slash = place.kind.find_last_of("/.", slash - 1);
  if (slash != place.kind.npos)
    place.kind.erase(0, slash + 1);
  for (size_t at; (at = place.kind.find("_proj")) != place.kind.npos;)
    place.kind.erase(at, 5);
  return place;
}

/// A histogram over powers of two in quarters: counts[4 i + j] values in
/// [2^(lowest + i + j / 4), 2^(lowest + i + (j + 1) / 4)).
class PowerHistogram {
public:
  PowerHistogram(int lowest, int highest)
      : lowest(lowest), counts(size_t((highest - lowest) * perPower)) {}

  void add(double value) {
    if (!(value > 0)) {
      ++zeros;
      return;
    }
    const double place = std::floor((std::log2(value) - lowest) * perPower);
    ++counts[size_t(std::clamp(place, 0.0, double(counts.size()) - 1))];
  }

  /// Whole powers only, without empty ones at the ends.
  Json json() const {
    auto isEmpty = [&](size_t power) {
      auto first = counts.begin() + ptrdiff_t(power * perPower);
      return std::all_of(first, first + perPower, [](int64_t count) { return count == 0; });
    };
    size_t first = 0, last = counts.size() / perPower;
    while (first + 1 < last && isEmpty(first))
      ++first;
    while (last > first + 1 && isEmpty(last - 1))
      --last;
    Json::Array list(counts.begin() + ptrdiff_t(first * perPower),
                     counts.begin() + ptrdiff_t(last * perPower));
    Json object;
    object.set("lowest_power_of_two", lowest + int64_t(first));
    object.set("per_power", perPower);
    object.set("counts", std::move(list));
    object.set("zeros", zeros);
    return object;
  }

private:
  static constexpr int perPower = 4;
  int lowest;
  int64_t zeros = 0;
  std::vector<int64_t> counts;
};

/// Groups of 32 weights as they decode: the largest of each (its scale), and how far that stands
/// out of the group.
Json weightHistograms(const Artifact &artifact, const Json::Array &linears) {
  int64_t all = 0;
  for (const Json &linear : linears)
    all += int64_t(numberOf(linear, "rows") * numberOf(linear, "cols"));
  const int64_t stride = std::max<int64_t>(1, all / sampledWeights);
  PowerHistogram scales(-24, 8), outliers(0, 8);
  for (const Json &linear : linears) {
    Result<WeightFormat> format = findFormat(textOf(linear, "weights"));
    const int64_t cols = int64_t(numberOf(linear, "cols"));
    const Json *offset = linear.find("offset");
    if (!format || !offset || cols <= 0)
      continue;
    const int64_t bytes = tileBytes(*format, cols), first = int64_t(offset->number());
    const int64_t tiles = int64_t(numberOf(linear, "bytes")) / bytes;
    std::vector<float> values(size_t(tileRows * cols));
    for (int64_t tile = 0; tile < tiles; tile += stride) {
      const uint64_t at = uint64_t(first + tile * bytes);
      if (at + uint64_t(bytes) > artifact.weights().size())
        break;
      unpackTile(*format, artifact.weights().subspan(at, size_t(bytes)), cols, values);
      for (int64_t i = 0; i < tileRows * cols; i += groupInputs) {
        const int64_t count = std::min(groupInputs, tileRows * cols - i);
        double largest = 0, squares = 0;
        for (int64_t k = i; k < i + count; ++k) {
          largest = std::max(largest, std::fabs(double(values[size_t(k)])));
          squares += double(values[size_t(k)]) * values[size_t(k)];
        }
        scales.add(largest);
        if (squares > 0)
          outliers.add(largest / std::sqrt(squares / double(count)));
      }
    }
  }
  Json object;
  object.set("largest_of_group", scales.json());
  object.set("largest_over_rms", outliers.json());
  return object;
}

/// Inputs of linears: how far the largest value of a channel stands out of its channel, and how far
/// channels stand out of each other.
Json activationHistograms(const Statistics &statistics) {
  PowerHistogram peaks(0, 12), channels(-12, 12);
  int64_t silent = 0;
  for (const auto &[name, input] : statistics.inputs) {
    double mean = 0;
    for (double squares : input.sumSquares)
      mean += squares / double(input.cols());
    for (size_t k = 0; k < input.sumSquares.size(); ++k) {
      silent += input.sumSquares[k] == 0;
      if (input.sumSquares[k] == 0)
        continue;
      peaks.add(input.maxAbsolute[k] / std::sqrt(input.sumSquares[k] / double(input.tokens)));
      channels.add(std::sqrt(input.sumSquares[k] / mean));
    }
  }
  Json object;
  object.set("peak_over_rms", peaks.json());
  object.set("channel_over_mean", channels.json());
  object.set("silent_channels", silent);
  return object;
}

/// Bytes of the file: linears by role and format, and every other section.
Json partsOf(const Artifact &artifact, const Json::Array &linears) {
  struct Part {
    double bytes = 0, weights = 0;
  };
  std::map<std::string, Part> parts;
  double packed = 0;
  for (const Json &linear : linears) {
    Part &part = parts[textOf(linear, "role") + " " + textOf(linear, "weights")];
    part.bytes += numberOf(linear, "bytes");
    part.weights += numberOf(linear, "rows") * numberOf(linear, "cols");
    packed += numberOf(linear, "bytes");
  }
  parts["other weights"].bytes = double(artifact.weights().size()) - packed;
  for (const format::SectionEntry &entry : artifact.sections())
    if (entry.kind != format::SectionKind::Weights)
      parts[std::string(sectionName(entry.kind))].bytes += double(entry.bytes);
  std::vector<std::pair<std::string, Part>> sorted(parts.begin(), parts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto &a, const auto &b) { return a.second.bytes > b.second.bytes; });
  Json::Array list;
  for (const auto &[name, part] : sorted) {
    if (part.bytes <= 0)
      continue;
    Json row;
    row.set("part", name);
    row.set("bytes", int64_t(part.bytes));
    if (part.weights > 0) {
      row.set("weights", int64_t(part.weights));
      row.set("bits", 8 * part.bytes / part.weights);
    }
    list.push_back(std::move(row));
  }
  return list;
}

Result<Json> metadataOf(const Artifact &artifact, const std::string &path) {
  Result<Json> metadata = Json::parse(artifact.text(format::SectionKind::Metadata));
  if (!metadata || !metadata->object())
    return corrupt("'" + path + "' has no metadata to report on; compile it again");
  return metadata;
}

/// Parts of one matrix of the graph are called "qkv[0:576]", "qkv[576:768]", ...: the names of what
/// they are, in order.
std::string partKind(const std::string &kind, size_t part) {
  const std::string whole = kind.substr(0, kind.find('['));
  for (std::string_view joined : {"qkv", "Wqkv", "query_key_value", "c_attn"})
    if (whole == joined && part < 3)
      return std::string(1, "qkv"[part]);
  if (size_t plus = whole.find('+'); plus != whole.npos && part < 2)
    return part == 0 ? whole.substr(0, plus) : whole.substr(plus + 1);
  return kind;
}

/// The linears of the metadata, each with its layer and kind.
Json::Array linearsOf(const Json &metadata) {
  Json::Array list;
  const Json *linears = metadata.find("linears");
  if (!linears || !linears->array())
    return list;
  std::map<std::pair<int64_t, std::string>, size_t> parts;
  for (const Json &linear : *linears->array()) {
    Json row = linear;
    Place place = placeOf(textOf(linear, "name"));
    if (size_t bracket = place.kind.find('['); bracket != place.kind.npos)
      place.kind = partKind(place.kind, parts[{place.layer, place.kind.substr(0, bracket)}]++);
    if (!linear.find("layer"))
      row.set("layer", place.layer);
    if (!linear.find("kind"))
      row.set("kind", place.kind);
    list.push_back(std::move(row));
  }
  return list;
}

/// Other choices of formats that the compiler predicted, as whole files: what is no matrix stays.
Json triedPlans(const Json &metadata, const Json::Array &linears, uint64_t fileBytes) {
  double rest = double(fileBytes);
  for (const Json &linear : linears)
    rest -= numberOf(linear, "bytes");
  Json::Array list;
  const Json *tried = metadata.find("tried");
  if (tried && tried->array())
    for (const Json &plan : *tried->array()) {
      Json row;
      row.set("name", textOf(plan, "name"));
      row.set("bytes", numberOf(plan, "bytes") + rest);
      row.set("kl", numberOf(plan, "kl"));
      list.push_back(std::move(row));
    }
  return list;
}

/// One report in the making.
class Collector {
public:
  explicit Collector(const ReportOptions &options) : options(options), progress(!options.quiet) {}

  Result<Json> run() {
    SMELT_TRY(describe());
    SMELT_TRY(measureQuality());
    SMELT_TRY(collectAnswers());
    SMELT_TRY(measureSpeed());
    progress.end();
    return std::move(report);
  }

private:
  Status describe() {
    progress.begin("weights");
    const std::string &path = options.models.front();
    SMELT_ASSIGN(std::unique_ptr<const Artifact> artifact, Artifact::open(path));
    SMELT_ASSIGN(Json metadata, metadataOf(*artifact, path));
    report.set("report", reportVersion);
    report.set("file", fs::path(path).filename().string());
    report.set("bytes", artifact->fileBytes());
    for (const char *key : {"producer", "source", "options", "numerics", "statistics", "folds",
                            "decoder_bits_per_weight"})
      if (const Json *value = metadata.find(key))
        report.set(key, *value);
    Json::Array linears = linearsOf(metadata);
    report.set("parts", partsOf(*artifact, linears));
    report.set("weights", weightHistograms(*artifact, linears));
    report.set("tried", triedPlans(metadata, linears, artifact->fileBytes()));
    report.set("linears", std::move(linears));
    if (!options.statistics.empty()) {
      SMELT_ASSIGN(Statistics statistics, readStatistics(options.statistics));
      report.set("activations", activationHistograms(statistics));
    }
    return {};
  }

  EvaluateOptions evaluation(const std::string &model) const {
    EvaluateOptions evaluate;
    evaluate.model = model;
    evaluate.reference = options.reference;
    evaluate.texts = options.texts;
    evaluate.tasks = options.tasks;
    evaluate.context = options.context;
    evaluate.chunks = options.chunks;
    evaluate.threads = options.threads;
    evaluate.quiet = options.quiet;
    return evaluate;
  }

  Status measureQuality() {
    if (options.texts.empty() && options.tasks.empty())
      return {};
    progress.end();
    Json::Array points;
    for (size_t i = 0; i < options.models.size(); ++i) {
      EvaluateOptions evaluate = evaluation(options.models[i]);
      if (i > 0)
        evaluate.tasks.clear();
      if (evaluate.texts.empty() && i > 0)
        break;
      SMELT_ASSIGN(Evaluation found, smelt::evaluate(evaluate));
      if (i == 0)
        report.set("quality", evaluationJson(found, evaluate));
      if (options.reference.empty() || evaluate.texts.empty())
        continue;
      Json point;
      point.set("name", fs::path(options.models[i]).stem().string());
      point.set("bytes", found.bytes);
      point.set("kl", found.all.summary.divergence.mean);
      point.set("measured", true);
      points.push_back(std::move(point));
    }
    if (!points.empty())
      report.set("points", std::move(points));
    return {};
  }

  Status collectAnswers() {
    if (options.prompts.empty())
      return {};
    progress.begin("answers", options.prompts.size());
    ModelSettings settings{options.context, 2048, options.threads, {}};
    std::unique_ptr<EvaluatedModel> model, reference;
    SMELT_ASSIGN(model, EvaluatedModel::open(options.models.front(), settings));
    if (!model->tokenizer())
      return unsupported("'" + options.models.front() +
                         "' has no tokenizer, so it cannot answer prompts");
    if (!options.reference.empty()) {
      SMELT_ASSIGN(reference, EvaluatedModel::open(options.reference, settings));
    }
    Json::Array list;
    for (const std::string &prompt : options.prompts) {
      const ChatMessage message = {"user", prompt};
      // A model without a template goes on with the text.
      Result<std::string> chat = model->renderChat({&message, 1});
      SMELT_ASSIGN(std::vector<int32_t> ids,
                   model->encode(chat ? *chat : prompt, !chat.ok(), chat.ok()));
      Json row;
      row.set("prompt", prompt);
      SMELT_ASSIGN(std::string answer, model->answer(ids, options.answerTokens));
      row.set("answer", std::move(answer));
      if (reference) {
        SMELT_ASSIGN(std::string theirs, reference->answer(ids, options.answerTokens));
        row.set("reference", std::move(theirs));
      }
      list.push_back(std::move(row));
      progress.update(list.size());
    }
    report.set("answers", std::move(list));
    return {};
  }

  Status measureSpeed() {
    if (options.benchRounds == 0)
      return {};
    progress.end();
    cli::BenchOptions bench;
    bench.model = options.models.front();
    bench.rounds = uint64_t(options.benchRounds);
    bench.threads = uint32_t(options.threads);
    bench.quiet = options.quiet;
    SMELT_ASSIGN(Json speed, cli::measureSpeed(bench));
    report.set("speed", std::move(speed));
    return {};
  }

  const ReportOptions &options;
  cli::Progress progress;
  Json report;
};

} // namespace

Result<Json> collectReport(const ReportOptions &options) { return Collector(options).run(); }

Result<Json> readReport(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return notFound("cannot read '" + path + "'");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Result<Json> report = Json::parse(text);
  if (!report)
    return Status(report.status()).withContext("'" + path + "' is not JSON");
  if (numberOf(*report, "report") != double(reportVersion))
    return invalidArgument("'" + path + "' is no report of version " +
                           std::to_string(reportVersion) +
                           "; make one with 'smelt report MODEL --json'");
  return report;
}

} // namespace smelt
