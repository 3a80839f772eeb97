// `smelt eval`: how well a model predicts texts and solves tasks, and how far its predictions and
// answers are from a reference's.
#pragma once

#include "calibration/parallel.h"
#include "compiler/driver/divergence.h"
#include "compiler/driver/task_scores.h"
#include "runtime/base/json.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace smelt {

struct EvaluateOptions {
  std::string model;              ///< artifact or ONNX model
  std::string reference;          ///< ONNX model or an artifact; empty: no comparison
  std::vector<std::string> texts; ///< files
  std::vector<std::string> tasks; ///< files (tasks.h)
  int64_t context = 512;          ///< tokens of a window
  int64_t chunks = 0;             ///< windows of a text at most; 0: all
  int64_t items = 0;              ///< of a task at most; 0: all
  int threads = 0;                ///< 0: one per core
  std::string target;             ///< code of artifacts to use; empty: the best for this CPU
  std::string device = "cpu";     ///< what runs `model`, if it is an artifact; see chooseDevice()
  bool quiet = false;             ///< no progress
};

/// What was found on one text, or on all together.
struct TextResult {
  std::string path; ///< empty: all together
  Summary summary;
  int64_t windows = 0;
};

struct Evaluation {
  std::vector<TextResult> texts; ///< in the order given
  TextResult all;                ///< of all tokens of all texts; nothing without texts
  std::vector<TaskResult> tasks;
  uint64_t bytes = 0; ///< size of the model
};

/// Adds the scores of one window's second half but its first token: logits [rows, vocab] of the
/// model and, unless empty, of the reference after the tokens [size / 2, size - 1). Refuses what is
/// not finite.
[[nodiscard]] Status scoreRows(const std::vector<int32_t> &window, std::span<const float> ours,
                               std::span<const float> theirs, int64_t vocab, WorkerPool &pool,
                               std::vector<TokenScore> &scores);

/// Texts are cut into windows of `context` tokens, the first of each replaced by BOS if the model
/// starts prompts with one, and the prediction of every token in the second half but the half's
/// first is scored (llama.cpp's convention). One window is in memory at a time. InvalidArgument if
/// a text is shorter than a window, or the model is not one for what is asked.
Result<Evaluation> evaluate(const EvaluateOptions &options);

/// The result for people, or as one JSON object. Without a reference the comparison is left out.
std::string evaluationText(const Evaluation &evaluation, bool hasReference);
Json evaluationJson(const Evaluation &evaluation, const EvaluateOptions &options);

} // namespace smelt
