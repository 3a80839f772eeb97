// What an evaluation found, for people and as JSON.
#include "compiler/driver/evaluate.h"

#include <cstdio>

namespace smelt {

namespace {

/// Lines like printf's.
class Lines {
public:
  template <typename... Values> void operator()(const char *format, Values... values) {
    char buffer[256];
    std::snprintf(buffer, sizeof buffer, format, values...);
    text += buffer;
  }
  std::string text;
};

void writeSummary(Lines &line, const TextResult &result, bool hasReference) {
  const Summary &s = result.summary;
  line("scored               %lld tokens in %lld windows\n", (long long)s.tokens,
       (long long)result.windows);
  line("perplexity           %.4f +- %.4f\n", s.perplexity.mean, s.perplexity.error);
  if (!hasReference)
    return;
  line("  of the reference   %.4f +- %.4f\n", s.referencePerplexity.mean,
       s.referencePerplexity.error);
  line("  ratio              %.5f +- %.5f\n", s.perplexityRatio.mean, s.perplexityRatio.error);
  line("KL divergence        mean %.5f +- %.5f\n", s.divergence.mean, s.divergence.error);
  line("                     median %.5f, 90 %% %.5f, 99 %% %.5f, 99.9 %% %.5f, largest %.5f\n",
       s.medianDivergence, s.divergence90, s.divergence99, s.divergence999, s.largestDivergence);
  line("same top token       %.2f %% +- %.2f %%\n", 100 * s.sameTop.mean, 100 * s.sameTop.error);
  for (size_t i = 0; i < topCounts.size(); ++i)
    line("flips in the top %-2d  %.2f %% +- %.2f %%\n", topCounts[i], 100 * (1 - s.overlap[i].mean),
         100 * s.overlap[i].error);
  line("p of the right token mean %+.3f %% +- %.3f %%, RMS %.3f %%\n",
       100 * s.probabilityShift.mean, 100 * s.probabilityShift.error, 100 * s.shiftRms);
}

void writeRate(Lines &line, const char *what, const Rate &rate) {
  line("%-20s %.2f %% (95 %%: %.2f to %.2f), %lld of %lld\n", what, 100 * rate.value,
       100 * rate.low, 100 * rate.high, (long long)rate.hits, (long long)rate.items);
}

void writeTask(Lines &line, const TaskResult &task) {
  const auto &reference = task.reference;
  if (task.kind == "similarity") {
    line("pairs                %lld\n", (long long)task.items);
    line("Spearman             %.4f\n", task.spearman);
    if (!reference)
      return;
    line("  of the reference   %.4f\n", reference->spearman);
    line("  of both's cosines  %.4f; they differ by %.5f, at most %.5f\n",
         reference->spearmanOfCosines, reference->meanCosineShift, reference->largestCosineShift);
    return;
  }
  const bool isChoice = task.kind == "choice";
  writeRate(line, isChoice ? "acc" : "passed", task.accuracy);
  if (reference)
    writeRate(line, "  of the reference", reference->accuracy);
  if (isChoice)
    writeRate(line, "acc_norm", task.accuracyNorm);
  if (isChoice && reference)
    writeRate(line, "  of the reference", reference->accuracyNorm);
  if (!reference)
    return;
  writeRate(line, "flips", reference->flips.rate);
  line("                     %lld lost, %lld won, %lld answers changed\n",
       (long long)reference->flips.lost, (long long)reference->flips.won,
       (long long)reference->flips.changed);
}

void addSummary(Json &object, const TextResult &result, bool hasReference) {
  const Summary &s = result.summary;
  object.set("tokens", s.tokens);
  object.set("windows", result.windows);
  object.set("ppl", s.perplexity.mean);
  object.set("ppl_error", s.perplexity.error);
  if (!hasReference)
    return;
  object.set("ppl_reference", s.referencePerplexity.mean);
  object.set("ppl_reference_error", s.referencePerplexity.error);
  object.set("ppl_ratio", s.perplexityRatio.mean);
  object.set("ppl_ratio_error", s.perplexityRatio.error);
  object.set("mean_kl", s.divergence.mean);
  object.set("mean_kl_error", s.divergence.error);
  object.set("median_kl", s.medianDivergence);
  object.set("kl_90", s.divergence90);
  object.set("kl_99", s.divergence99);
  object.set("kl_99_9", s.divergence999);
  object.set("max_kl", s.largestDivergence);
  object.set("same_top", s.sameTop.mean);
  object.set("same_top_error", s.sameTop.error);
  object.set("mean_delta_p", s.probabilityShift.mean);
  object.set("mean_delta_p_error", s.probabilityShift.error);
  object.set("rms_delta_p", s.shiftRms);
  for (size_t i = 0; i < topCounts.size(); ++i) {
    object.set("top" + std::to_string(topCounts[i]) + "_flips", 1 - s.overlap[i].mean);
    object.set("top" + std::to_string(topCounts[i]) + "_flips_error", s.overlap[i].error);
  }
}

Json histogramJson(const Summary &summary) {
  Json object;
  object.set("lowest_log10", Summary::histogramLowest);
  object.set("per_decade", Summary::histogramPerDecade);
  object.set("counts", Json::Array(summary.histogram.begin(), summary.histogram.end()));
  return object;
}

Json rateJson(const Rate &rate) {
  Json object;
  object.set("value", rate.value);
  object.set("low", rate.low);
  object.set("high", rate.high);
  object.set("hits", rate.hits);
  object.set("items", rate.items);
  return object;
}

/// Scores that the model and its reference both have.
template <typename Scores> void addScores(Json &object, const std::string &kind, const Scores &of) {
  if (kind == "similarity") {
    object.set("spearman", of.spearman);
    return;
  }
  object.set(kind == "choice" ? "acc" : "passed", rateJson(of.accuracy));
  if (kind == "choice")
    object.set("acc_norm", rateJson(of.accuracyNorm));
}

Json taskJson(const TaskResult &task) {
  Json object;
  object.set("task", task.path);
  object.set("kind", task.kind);
  object.set("items", task.items);
  addScores(object, task.kind, task);
  if (!task.reference)
    return object;
  Json reference;
  addScores(reference, task.kind, *task.reference);
  object.set("reference", std::move(reference));
  if (task.kind == "similarity") {
    object.set("spearman_of_cosines", task.reference->spearmanOfCosines);
    object.set("mean_cosine_shift", task.reference->meanCosineShift);
    object.set("largest_cosine_shift", task.reference->largestCosineShift);
    return object;
  }
  const Flips &flips = task.reference->flips;
  object.set("flips", rateJson(flips.rate));
  object.set("lost", flips.lost);
  object.set("won", flips.won);
  object.set("changed", flips.changed);
  return object;
}

} // namespace

std::string evaluationText(const Evaluation &evaluation, bool hasReference) {
  Lines line;
  line("model                %.1f MB\n", double(evaluation.bytes) / 1e6);
  if (evaluation.texts.size() > 1)
    for (const TextResult &result : evaluation.texts) {
      line.text += "\n" + result.path + "\n";
      writeSummary(line, result, hasReference);
    }
  if (!evaluation.texts.empty()) {
    line.text += evaluation.texts.size() > 1 ? "\nall texts\n" : "";
    writeSummary(line, evaluation.all, hasReference);
  }
  for (const TaskResult &task : evaluation.tasks) {
    line.text += "\n" + task.path + ", " + task.kind + "\n";
    writeTask(line, task);
  }
  return std::move(line.text);
}

Json evaluationJson(const Evaluation &evaluation, const EvaluateOptions &options) {
  const bool hasReference = !options.reference.empty();
  Json object;
  object.set("model", options.model);
  if (hasReference)
    object.set("reference", options.reference);
  object.set("bytes", evaluation.bytes);
  if (!evaluation.texts.empty()) {
    object.set("context", options.context);
    addSummary(object, evaluation.all, hasReference);
    if (hasReference)
      object.set("kl_histogram", histogramJson(evaluation.all.summary));
    Json::Array texts;
    for (const TextResult &result : evaluation.texts) {
      Json text;
      text.set("text", result.path);
      addSummary(text, result, hasReference);
      texts.push_back(std::move(text));
    }
    object.set("texts", std::move(texts));
  }
  if (!evaluation.tasks.empty()) {
    Json::Array tasks;
    for (const TaskResult &task : evaluation.tasks)
      tasks.push_back(taskJson(task));
    object.set("tasks", std::move(tasks));
  }
  return object;
}

} // namespace smelt
