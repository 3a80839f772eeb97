// Windows of a text through an artifact and its reference, scored as they come.
#include "compiler/driver/evaluate.h"

#include "calibration/collect.h"
#include "calibration/parallel.h"
#include "compiler/driver/frontend.h"
#include "runtime/model/session.h"
#include "runtime/tools/progress.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace smelt {

namespace {

/// Gives the logits [vocab] after tokens [first, tokens.size()) of one sequence, in order.
class LogitSource {
public:
  using Receiver = std::function<Status(int64_t position, std::span<const float> logits)>;
  virtual ~LogitSource() = default;
  virtual Status run(const std::vector<int32_t> &tokens, int64_t first,
                     const Receiver &receiver) = 0;
  virtual int64_t vocabSize() const = 0;
};

/// An artifact, by the runtime's own step.
class ArtifactSource : public LogitSource {
public:
  static Result<std::unique_ptr<ArtifactSource>> open(const std::string &path,
                                                      const EvaluateOptions &options) {
    auto source = std::make_unique<ArtifactSource>();
    SMELT_ASSIGN(source->model, Model::open(path, options.target));
    int64_t limit = source->model->config().maxContext;
    if (options.context > limit)
      return invalidArgument("--context is " + std::to_string(options.context) + ", but '" + path +
                             "' has " + std::to_string(limit) + " positions");
    SessionOptions session;
    session.context = uint32_t(options.context);
    session.threads = uint32_t(options.threads);
    SMELT_ASSIGN(source->session, Session::create(source->model, session));
    return source;
  }

  Status run(const std::vector<int32_t> &tokens, int64_t first, const Receiver &receiver) override {
    SMELT_TRY(session->truncate(0, 0));
    const format::ModelConfig &config = model->config();
    int64_t count = int64_t(tokens.size());
    for (int64_t begin = 0; begin < count;) {
      // Tokens whose logits nobody asked for go in large steps.
      bool scored = begin >= first;
      int64_t end = scored ? std::min(count, begin + config.maxLogitRows)
                           : std::min(first, begin + config.maxTokens);
      end = std::min(end, begin + int64_t(config.maxTokens));
      std::vector<Token> step;
      std::vector<int32_t> rows;
      for (int64_t i = begin; i < end; ++i) {
        step.push_back({tokens[size_t(i)], int32_t(i), 0});
        if (scored)
          rows.push_back(int32_t(i - begin));
      }
      SMELT_TRY(session->step(step, rows));
      for (size_t row = 0; row < rows.size(); ++row)
        SMELT_TRY(receiver(begin + int64_t(row), session->logits(row)));
      begin = end;
    }
    return {};
  }

  int64_t vocabSize() const override { return model->config().vocabSize; }

  std::shared_ptr<const Model> model;

private:
  std::unique_ptr<Session> session;
};

/// The float model of an ONNX file, interpreted.
class GraphSource : public LogitSource {
public:
  static Result<std::unique_ptr<GraphSource>> open(const EvaluateOptions &options) {
    auto source = std::make_unique<GraphSource>();
    source->threads = options.threads;
    SMELT_ASSIGN(source->model, loadSourceModel(options.reference, options.context));
    return source;
  }

  Status run(const std::vector<int32_t> &tokens, int64_t first, const Receiver &receiver) override {
    std::vector<int32_t> rows;
    for (int64_t i = first; i < int64_t(tokens.size()); ++i)
      rows.push_back(int32_t(i));
    SMELT_ASSIGN(std::vector<float> logits, floatLogits(model.graph, tokens, rows, threads));
    for (size_t i = 0; i < rows.size(); ++i)
      SMELT_TRY(receiver(rows[i],
                         std::span(logits).subspan(i * size_t(vocabSize()), size_t(vocabSize()))));
    return {};
  }

  int64_t vocabSize() const override { return model.graph.vocabSize; }

private:
  SourceModel model;
  int threads = 0;
};

Result<std::unique_ptr<LogitSource>> openReference(const EvaluateOptions &options) {
  if (options.reference.ends_with(".smelt")) {
    SMELT_ASSIGN(std::unique_ptr<LogitSource> source,
                 ArtifactSource::open(options.reference, options));
    return source;
  }
  SMELT_ASSIGN(std::unique_ptr<LogitSource> source, GraphSource::open(options));
  return source;
}

/// The whole text as windows of exactly `context` tokens; what does not fill a window is left out.
Result<std::vector<std::vector<int32_t>>> readWindows(const Model &model,
                                                      const EvaluateOptions &options) {
  if (!model.tokenizer())
    return unsupported("'" + options.model +
                       "' has no tokenizer, so it cannot read text; compile "
                       "it from a folder with tokenizer.json");
  auto buffer = llvm::MemoryBuffer::getFile(options.text, false, false);
  if (!buffer)
    return notFound("cannot read '" + options.text + "': " + buffer.getError().message());
  EncodeOptions encode;
  encode.parseSpecial = false;
  llvm::StringRef text = (*buffer)->getBuffer();
  SMELT_ASSIGN(std::vector<int32_t> ids,
               model.tokenizer()->encode(std::string_view(text.data(), text.size()), encode));
  size_t length = size_t(options.context), count = ids.size() / length;
  if (options.chunks > 0)
    count = std::min(count, size_t(options.chunks));
  if (count == 0)
    return invalidArgument("'" + options.text + "' has " + std::to_string(ids.size()) +
                           " tokens, which is less than one window of " + std::to_string(length));
  std::vector<std::vector<int32_t>> windows;
  for (size_t i = 0; i < count; ++i) {
    windows.emplace_back(ids.begin() + ptrdiff_t(i * length),
                         ids.begin() + ptrdiff_t((i + 1) * length));
    if (model.config().addBos && model.config().bosToken >= 0)
      windows.back()[0] = model.config().bosToken;
  }
  return windows;
}

/// Scores of one window.
Status scoreWindow(LogitSource &model, LogitSource *reference, WorkerPool &pool,
                   const std::vector<int32_t> &window, std::vector<TokenScore> &scores) {
  // The last token has no successor in the window.
  std::vector<int32_t> fed(window.begin(), window.end() - 1);
  int64_t first = int64_t(window.size()) / 2, vocab = model.vocabSize();
  size_t rows = fed.size() - size_t(first);
  std::vector<float> ours(rows * size_t(vocab)), theirs;
  auto keep = [&](std::vector<float> &into) {
    return [&, first, vocab](int64_t position, std::span<const float> logits) -> Status {
      std::copy(logits.begin(), logits.end(), into.begin() + (position - first) * vocab);
      return {};
    };
  };
  SMELT_TRY(model.run(fed, first, keep(ours)));
  if (reference) {
    theirs.resize(ours.size());
    SMELT_TRY(reference->run(fed, first, keep(theirs)));
  }
  size_t start = scores.size();
  scores.resize(start + rows);
  pool.run(int64_t(rows), [&](int64_t row) {
    auto of = [&](const std::vector<float> &all) {
      return std::span(all).subspan(size_t(row * vocab), size_t(vocab));
    };
    scores[start + size_t(row)] =
        scoreToken(of(ours), reference ? of(theirs) : std::span<const float>(),
                   window[size_t(first + row + 1)]);
  });
  for (size_t i = start; i < scores.size(); ++i)
    if (!std::isfinite(scores[i].loss) || !std::isfinite(scores[i].divergence))
      return corrupt("the logits after token " + std::to_string(size_t(first) + i - start) +
                     " of a window are not finite numbers");
  return {};
}

} // namespace

