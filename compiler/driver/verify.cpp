// Windows through the artifact's own session and through the float model, scored side by side.
#include "compiler/driver/verify.h"

#include "calibration/collect.h"
#include "compiler/driver/evaluate.h"
#include "compiler/driver/evaluated_model.h"
#include "runtime/tools/progress.h"

#include <algorithm>

namespace smelt {

Result<Summary> verifyDivergence(const std::string &artifact, const Graph &graph,
                                 const std::vector<std::vector<int32_t>> &windows, int threads,
                                 bool quiet) {
  ModelSettings settings;
  settings.threads = threads;
  for (const std::vector<int32_t> &window : windows)
    settings.context = std::max(settings.context, int64_t(window.size()));
  SMELT_ASSIGN(std::unique_ptr<EvaluatedModel> model, EvaluatedModel::open(artifact, settings));
  WorkerPool pool(threads);
  cli::Progress progress(!quiet);
  progress.begin("verifying", windows.size());
  std::vector<TokenScore> scores;
  for (size_t i = 0; i < windows.size(); ++i) {
    const std::vector<int32_t> &window = windows[i];
    if (window.size() < 4)
      continue; // nothing to score
    std::vector<int32_t> fed(window.begin(), window.end() - 1);
    const int64_t first = int64_t(window.size()) / 2;
    std::vector<int32_t> rows;
    for (int64_t row = first; row < int64_t(fed.size()); ++row)
      rows.push_back(int32_t(row));
    SMELT_ASSIGN(std::vector<float> theirs, floatLogits(graph, fed, rows, threads));
    std::vector<float> ours;
    SMELT_TRY(model->logits(fed, first, [&](int64_t, std::span<const float> logits) -> Status {
      ours.insert(ours.end(), logits.begin(), logits.end());
      return {};
    }));
    SMELT_TRY(scoreRows(window, ours, theirs, graph.vocabSize, pool, scores));
    progress.update(i + 1);
  }
  progress.end();
  if (scores.empty())
    return invalidArgument("the windows to verify on are too short");
  return summarize(scores);
}

} // namespace smelt
