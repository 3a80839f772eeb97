// The compiler's whole way: frontend, calibration, quantization, lowering, code, artifact.
#include "compiler/driver/compile.h"

#include "calibration/random_samples.h"
#include "compiler/driver/artifact_sink.h"
#include "compiler/driver/budget_search.h"
#include "compiler/driver/calibrate.h"
#include "compiler/driver/fold_model.h"
#include "compiler/driver/frontend.h"
#include "compiler/driver/interrupt.h"
#include "compiler/driver/metadata.h"
#include "compiler/driver/output_folder.h"
#include "compiler/driver/packed_folder.h"
#include "compiler/driver/plan.h"
#include "compiler/driver/programs.h"
#include "compiler/driver/text_use.h"
#include "compiler/driver/verify.h"
#include "compiler/driver/work_folder.h"
#include "compiler/onnx/dequantize.h"
#include "passes/fuse/fuse.h"

#include <cstdio>
#include <filesystem>

namespace fs = std::filesystem;

namespace smelt {

namespace {

/// XXH64 over the model, the samples and the way of collecting: what statistics depend on.
std::string workKey(const SourceModel &source, const SampleSet &samples, bool secondMoments) {
  return "version " SMELT_VERSION "\nmodel " + source.hash + "\nsamples " + hashSamples(samples) +
         "\nsecond moments " + std::to_string(secondMoments) + "\n";
}

bool hasSecondMoments(const Statistics &statistics) {
  return !statistics.inputs.empty() && statistics.inputs.begin()->second.secondMoments;
}

/// Windows of the calibration text that a divergence is verified on.
constexpr int64_t heldBackWindows = 12;

/// Moves evenly spread windows out of the samples.
Status holdBack(SampleSet &samples, std::vector<std::vector<int32_t>> &heldBack) {
  const int64_t count = int64_t(samples.samples.size());
  if (count < 2 * heldBackWindows)
    return invalidArgument("--max-kl holds back " + std::to_string(heldBackWindows) +
                           " windows of the calibration text to verify the result, but there are "
                           "only " +
                           std::to_string(count) + " in all; give more text with --data");
  std::vector<std::vector<int32_t>> kept;
  for (int64_t i = 0; i < count; ++i) {
    const bool held = (i + 1) * heldBackWindows / count > i * heldBackWindows / count;
    (held ? heldBack : kept).push_back(std::move(samples.samples[size_t(i)]));
    if (held)
      samples.tokens -= int64_t(heldBack.back().size());
  }
  samples.samples = std::move(kept);
  return {};
}

/// One compilation: what the phases hand to each other.
class Compilation {
public:
  explicit Compilation(const CompileOptions &options)
      : options(options), pipeline(options.pipeline), kernelCache(options.kernelCache) {}

  Status run();

private:
  using Report = Pipeline::Report;

  Status openOutput();
  Status prepareStatistics(const Pipeline::Report &report);
  CollectOptions collecting(const Pipeline::Report &report);
  Status collect(const Pipeline::Report &report);
  Status fold(const Pipeline::Report &report);
  FoldOptions foldOptions(const Pipeline::Report &report) const;
  Status survey(const Pipeline::Report &report);
  Status gatherOutputs(const Pipeline::Report &report);
  Status choose();
  Status attempt();
  Status attemptsUnderBudget();
  Result<double> measureTrial();
  Status placeOutput();
  Status keepTrial() const;
  bool plansFormats() const { return !matrices.empty(); }
  ProgramTargets targets() const { return {options.targets, options.gpuTargets}; }
  Status keepOrSay();
  Status quantize(const Pipeline::Report &report);
  Status lower();
  Status generate(const Pipeline::Report &report);
  Status write();
  Status collectWithoutText(const Pipeline::Report &report);
  void chooseAlgorithm();
  CacheFormat cacheFormat() const;
  void fillConfig(format::ModelConfig &config) const;

  const CompileOptions &options;
  Pipeline pipeline;
  std::unique_ptr<ArtifactWriter> writer; ///< null if the run stops before there is an artifact
  std::optional<InterruptGuard> guard;
  std::unique_ptr<ArtifactSink> sink;

