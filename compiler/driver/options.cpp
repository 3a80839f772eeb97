// From parsed arguments to the options of each command.
#include "compiler/driver/options.h"

#include "runtime/devices/cpu.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

namespace fs = std::filesystem;

namespace smelt {

namespace {

using cli::OptionType;

constexpr cli::Option optionTable[] = {
#define OPTION(command, ...) {#command, __VA_ARGS__},
#include "compiler/driver/options.def"
};

/// What people call a format, and its name in the table.
struct Alias {
  std::string_view option, name;
};
constexpr Alias formatAliases[] = {{"int4", "a4g32"}, {"int8", "s8g32"}};
constexpr Alias activationAliases[] = {{"int8-group", "a8g32"},
                                       {"int8-group64", "a8g64"},
                                       {"int8-token", "a8t"},
                                       {"int16-group", "a16g32"},
                                       {"float", "f32"}};

std::string tableName(std::span<const Alias> aliases, const std::string &text) {
  for (const Alias &alias : aliases)
    if (alias.option == text)
      return std::string(alias.name);
  return text;
}

std::string aliasList(std::span<const Alias> aliases) {
  std::string list;
  for (const Alias &alias : aliases)
    list += std::string(alias.option) + ", ";
  return list;
}

Result<WeightFormat> readFormat(const std::string &option, const std::string &text) {
  Result<WeightFormat> found = findFormat(tableName(formatAliases, text));
  if (found)
    return found;
  return Status(found.status().code(),
                "--" + option + ": " + found.status().message() + ", " + aliasList(formatAliases));
}

/// The current folder's `<stem of the model><extension>`.
std::string defaultOutput(const std::string &model, const char *extension) {
  return fs::path(model).stem().string() + extension;
}

/// Found before the long work rather than after it.
Status checkFolderOf(const std::string &output) {
  std::error_code error;
  if (fs::is_directory(output, error))
    return invalidArgument("--output is the folder '" + output + "', expected a file name");
  fs::path folder = fs::absolute(output, error).parent_path();
  if (!fs::is_directory(folder, error))
    return notFound("cannot write '" + output + "': there is no folder '" + folder.string() + "'");
  if (::access(folder.c_str(), W_OK) != 0)
    return invalidArgument("cannot write '" + output + "': folder '" + folder.string() +
                           "' is not writable");
  return {};
}

/// `model`: must not be the output; empty: none.
Status checkOutput(const std::string &model, const std::string &output) {
  std::error_code error;
  // A finished file takes the place of what had its name.
  if (fs::is_other(output, error))
    return invalidArgument("--output '" + output + "' is a device or a pipe, expected a file name");
  if (fs::equivalent(model, output, error))
    return invalidArgument("--output '" + output + "' is the model itself; choose another name");
  return checkFolderOf(output);
}

Status readScheme(const cli::Arguments &arguments, CompileOptions &options) {
  QuantizeScheme &scheme = options.scheme;
  options.keepQuantization = arguments.flag("keep-quantization");
  const bool keepsRest = options.keepQuantization && !arguments.given("weights");
  SMELT_ASSIGN(scheme.decoder,
               readFormat("weights", keepsRest ? "f32" : arguments.text("weights")));
  bool exact = scheme.decoder == WeightFormat::F32;
  scheme.head = exact ? WeightFormat::F32 : WeightFormat::S8C;
  if (arguments.given("head")) {
    SMELT_ASSIGN(scheme.head, readFormat("head", arguments.text("head")));
  }
  scheme.embedding = scheme.head;
  if (arguments.given("embedding")) {
    SMELT_ASSIGN(scheme.embedding, readFormat("embedding", arguments.text("embedding")));
  }
  std::string activation = tableName(activationAliases, arguments.text("activations"));
  Result<ActivationFormat> found = findActivation(activation);
  if (!found)
    return invalidArgument("--activations: " + found.status().message() + ", " +
                           aliasList(activationAliases));
  scheme.activation = *found;
  if (exact && !arguments.given("activations"))
    scheme.activation = ActivationFormat::F32;

  if (arguments.given("kv")) {
    Result<CacheFormat> cache = findCacheFormat(arguments.text("kv"));
    if (!cache)
      return Status(cache.status()).withContext("--kv");
    options.cache = *cache;
  }
  options.lower.compactRotary = !exact;
  return {};
}

/// "90MB", "1.5GiB" or plain bytes.
Result<double> readSize(const std::string &option, const std::string &text) {
  constexpr std::pair<std::string_view, double> units[] = {
      {"GiB", 1073741824.0}, {"MiB", 1048576.0}, {"KiB", 1024.0}, {"GB", 1e9},
      {"MB", 1e6},           {"KB", 1e3},        {"B", 1},        {"", 1}};
  for (const auto &[unit, factor] : units)
    if (text.ends_with(unit)) {
      std::string_view number = std::string_view(text).substr(0, text.size() - unit.size());
      while (number.ends_with(' '))
        number.remove_suffix(1);
      double value = 0;
      auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
      if (error == std::errc() && end == number.data() + number.size() && std::isfinite(value) &&
          value > 0)
        return value * factor;
      break;
    }
  return invalidArgument("--" + option + " is '" + text + "', expected a size such as 90MB");
}

/// What formats compete, and under which budget.
Status readBudget(const cli::Arguments &arguments, CompileOptions &options) {
  options.effort = int(arguments.whole("effort"));
  if (arguments.whole("effort") > 3)
    return invalidArgument("--effort is " + std::to_string(arguments.whole("effort")) +
                           ", expected 0, 1, 2 or 3");
  const bool fixed =
      arguments.given("head") || arguments.given("embedding") || options.keepQuantization;
  if (!fixed && options.effort >= 2 && arguments.text("weights") == "int4")
    // a5g32 beside n5g32: weights that once were 4-bit codes with minimums fit it exactly.
    options.candidates = {WeightFormat::N4G32, WeightFormat::N4G16, WeightFormat::N5G32,
                          WeightFormat::A5G32, WeightFormat::A6G32, WeightFormat::S8G32};
  if (!fixed && options.effort >= 2 && arguments.text("weights") == "int8")
    options.candidates = {WeightFormat::S8G32, WeightFormat::S8C};
  const char *given = nullptr;
  for (const char *name : {"max-kl", "max-size", "bits"})
    if (arguments.given(name)) {
      if (given)
        return invalidArgument(std::string("--") + given + " and --" + name +
                               " contradict each other: there is one budget");
      given = name;
    }
  if (!given)
    return {};
  const std::string name = given;
  if (fixed || arguments.given("weights"))
    return invalidArgument("--" + name +
                           " chooses the formats: leave out --weights, --head, "
                           "--embedding and --keep-quantization");
  if (options.effort < 2)
    return invalidArgument("--" + name + " needs --effort 2 or 3");
  BudgetGoal goal;
  goal.kind = name == "max-kl"     ? BudgetKind::MaxKl
              : name == "max-size" ? BudgetKind::MaxBytes
                                   : BudgetKind::MeanBits;
  if (name == "max-size") {
    SMELT_ASSIGN(goal.limit, readSize(name, arguments.text(name)));
  } else {
    goal.limit = arguments.real(name);
  }
  if (!(goal.limit > 0))
    return invalidArgument("--" + name + " must be greater than 0");
  options.budget = goal;
  return {};
}

Result<SampleOptions> readSampling(const cli::Arguments &arguments) {
  const SampleOptions options{arguments.whole("samples"), arguments.whole("sample-tokens"),
                              arguments.given("samples") || arguments.given("sample-tokens")};
  if (options.samples < 1 || options.tokens < 2)
    return invalidArgument("--samples must be at least 1 and --sample-tokens at least 2");
  return options;
}

Status readCalibration(const cli::Arguments &arguments, CompileOptions &options) {
  options.data = arguments.list("data");
  options.statistics = arguments.text("stats");
  options.work = arguments.text("work");
  SMELT_ASSIGN(options.samples, readSampling(arguments));
  if (!options.data.empty() && !options.statistics.empty())
    return invalidArgument("--data and --stats contradict each other: statistics are either "
                           "collected or read");
  // Means of squares are settled sooner than products of inputs.
  if (options.effort == 1 && !arguments.given("samples"))
    options.samples.samples = 32;
  bool hasData = !options.data.empty() || !options.statistics.empty();
  const QuantizeScheme &scheme = options.scheme;
  if (hasData && scheme.decoder == WeightFormat::F32 && scheme.head == WeightFormat::F32)
    return invalidArgument("float32 weights need no calibration; leave out --data and --stats");
  if (arguments.text("algorithm") != "auto") {
    SMELT_ASSIGN(options.algorithm, findAlgorithm(arguments.text("algorithm")));
  }
  const bool needsData =
      options.algorithm ? needsStatistics(*options.algorithm) : options.effort > 0;
  if (hasData && !needsData)
    return invalidArgument(
        (options.algorithm ? "--algorithm " + arguments.text("algorithm") : "--effort 0") +
        std::string(" uses no calibration; leave out --data and --stats or take another"));
  options.calibrates =
      needsData && options.statistics.empty() && scheme.decoder != WeightFormat::F32;
  return {};
}

/// Folds that pay for the formats. One INT8 scale per token is where they do most: the mean KL
/// divergence of SmolLM2-135M with s8c weights falls from 0.0296 to 0.0131 and from 0.0357 to
/// 0.0181 on four windows each of two texts.
std::vector<FoldAlgorithm> usualFolds(const QuantizeScheme &scheme) {
  if (scheme.activation == ActivationFormat::A8T)
    return {FoldAlgorithm::Awq, FoldAlgorithm::Smooth, FoldAlgorithm::Hadamard};
  return {};
}

Status readFolds(const cli::Arguments &arguments, CompileOptions &options) {
  const std::string text = arguments.text("fold");
  const bool hasStatistics = options.calibrates || !options.statistics.empty();
  if (text == "auto") {
    if (hasStatistics && !options.keepQuantization)
      options.folds = usualFolds(options.scheme);
    return {};
  }
  if (text == "none")
    return {};
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    Result<FoldAlgorithm> found = findFold(text.substr(at, end - at));
    if (!found)
      return invalidArgument("--fold: " + found.status().message() + ", auto, none");
    if (std::find(options.folds.begin(), options.folds.end(), *found) == options.folds.end())
      options.folds.push_back(*found);
    at = end + 1;
  }
  if (options.keepQuantization)
    return invalidArgument("--fold changes the weights, --keep-quantization keeps them as they "
                           "are: give one of them");
  if (!hasStatistics)
    return invalidArgument("--fold " + text +
                           " chooses by calibration, of which there is none with " +
                           (options.scheme.decoder == WeightFormat::F32 ? "float32 weights"
                                                                        : "--effort 0 or this "
                                                                          "algorithm"));
  return {};
}

/// The CPU targets that one word of the list stands for.
Result<std::vector<const KernelTarget *>> cpuTargetsOf(const std::string &word) {
  std::vector<const KernelTarget *> targets;
  if (word == "portable" || word == "cpu") {
    for (const KernelTarget &target : kernelTargets())
      if (target.portable)
        targets.push_back(&target);
    return targets;
  }
  if (word == "native") {
    for (const CpuTarget &target : cpuTargets())
      if (missingFeatures(target).empty()) {
        SMELT_ASSIGN(const KernelTarget *found, findTarget(target.name));
        return std::vector<const KernelTarget *>{found};
      }
    return unsupported("--target native: there is no target for this machine; give --target "
                       "portable or a name");
  }
  Result<const KernelTarget *> found = findTarget(word);
  if (!found)
    return invalidArgument("--target: " + found.status().message() +
                           ", native, portable, vulkan, cuda");
  return std::vector<const KernelTarget *>{*found};
}

Status readTargets(const std::string &text, CompileOptions &options) {
  for (size_t at = 0; at <= text.size();) {
    size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    at = end + 1;
    auto gpu = std::find_if(gpuTargets.begin(), gpuTargets.end(),
                            [&](const GpuTarget *target) { return target->name == word; });
    if (gpu != gpuTargets.end()) {
      if (std::find(options.gpuTargets.begin(), options.gpuTargets.end(), *gpu) ==
          options.gpuTargets.end())
        options.gpuTargets.push_back(*gpu);
      continue;
    }
    SMELT_ASSIGN(std::vector<const KernelTarget *> found, cpuTargetsOf(word));
    for (const KernelTarget *target : found)
      if (std::find(options.targets.begin(), options.targets.end(), target) ==
          options.targets.end())
        options.targets.push_back(target);
  }
  if (options.targets.empty() && options.budget && options.budget->kind == BudgetKind::MaxKl)
    return invalidArgument("--max-kl is measured on this machine's CPU, but --target names GPUs "
                           "only; add native, portable or a CPU");
  return {};
}

/// Where compiled kernels are kept: as told, else in the user's cache (XDG Base Directory
/// Specification); nowhere if there is none.
std::string kernelCacheFolder(const std::string &given) {
  if (!given.empty())
    return given == "none" ? "" : given;
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (cache && *cache == '/')
    return std::string(cache) + "/smelt/kernels";
  return home && *home ? std::string(home) + "/.cache/smelt/kernels" : "";
}

Result<int> readThreads(const cli::Arguments &arguments) {
  constexpr uint64_t most = 1024; // as of a session
  const uint64_t threads = arguments.whole("threads");
  if (threads > most)
    return invalidArgument("--threads is " + std::to_string(threads) + ", expected at most " +
                           std::to_string(most) + "; 0: one per core");
  return int(threads);
}

/// "2/4": the second of four parts.
Status readShard(const std::string &text, SampleOptions &samples) {
  unsigned shard = 0, shards = 0;
  int read = 0;
  if (std::sscanf(text.c_str(), "%9u/%9u%n", &shard, &shards, &read) != 2 ||
      size_t(read) != text.size() || shard < 1 || shard > shards)
    return invalidArgument("--shard is '" + text + "', expected I/N with I from 1 to N");
  samples.shard = shard - 1;
  samples.shards = shards;
  return {};
}

} // namespace

