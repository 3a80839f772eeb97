// Windows of texts and items of tasks through a model and its reference, scored as they come.
#include "compiler/driver/evaluate.h"

#include "calibration/parallel.h"
#include "compiler/driver/evaluated_model.h"
#include "runtime/tools/progress.h"

#include "llvm/Support/MemoryBuffer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace smelt {

Status scoreRows(const std::vector<int32_t> &window, std::span<const float> ours,
                 std::span<const float> theirs, int64_t vocab, WorkerPool &pool,
                 std::vector<TokenScore> &scores) {
  const int64_t first = int64_t(window.size()) / 2;
  const size_t rows = window.size() - 1 - size_t(first), start = scores.size();
  if (ours.size() != rows * size_t(vocab) || (!theirs.empty() && theirs.size() != ours.size()))
    return internalError("there are not as many logits as scored tokens of a window");
  for (int32_t token : std::span(window).subspan(size_t(first) + 1))
    if (token >= vocab)
      return invalidArgument(
          "the text holds token " + std::to_string(token) + ", but the model scores only " +
          std::to_string(vocab) +
          " (classes?): it does not predict the tokens that its tokenizer makes");
  scores.resize(start + rows);
  pool.run(int64_t(rows), [&](int64_t row) {
    auto of = [&](std::span<const float> all) {
      return all.subspan(size_t(row * vocab), size_t(vocab));
    };
    scores[start + size_t(row)] =
        scoreToken(of(ours), theirs.empty() ? std::span<const float>() : of(theirs),
                   window[size_t(first + row + 1)]);
  });
  for (size_t i = start; i < scores.size(); ++i)
    if (!std::isfinite(scores[i].loss) || !std::isfinite(scores[i].divergence))
      return corrupt("the logits after token " + std::to_string(size_t(first) + i - start) +
                     " of a window are not finite numbers");
  return {};
}

namespace {

/// Room for tasks, if the model has it.
constexpr int64_t taskContext = 2048;

/// The whole text as windows of exactly `context` tokens; what does not fill a window is left out.
Result<std::vector<std::vector<int32_t>>>
readWindows(const EvaluatedModel &model, const std::string &path, const EvaluateOptions &options) {
  auto buffer = llvm::MemoryBuffer::getFile(path, false, false);
  if (!buffer)
    return notFound("cannot read '" + path + "': " + buffer.getError().message());
  llvm::StringRef text = (*buffer)->getBuffer();
  SMELT_ASSIGN(std::vector<int32_t> ids, model.encode({text.data(), text.size()}, true, false));
  size_t length = size_t(options.context), count = ids.size() / length;
  if (options.chunks > 0)
    count = std::min(count, size_t(options.chunks));
  if (count == 0)
    return invalidArgument("'" + path + "' has " + std::to_string(ids.size()) +
                           " tokens, which is less than one window of " + std::to_string(length));
  std::vector<std::vector<int32_t>> windows;
  for (size_t i = 0; i < count; ++i) {
    windows.emplace_back(ids.begin() + ptrdiff_t(i * length),
                         ids.begin() + ptrdiff_t((i + 1) * length));
    if (model.bosToken() >= 0)
      windows.back()[0] = model.bosToken();
  }
  return windows;
}

/// Scores of one window.
Status scoreWindow(EvaluatedModel &model, EvaluatedModel *reference, WorkerPool &pool,
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
  SMELT_TRY(model.logits(fed, first, keep(ours)));
  if (reference) {
    theirs.resize(ours.size());
    SMELT_TRY(reference->logits(fed, first, keep(theirs)));
  }
  return scoreRows(window, ours, theirs, vocab, pool, scores);
}

/// Opened models and what has been found with them.
class Evaluator {
public:
  explicit Evaluator(const EvaluateOptions &options)
      : options(options), progress(!options.quiet), pool(options.threads) {}

  Result<Evaluation> run() {
    SMELT_TRY(open());
    std::vector<TokenScore> scores;
    for (const std::string &path : options.texts)
      SMELT_TRY(evaluateText(path, scores));
    found.all.summary = summarize(scores);
    for (const TaskFile &file : files)
      SMELT_TRY(evaluateTask(file));
    progress.end();
    found.bytes = model->bytes();
    return std::move(found);
  }

private:
  Status open() {
    // Before the long work: files that are malformed are found out at once.
    for (const std::string &path : options.tasks) {
      SMELT_ASSIGN(TaskFile file, readTaskFile(path));
      files.push_back(std::move(file));
    }
    progress.begin("opening");
    ModelSettings settings{options.context, files.empty() ? 0 : taskContext, options.threads,
                           options.target, options.device};
    SMELT_ASSIGN(model, EvaluatedModel::open(options.model, settings));
    settings.device = "cpu"; // of the reference
    if (!model->tokenizer())
      return unsupported("'" + options.model +
                         "' has no tokenizer, so it cannot read text; compile it from a folder "
                         "with tokenizer.json");
    if (model->isEncoder() && !options.texts.empty())
      return invalidArgument("'" + options.model +
                             "' gives embeddings and predicts no tokens: give pairs of texts with "
                             "--task instead of --text");
    if (options.reference.empty())
      return {};
    SMELT_ASSIGN(reference, EvaluatedModel::open(options.reference, settings));
    if (reference->vocabSize() == model->vocabSize() &&
        reference->isEncoder() == model->isEncoder())
      return {};
    const char *columns = model->isEncoder() ? " columns, '" : " tokens, '";
    return invalidArgument("'" + options.reference + "' predicts " +
                           std::to_string(reference->vocabSize()) + columns + options.model + "' " +
                           std::to_string(model->vocabSize()) + ": they are not the same model");
  }

  Status evaluateText(const std::string &path, std::vector<TokenScore> &scores) {
    SMELT_ASSIGN(std::vector<std::vector<int32_t>> windows, readWindows(*model, path, options));
    const size_t start = scores.size();
    progress.begin("text " + nameOf(path), windows.size());
    for (size_t i = 0; i < windows.size(); ++i) {
      SMELT_TRY(scoreWindow(*model, reference.get(), pool, windows[i], scores));
      progress.update(i + 1);
    }
    found.texts.push_back(
        {path, summarize(std::span(scores).subspan(start)), int64_t(windows.size())});
    found.all.windows += int64_t(windows.size());
    return {};
  }

  Status evaluateTask(const TaskFile &file) {
    auto score = [&](EvaluatedModel &of, const std::string &who) {
      progress.begin("task " + nameOf(file.path) + who);
      return scoreTask(of, file, options.items,
                       [&](int64_t done) { progress.update(uint64_t(done)); });
    };
    SMELT_ASSIGN(TaskScores ours, score(*model, ""));
    if (!reference) {
      found.tasks.push_back(summarizeTask(file, ours, nullptr));
      return {};
    }
    SMELT_ASSIGN(TaskScores theirs, score(*reference, ", reference"));
    found.tasks.push_back(summarizeTask(file, ours, &theirs));
    return {};
  }

  static std::string nameOf(const std::string &path) {
    return std::filesystem::path(path).filename().string();
  }

  const EvaluateOptions &options;
  cli::Progress progress;
  WorkerPool pool;
  std::vector<TaskFile> files;
  std::unique_ptr<EvaluatedModel> model, reference;
  Evaluation found;
};

} // namespace

Result<Evaluation> evaluate(const EvaluateOptions &options) {
  if (options.context < 4)
    return invalidArgument("--context is " + std::to_string(options.context) +
                           ", expected at least 4 tokens");
  return Evaluator(options).run();
}

} // namespace smelt