Result<Evaluation> evaluate(const EvaluateOptions &options) {
  if (options.context < 4)
    return invalidArgument("--context is " + std::to_string(options.context) +
                           ", expected at least 4 tokens");
  cli::Progress progress(!options.quiet);
  progress.begin("opening");
  SMELT_ASSIGN(std::unique_ptr<ArtifactSource> model, ArtifactSource::open(options.model, options));
  SMELT_ASSIGN(std::vector<std::vector<int32_t>> windows, readWindows(*model->model, options));
  std::unique_ptr<LogitSource> reference;
  if (!options.reference.empty()) {
    SMELT_ASSIGN(reference, openReference(options));
    if (reference->vocabSize() != model->vocabSize())
      return invalidArgument("'" + options.reference + "' predicts " +
                             std::to_string(reference->vocabSize()) + " tokens, '" + options.model +
                             "' " + std::to_string(model->vocabSize()) +
                             ": they are not the same model");
  }
  WorkerPool pool(options.threads);
  std::vector<TokenScore> scores;
  progress.begin("evaluating", windows.size());
  for (size_t i = 0; i < windows.size(); ++i) {
    SMELT_TRY(scoreWindow(*model, reference.get(), pool, windows[i], scores));
    progress.update(i + 1);
  }
  progress.end();
  return Evaluation{summarize(scores), int64_t(windows.size()),
                    model->model->artifact().fileBytes()};
}

std::string evaluationText(const Evaluation &evaluation, bool hasReference) {
  const Summary &s = evaluation.summary;
  std::string text;
  auto line = [&](const char *format, auto... values) {
    char buffer[160];
    std::snprintf(buffer, sizeof buffer, format, values...);
    text += buffer;
  };
  line("artifact             %.1f MB\n", double(evaluation.bytes) / 1e6);
  line("scored               %lld tokens in %lld windows\n", (long long)s.tokens,
       (long long)evaluation.windows);
  line("perplexity           %.4f +- %.4f\n", s.perplexity.mean, s.perplexity.error);
  if (!hasReference)
    return text;
  line("  of the reference   %.4f +- %.4f\n", s.referencePerplexity.mean,
       s.referencePerplexity.error);
  line("  ratio              %.5f +- %.5f\n", s.perplexityRatio.mean, s.perplexityRatio.error);
  line("KL divergence        mean %.5f +- %.5f\n", s.divergence.mean, s.divergence.error);
  line("                     median %.5f, 99 %% %.5f, largest %.5f\n", s.medianDivergence,
       s.divergence99, s.largestDivergence);
  line("same top token       %.2f %% +- %.2f %%\n", 100 * s.sameTop.mean, 100 * s.sameTop.error);
  return text;
}

std::string evaluationJson(const Evaluation &evaluation, const EvaluateOptions &options) {
  const Summary &s = evaluation.summary;
  llvm::json::Object object{{"model", options.model},
                            {"text", options.text},
                            {"bytes", int64_t(evaluation.bytes)},
                            {"tokens", s.tokens},
                            {"windows", evaluation.windows},
                            {"context", options.context},
                            {"ppl", s.perplexity.mean},
                            {"ppl_error", s.perplexity.error}};
  if (!options.reference.empty()) {
    object["reference"] = options.reference;
    object["ppl_reference"] = s.referencePerplexity.mean;
    object["ppl_reference_error"] = s.referencePerplexity.error;
    object["ppl_ratio"] = s.perplexityRatio.mean;
    object["ppl_ratio_error"] = s.perplexityRatio.error;
    object["mean_kl"] = s.divergence.mean;
    object["mean_kl_error"] = s.divergence.error;
    object["median_kl"] = s.medianDivergence;
    object["kl_99"] = s.divergence99;
    object["max_kl"] = s.largestDivergence;
    object["same_top"] = s.sameTop.mean;
    object["same_top_error"] = s.sameTop.error;
  }
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(object));
  return text;
}

} // namespace smelt