std::span<const cli::Option> compilerOptions() { return optionTable; }

Result<CompileOptions> readCompileOptions(const cli::Arguments &arguments) {
  CompileOptions options;
  options.model = arguments.operands[0];
  options.output =
      arguments.given("output") ? arguments.text("output") : defaultOutput(options.model, ".smelt");
  SMELT_TRY(checkOutput(options.model, options.output));
  SMELT_TRY(readScheme(arguments, options));
  SMELT_TRY(readBudget(arguments, options));
  SMELT_TRY(readCalibration(arguments, options));
  SMELT_TRY(readFolds(arguments, options));
  SMELT_TRY(readTargets(arguments.text("target"), options));
  options.kernelCache = kernelCacheFolder(arguments.text("kernel-cache"));
  options.lower.maxContext = arguments.whole("context");
  if (options.lower.maxContext < 1)
    return invalidArgument("--context must be at least 1");
  options.asIs = arguments.flag("as-is");
  SMELT_ASSIGN(options.threads, readThreads(arguments));
  options.licence = arguments.text("licence");
  if (arguments.given("stop-after")) {
    SMELT_ASSIGN(options.pipeline.stopAfter, findPhase(arguments.text("stop-after")));
  }
  options.pipeline.dump = arguments.text("dump");
  options.pipeline.quiet = arguments.flag("quiet");
  // Provenance: what decides the bytes of the artifact.
  for (const cli::Option &option : optionTable) {
    static constexpr std::string_view unrelated[] = {
        "output", "threads", "licence", "work", "stop-after", "dump", "quiet", "kernel-cache"};
    if (option.command == "compile" && arguments.given(option.name) &&
        std::find(std::begin(unrelated), std::end(unrelated), option.name) == std::end(unrelated)) {
      std::string value = option.type == OptionType::Flag ? "" : arguments.text(option.name);
      if (option.type == OptionType::List) {
        value.clear();
        for (const std::string &item : arguments.list(option.name))
          value += (value.empty() ? "" : ", ") + item;
      }
      options.given.emplace_back(option.name, value);
    }
  }
  return options;
}