  SourceModel source;
  std::optional<TokenizerImport> tokenizer;
  std::optional<Statistics> given; ///< read from --stats
  std::optional<WorkFolder> work;  ///< what calibration of this run found
  std::optional<OutputFolder> outputs;
  StatisticsLookup statistics; ///< of either; empty if there are none
  bool hasMoments = false;
  Algorithm algorithm = Algorithm::Rtn;
  SampleSet samples;
  std::vector<std::vector<int32_t>> heldBack; ///< windows that calibration does not see
  std::string foldsKey;                       ///< what the folds depend on; empty: none were sought
  std::vector<MatrixOutlook> matrices;        ///< empty: formats are as the scheme says
  FormatPlan plan;
  BudgetGoal goal;        ///< of packed matrices, and of predictions
  std::string outputPath; ///< of this attempt
  uint64_t outputBytes = 0;
  Provenance provenance;
  Programs programs; ///< of this attempt
  KernelCache kernelCache;
};

Status Compilation::openOutput() {
  if (!options.pipeline.stopAfter || *options.pipeline.stopAfter == Phase::Written) {
    SMELT_ASSIGN(writer, ArtifactWriter::create(outputPath));
    guard.emplace(writer->temporaryPath());
    SMELT_TRY(writer->beginSection(format::SectionKind::Weights));
  }
  sink = std::make_unique<ArtifactSink>(writer.get());
  return {};
}

void Compilation::chooseAlgorithm() {
  if (options.algorithm)
    algorithm = *options.algorithm;
  else
    algorithm = !statistics                        ? Algorithm::Mse
                : hasMoments && options.effort > 2 ? Algorithm::Coupled
                : hasMoments && options.effort > 1 ? Algorithm::Polish
                                                   : Algorithm::Search;
}

/// As told. Else an INT8 cache, unless it would be a large part of the loss (half of all else; with
/// effort 3 a twelfth): beside 8-bit weights of a decoder, and formats that are predicted to lose
/// little. An encoder gains speed from it, even for short texts, and has no more to lose than in
/// its inputs.
CacheFormat Compilation::cacheFormat() const {
  if (options.cache)
    return *options.cache;
  const WeightFormat weights = options.scheme.decoder;
  if (weights == WeightFormat::F32)
    return CacheFormat::F32;
  constexpr double cacheKl = 0.0005; // what INT8 adds as a rule, in nats
  const double most = options.effort > 2 ? 12 : 2;
  const bool isFine = plansFormats() ? plan.weightKl + plan.activationKl < most * cacheKl
                                     : formatInfo(weights).bits >= 8;
  return isFine && !isEncoder(source.graph) ? CacheFormat::F16 : CacheFormat::Int8;
}

CollectOptions Compilation::collecting(const Pipeline::Report &report) {
  CollectOptions how;
  how.threads = options.threads;
  how.secondMoments = hasMoments;
  how.release = [&](const WeightView &view) { releasePages(*source.weights, view); };
  how.progress = [&report](double share) {
    report(share);
    return true;
  };
  return how;
}

/// Runs the float model over the calibration text; what an earlier run that was stopped has found
/// is taken from the work folder.
Status Compilation::collect(const Pipeline::Report &report) {
  SampleOptions sampling = options.samples;
  const bool verifies = options.budget && options.budget->kind == BudgetKind::MaxKl;
  if (verifies && isEncoder(source.graph))
    return unsupported("--max-kl measures how predicted tokens diverge, but '" + options.model +
                       "' reads texts in both directions and predicts none; give --max-size or "
                       "--bits");
  sampling.samples += verifies ? heldBackWindows : 0;
  SMELT_ASSIGN(samples, readSamples(source.graph, options.data, sampling, tokenizer));
  if (verifies)
    SMELT_TRY(holdBack(samples, heldBack));
  hasMoments = options.algorithm
                   ? needsSecondMoments(*options.algorithm)
                   : options.effort > 1 && options.scheme.decoder != WeightFormat::F32;
  SMELT_ASSIGN(work,
               WorkFolder::open(options.work.empty() ? options.output + ".work" : options.work,
                                workKey(source, samples, hasMoments)));
  SMELT_TRY(collectSegments(source.graph, samples.samples, collecting(report), *work));
  if (work->resumed() > 0 && options.work.empty())
    pipeline.warn("went on with calibration where the last run was stopped, after " +
                  std::to_string(work->resumed()) + " parts of the model");
  statistics = work->lookup();
  provenance.calibration = {work->statisticsHash(), int64_t(samples.samples.size()),
                            samples.tokens};
  for (const std::string &warning : samples.warnings)
    pipeline.warn(warning);
  return {};
}

/// Random tokens stand in for text.
Status Compilation::collectWithoutText(const Pipeline::Report &report) {
  constexpr int64_t count = 4, length = 128;
  const std::vector<std::vector<int32_t>> drawn =
      randomSamples(source.graph, count, std::min(length, positionLimit(source.graph)));
  if (drawn.empty() || options.algorithm || options.scheme.decoder == WeightFormat::F32)
    return {};
  SMELT_ASSIGN(given, collectStatistics(source.graph, drawn, collecting(report)));
  statistics = lookUpIn(*given);
  return {};
}

Status Compilation::prepareStatistics(const Pipeline::Report &report) {
  if (pipeline.runsTensors) {
    if (!options.data.empty() || !options.statistics.empty())
      pipeline.warn("calibration is not used for a graph that runs as it stands: scales are "
                    "rounded to nearest");
    provenance.algorithm = std::string(algorithmName(algorithm));
    return {};
  }
  if (!options.statistics.empty()) {
    SMELT_ASSIGN(given, readStatistics(options.statistics));
    if (given->modelHash != source.hash)
      return invalidArgument("'" + options.statistics + "' holds statistics of model " +
                             given->modelHash + ", but '" + options.model + "' is model " +
                             source.hash + "; collect them again with 'smelt calibrate'");
    if (std::string missing = missingShards(*given); !missing.empty())
      pipeline.warn("'" + options.statistics + "' is not whole: " + missing +
                    " are missing; add them with 'smelt merge'");
    statistics = lookUpIn(*given);
    hasMoments = hasSecondMoments(*given);
    provenance.calibration.hash = hashStatistics(*given);
  } else if (options.calibrates && !tokenizer && options.data.empty()) {
    pipeline.warn(
        "there is no tokenizer.json beside the model, so no text can be read to calibrate "
        "on: scales are chosen on random tokens, which costs quality");
    SMELT_TRY(collectWithoutText(report));
  } else if (options.calibrates) {
    SMELT_TRY(collect(report));
    if (options.data.empty())
      pipeline.warn("calibrated on built-in samples; text of your own use, given with --data, is "
                    "better");
  } else {
    SMELT_TRY(collectWithoutText(report));
  }
  chooseAlgorithm();
  provenance.algorithm = std::string(algorithmName(algorithm));
  return {};
}

/// What becomes of weights that the model has quantized: the user is told either way.
Status Compilation::keepOrSay() {
  auto forms = (*pipeline.module)->getAttrOfType<mlir::DictionaryAttr>(quantizedAttribute);
  if (!forms) {
    if (options.keepQuantization)
      pipeline.warn("--keep-quantization: the model has no quantized weights");
    return {};
  }
  std::string found;
  for (mlir::NamedAttribute form : forms)
    found += (found.empty() ? "" : ", ") +
             std::to_string(mlir::cast<mlir::IntegerAttr>(form.getValue()).getInt()) + " with " +
             form.getName().str();
  if (!options.keepQuantization) {
    pipeline.warn("the model's weights are quantized already (" + found +
                  "): they are dequantized and taken as its float weights; --keep-quantization "
                  "carries them over");
    return {};
  }
  SMELT_ASSIGN(std::vector<std::string> lost, keepGivenCodes(*pipeline.module, source.resolve));
  if (!lost.empty())
    pipeline.warn("no format carries the codes of " + std::to_string(lost.size()) +
                  " weights, the first of them '" + lost.front() +
                  "' (groups that are no multiple of 32, or fractional zero points): they are "
                  "quantized anew");
  return {};
}

FoldOptions Compilation::foldOptions(const Pipeline::Report &report) const {
  FoldOptions how;
  how.algorithms = options.folds;
  // Formats that compete are chosen later: the first of them stands for all.
  const QuantizeScheme &scheme = options.scheme;
  const bool competes = !options.candidates.empty();
  const FoldFormats decoder{competes ? options.candidates[0] : scheme.decoder, scheme.activation};
  const FoldFormats head{competes ? options.candidates[0] : scheme.head, scheme.activation};
  int32_t last = 0; // linear
  for (size_t i = 0; i < source.graph.nodes.size(); ++i)
    if (source.graph.nodes[i].kind == NodeKind::Linear)
      last = int32_t(i);
  how.formats = [=](int32_t node) { return node == last ? head : decoder; };
  how.cache = cacheFormat();
  how.threads = options.threads;
  how.progress = [&](double share) {
    report(share);
    return true;
  };
  how.release = [&](const WeightView &view) { releasePages(*source.weights, view); };
  return how;
}

/// Folds what pays; all that follows sees the folded weights and their statistics.
Status Compilation::fold(const Pipeline::Report &report) {
  if (options.folds.empty() || !statistics || pipeline.runsTensors)
    return {};
  const FoldOptions how = foldOptions(report);
  foldsKey = "folds";
  for (FoldAlgorithm algorithm : how.algorithms)
    foldsKey += " " + std::string(foldName(algorithm));
  const FoldFormats decoder = how.formats(0);
  foldsKey += ", weights " + std::string(formatInfo(decoder.weights).name) + ", head " +
              std::string(formatInfo(options.scheme.head).name) + ", inputs " +
              std::string(activationName(decoder.activation)) + ", cache " +
              std::string(cacheInfo(how.cache).name) + "; ";
  const std::string name = "folds.json";
  std::optional<std::vector<Fold>> folds;
  if (work)
    if (std::optional<std::string> text = work->load(name))
      folds = readFolds(source.graph, *text, foldsKey);
  if (!folds) {
    SMELT_ASSIGN(folds, planFolds(source.graph, statistics, samples.samples, how));
    if (work)
      SMELT_TRY(work->save(name, foldsText(source.graph, *folds, foldsKey)));
  }
  foldModel(source, *folds);
  statistics = lookUpFolded(source.graph, statistics, *folds);
  for (const Fold &chosen : *folds)
    for (int32_t consumer : chosen.place.consumers)
      provenance.folds[source.graph.nodes[size_t(consumer)].name] = {
          foldName(chosen.algorithm), chosen.exponent, chosen.after / chosen.before};
  return {};
}

/// What each format would cost each matrix.
Status Compilation::survey(const Pipeline::Report &report) {
  const bool hasText = !samples.samples.empty();
  if (pipeline.runsTensors || options.candidates.empty() || !hasMoments || !hasText) {
    if (options.budget)
      return unsupported(std::string("a budget needs ") +
                         (pipeline.runsTensors ? "a graph that raises"
                          : hasText            ? "--effort 2 or 3"
                                               : "calibration text that the model can read") +
                         ", to find out what each matrix may lose");
    return {};
  }
  OutlookOptions how;
  how.formats = options.candidates;
  // Error feedback lowers the losses of all formats alike: the choice is as good without it (a mean
  // KL divergence of 0.0149 either way at 92 MB), in a third of the time.
  how.algorithm = Algorithm::Search;
  how.threads = options.threads;
  how.progress = [&](double share) {
    report(share);
    return true;
  };
  how.release = [&](const WeightView &view) { releasePages(*source.weights, view); };
  const std::string name = "survey.json";
  std::string key = foldsKey;
  for (WeightFormat format : options.candidates)
    key += std::string(formatInfo(format).name) + " ";
  if (std::optional<std::string> text = work->load(name))
    if (std::optional<std::vector<MatrixOutlook>> known = readOutlooks(*text, key)) {
      matrices = *std::move(known);
      return {};
    }
  SMELT_ASSIGN(matrices, surveyMatrices(*pipeline.module, source.graph, samples.samples, statistics,
                                        source.resolve, how));
  return work->save(name, outlooksText(matrices, key));
}

/// How the errors of a linear's rows count together, for the algorithm that asks.
Status Compilation::gatherOutputs(const Pipeline::Report &report) {
  if (algorithm != Algorithm::Coupled || pipeline.runsTensors)
    return {};
  if (samples.samples.empty()) {
    pipeline.warn("there is no text to take gradients of: the rows of a matrix are rounded one by "
                  "one, as with --effort 2");
    return {};
  }
  OutputMomentsOptions how;
  how.threads = options.threads;
  how.release = [&](const WeightView &view) { releasePages(*source.weights, view); };
  how.progress = [&](double share) {
    report(share);
    return true;
  };
  // Gradients at folded rows are others.
  outputs.emplace(work->outputsPath(foldsKey));
  return outputs->collect(source.graph, samples.samples, how);
}

/// The formats under the present goal.
Status Compilation::choose() {
  if (!plansFormats()) {
    plan.scheme = options.scheme;
    return {};
  }
  SMELT_ASSIGN(plan, planFormats(matrices, goal, options.scheme,
                                 {isEncoder(source.graph), options.effort > 2}));
  provenance.predicted = plan.kl;
  SMELT_ASSIGN(provenance.tried, tryPlans(matrices, plan));
  return {};
}

Status Compilation::quantize(const Pipeline::Report &report) {
  std::vector<std::unique_ptr<mlir::Pass>> passes;
  SMELT_TRY(choose());
  passes.push_back(createAssignSchemePass(plan.scheme));
  SMELT_TRY(pipeline.runPasses(std::move(passes)));
  SMELT_TRY(keepOrSay());
  PackOptions pack;
  pack.algorithm = algorithm;
  pack.statistics = statistics;
  if (outputs)
    pack.outputs = outputs->lookup();
  pack.threads = options.threads;
  pack.progress = [&](double share) {
    report(share);
    return true;
  };
  pack.release = [&](const WeightView &view) { releasePages(*source.weights, view); };
  std::optional<PackedFolder> kept;
  if (work) {
    kept.emplace(work->packedPath(), foldsKey + provenance.algorithm);
    pack.keeper = &*kept;
  }
  SMELT_ASSIGN(provenance.matrices, packWeights(*pipeline.module, source.resolve, *sink, pack));
  if (!pipeline.runsTensors) {
    std::vector<std::unique_ptr<mlir::Pass>> merge;
    merge.push_back(createFuseQkvPass());
    SMELT_TRY(pipeline.runPasses(std::move(merge)));
  }
  return {};
}

void Compilation::fillConfig(format::ModelConfig &config) const {
  completeConfig(config, provenance.use);
  config.bosToken = config.padToken = -1;
  std::fill(std::begin(config.eosTokens), std::end(config.eosTokens), -1);
  config.topP = 1;
  config.repetitionPenalty = 1;
  if (!tokenizer)
    return;
  config.bosToken = tokenizer->bosId;
  config.padToken = tokenizer->padId;
  size_t ends = std::min(tokenizer->eosIds.size(), std::size(config.eosTokens));
  std::copy_n(tokenizer->eosIds.begin(), ends, config.eosTokens);
  config.addBos = tokenizer->addBos;
  const GenerationDefaults &defaults = tokenizer->generation;
  // What authors say of temperature counts only where they sample at all.
  if (defaults.doSample.value_or(false))
    config.temperature = float(defaults.temperature.value_or(1));
  config.topP = float(defaults.topP.value_or(1));
  config.topK = uint32_t(defaults.topK.value_or(0));
  config.repetitionPenalty = float(defaults.repetitionPenalty.value_or(1));
}

/// A graph without a vocabulary of its own (rows in, rows out) has no special tokens either.
static void dropForeignTokens(format::ModelConfig &config) {
  auto drop = [&](int32_t &token) { token = token < int64_t(config.vocabSize) ? token : -1; };
  drop(config.bosToken);
  drop(config.padToken);
  for (int32_t &token : config.eosTokens)
    drop(token);
  config.addBos = config.addBos && config.bosToken >= 0;
}

Status Compilation::lower() {
  if (pipeline.runsTensors) {
    SMELT_ASSIGN(programs, lowerGraph(*pipeline.module, *source.weights, source.resolve, *sink,
                                      options.lower));
  } else {
    LowerOptions sizes = encoderSizes(options.lower, source.graph, positionLimit(source.graph));
    sizes.cache = cacheFormat();
    SMELT_ASSIGN(programs, lowerModel(*pipeline.module, source.resolve, *sink, sizes, targets()));
  }
  format::ModelConfig &config = programs.whole.config;
  provenance.classes =
      programs.tensors ? describeOutputs(config, *programs.tensors) : config.vocabSize;
  provenance.wholeTables = programs.whole.wholeTables;
  provenance.compactTables = programs.whole.compactTables;
  fillConfig(config);
  if (programs.tensors)
    dropForeignTokens(config);
  provenance.config = config;
  return {};
}

Status Compilation::generate(const Pipeline::Report &report) {
  CodegenOptions codegen;
  codegen.threads = options.threads;
  codegen.cache = &kernelCache;
  codegen.dumpAssembly = options.pipeline.dump;
  codegen.progress = report;
  return generatePrograms(programs, targets(), codegen);
}

Status Compilation::write() {
  using format::SectionKind;
  SMELT_TRY(writer->endSection());
  SMELT_TRY(addSections(*writer, programs, targets()));
  if (tokenizer) {
    SMELT_TRY(writer->addSection(SectionKind::Tokenizer, tokenizer->blob));
    if (!tokenizer->chatTemplate.empty())
      SMELT_TRY(writer->addSection(SectionKind::Template, tokenizer->chatTemplate));
  }
  provenance.sourceFile = options.model;
  provenance.sourceHash = source.hash;
  provenance.sourceBytes = source.bytes;
  SMELT_TRY(writer->addSection(SectionKind::Metadata, metadataJson(options, provenance)));
  SMELT_TRY(writer->finish());
  std::error_code error;
  outputBytes = fs::file_size(outputPath, error);
  return {};
}

/// From the chosen formats to a whole file.
Status Compilation::attempt() {
  SMELT_TRY(pipeline.run(Phase::Quantized, [&](const Report &r) { return quantize(r); }));
  SMELT_TRY(pipeline.run(Phase::Lowered, [&](const Report &) { return lower(); }));
  SMELT_TRY(pipeline.run(Phase::Generated, [&](const Report &r) { return generate(r); }));
  return pipeline.run(Phase::Written, [&](const Report &) { return write(); });
}

/// Plans, compiles and looks at the result until it keeps to the budget.
Status Compilation::attemptsUnderBudget() {
  double beside = 0;
  if (tokenizer)
    beside += double(tokenizer->blob.size() + tokenizer->chatTemplate.size());
  BudgetSearch search(*options.budget, beside);
  mlir::OwningOpRef<mlir::ModuleOp> fused = pipeline.module->clone();
  for (bool isDone = false; !isDone;) {
    goal = *options.budget;
    if (goal.kind == BudgetKind::MaxKl)
      SMELT_TRY(choose()); // for what activations are predicted to add
    goal = search.nextGoal(plan.activationKl);
    pipeline.module = fused->clone();
    outputPath = work->trialPath();
    SMELT_TRY(openOutput());
    SMELT_TRY(attempt());
    if (pipeline.stopped())
      return {};
    SMELT_ASSIGN(double reached, measureTrial());
    const BudgetSearch::Verdict verdict = search.record({reached, double(plan.bytes), plan.met});
    isDone = verdict.isDone;
    if (verdict.isBest)
      SMELT_TRY(keepTrial());
  }
  if (std::string missed = search.shortfall(); !missed.empty())
    pipeline.warn(missed);
  pipeline.showWarnings();
  outputPath = work->bestTrialPath();
  return placeOutput();
}

/// What the budget limits, of the finished trial.
Result<double> Compilation::measureTrial() {
  if (options.budget->kind == BudgetKind::MaxBytes)
    return double(outputBytes);
  if (options.budget->kind == BudgetKind::MeanBits) {
    int64_t weights = 0;
    for (const MatrixOutlook &matrix : matrices)
      weights += matrix.rows * matrix.cols;
    return 8.0 * double(plan.bytes) / double(weights);
  }
  SMELT_ASSIGN(Summary summary, verifyDivergence(outputPath, source.graph, heldBack,
                                                 options.threads, options.pipeline.quiet));
  if (!options.pipeline.quiet)
    std::fprintf(stderr, "verified: a mean KL divergence of %.5f on %lld tokens held back\n",
                 summary.divergence.mean, (long long)summary.tokens);
  return summary.divergence.mean;
}

/// The trial becomes the output; where that is on another disk, by way of a copy beside it.
Status Compilation::placeOutput() {
  std::error_code error;
  fs::rename(outputPath, options.output, error);
  if (error == std::errc::cross_device_link) {
    const std::string copy = temporaryPathOf(options.output);
    guard.emplace(copy);
    fs::copy_file(outputPath, copy, fs::copy_options::overwrite_existing, error);
    if (!error)
      fs::rename(copy, options.output, error);
    if (error) {
      std::error_code ignored;
      fs::remove(copy, ignored);
    }
  }
  if (error)
    return invalidArgument("cannot write '" + options.output + "': " + error.message() +
                           "; the finished artifact is '" + outputPath + "'");
  std::error_code ignored;
  for (const std::string &trial : {work->trialPath(), work->bestTrialPath()})
    fs::remove(trial, ignored);
  return {};
}

/// The best so far waits under another name.
Status Compilation::keepTrial() const {
  std::error_code error;
  fs::rename(outputPath, work->bestTrialPath(), error);
  if (error)
    return invalidArgument("cannot rename '" + outputPath + "' to '" + work->bestTrialPath() +
                           "': " + error.message());
  return {};
}

Status Compilation::run() {
  outputPath = options.output;
  SMELT_TRY(openOutput());
  // Before the long work: a tokenizer that cannot be read is found out at once.
  SMELT_ASSIGN(tokenizer, findTokenizer(options.model));
  SMELT_ASSIGN(provenance.use, readTextUse(fs::path(options.model).parent_path()));
  // An exact artifact of a graph that rounds its activations rounds them too.
  const bool isExact = options.scheme.decoder == WeightFormat::F32 && !options.keepQuantization;
  const IntegerProducts products = isExact ? IntegerProducts::Keep : IntegerProducts::Float;
  SMELT_TRY(runFrontend(pipeline, options.model, options.lower.maxContext,
                        options.asIs ? Fallback::Always : Fallback::AsIs, products, source));
  if (pipeline.runsTensors && !options.gpuTargets.empty())
    return unsupported("--target " + std::string(options.gpuTargets.front()->name) +
                       ": this model runs as a graph, which only CPUs do; leave it out");
  SMELT_TRY(pipeline.run(Phase::Calibrated, [&](const Report &r) { return prepareStatistics(r); }));
  SMELT_TRY(pipeline.run(Phase::Folded, [&](const Report &r) { return fold(r); }));
  SMELT_TRY(pipeline.run(Phase::Surveyed, [&](const Report &r) -> Status {
    const double share = algorithm == Algorithm::Coupled ? 0.3 : 1.0; // of the time
    SMELT_TRY(survey([&](double done) { r(share * done); }));
    return gatherOutputs([&](double done) { r(share + (1 - share) * done); });
  }));
  if (plansFormats() && options.budget)
    SMELT_TRY(attemptsUnderBudget());
  else {
    if (plansFormats())
      goal = usualGoal(matrices, options.scheme, options.effort > 2);
    SMELT_TRY(attempt());
  }
  if (work && options.work.empty() && !pipeline.stopped())
    work->remove();
  return {};
}

} // namespace

Status compileModel(const CompileOptions &options) { return Compilation(options).run(); }

} // namespace smelt