Result<CalibrateOptions> readCalibrateOptions(const cli::Arguments &arguments) {
  CalibrateOptions options;
  options.model = arguments.operands[0];
  options.output =
      arguments.given("output") ? arguments.text("output") : defaultOutput(options.model, ".stats");
  SMELT_TRY(checkOutput(options.model, options.output));
  options.data = arguments.list("data");
  SMELT_ASSIGN(options.samples, readSampling(arguments));
  SMELT_TRY(readShard(arguments.text("shard"), options.samples));
  options.secondMoments = arguments.flag("second-moments");
  SMELT_ASSIGN(options.threads, readThreads(arguments));
  options.quiet = arguments.flag("quiet");
  return options;
}

Result<MergeOptions> readMergeOptions(const cli::Arguments &arguments) {
  MergeOptions options;
  options.inputs = arguments.operands;
  options.output = arguments.text("output");
  if (options.output.empty())
    return invalidArgument("--output is missing: merging needs a file to write");
  SMELT_TRY(checkOutput({}, options.output));
  return options;
}

Result<EvaluateOptions> readEvaluateOptions(const cli::Arguments &arguments) {
  EvaluateOptions options;
  options.model = arguments.operands[0];
  options.reference = arguments.text("reference");
  options.texts = arguments.list("text");
  options.tasks = arguments.list("task");
  if (options.texts.empty() && options.tasks.empty())
    return invalidArgument("--text or --task is missing: evaluation needs a text to predict or a "
                           "task to solve");
  options.context = arguments.whole("context");
  options.chunks = arguments.whole("chunks");
  options.items = arguments.whole("items");
  SMELT_ASSIGN(options.threads, readThreads(arguments));
  options.target = arguments.text("target");
  options.device = arguments.text("device");
  options.quiet = arguments.flag("quiet");
  return options;
}

Result<ReportOptions> readReportOptions(const cli::Arguments &arguments) {
  ReportOptions options;
  options.models = arguments.operands;
  options.reference = arguments.text("reference");
  options.texts = arguments.list("text");
  options.tasks = arguments.list("task");
  options.prompts = arguments.list("prompt");
  options.answerTokens = arguments.whole("answer-tokens");
  options.statistics = arguments.text("stats");
  options.context = arguments.whole("context");
  options.chunks = arguments.whole("chunks");
  options.benchRounds = arguments.whole("bench");
  SMELT_ASSIGN(options.threads, readThreads(arguments));
  options.quiet = arguments.flag("quiet");
  if (arguments.given("max-kl-increase") || arguments.given("max-size-increase"))
    return invalidArgument("--max-kl-increase and --max-size-increase need --compare");
  if (const std::string output = arguments.text("output"); !output.empty() && output != "-")
    SMELT_TRY(checkFolderOf(output));
  if (options.models.size() > 1 && (options.reference.empty() || options.texts.empty()))
    return invalidArgument("several models are compared by size and KL: give --reference and "
                           "--text");
  return options;
}

/// "0.05" or "5%"; not given: no limit.
static Result<double> readShare(const cli::Arguments &arguments, const char *option) {
  if (!arguments.given(option))
    return -1.0;
  const std::string text = arguments.text(option);
  char *end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  const bool isPercent = std::string_view(end) == "%";
  if (end == text.c_str() || (*end != 0 && !isPercent) || !(value >= 0 && value < 1e6))
    return invalidArgument("--" + std::string(option) + " is '" + text +
                           "', expected a share such as 0.05 or 5%");
  return isPercent ? value / 100 : value;
}

Result<CompareLimits> readCompareLimits(const cli::Arguments &arguments) {
  if (arguments.operands.size() != 2)
    return invalidArgument("--compare takes two reports in JSON, found " +
                           std::to_string(arguments.operands.size()));
  CompareLimits limits;
  SMELT_ASSIGN(limits.klIncrease, readShare(arguments, "max-kl-increase"));
  SMELT_ASSIGN(limits.sizeIncrease, readShare(arguments, "max-size-increase"));
  return limits;
}

} // namespace smelt
