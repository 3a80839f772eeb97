// Scores of task files: accuracy, pass rates and rank correlation, with what is uncertain about
// them and how many answers a compressed model changes.
#pragma once

#include "compiler/driver/evaluated_model.h"
#include "compiler/driver/tasks.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// A share of items with its 95 % interval (Wilson 1927: sound also near 0 and 1, and for few
/// items).
struct Rate {
  int64_t hits = 0, items = 0;
  double value = 0, low = 0, high = 1;
};
Rate rateOf(int64_t hits, int64_t items);

/// How the model's answers differ from the reference's: flips in the sense of "Accuracy is not all
/// you need" (Dutta et al. 2024).
struct Flips {
  int64_t lost = 0, won = 0; ///< right only by the reference; right only by the model
  int64_t changed = 0;       ///< another answer, right or wrong
  Rate rate;                 ///< of lost + won
};

/// Scores of one model on one file; what does not belong to its kind is empty.
struct TaskScores {
  std::vector<bool> right;          ///< per item: choice by log likelihood, or the answer passes
  std::vector<bool> rightNorm;      ///< choices: by log likelihood per character
  std::vector<std::string> answers; ///< the choice's number, or the generated text
  std::vector<double> cosines;      ///< pairs
};

struct TaskResult {
  std::string path, kind; ///< kind: "choice", "generation" or "similarity"
  int64_t items = 0;
  Rate accuracy,
      accuracyNorm;    ///< choice: lm-eval's acc and acc_norm; generation: accuracy = passed
  double spearman = 0; ///< similarity: of cosine against score
  struct Compared {
    Rate accuracy, accuracyNorm;
    double spearman = 0;          ///< the reference's
    double spearmanOfCosines = 0; ///< of the two models' cosines
    double meanCosineShift = 0, largestCosineShift = 0;
    Flips flips;
  };
  std::optional<Compared> reference;
};

using ItemProgress = std::function<void(int64_t done)>;

/// Runs the first `limit` items (0: all).
///
/// Choices are scored as lm-eval-harness does: the log likelihood of the choice's tokens after the
/// context, with a space between unless there is white space; acc takes the largest, acc_norm the
/// largest divided by the choice's characters. Answers are greedy. Similarity is the cosine of two
/// embeddings.
Result<TaskScores> scoreTask(EvaluatedModel &model, const TaskFile &file, int64_t limit,
                             const ItemProgress &progress);
/// `reference` may be null.
TaskResult summarizeTask(const TaskFile &file, const TaskScores &scores,
                         const TaskScores *reference);

/// Spearman's rank correlation, equal values sharing their mean rank; 0 if either is constant.
double spearman(std::span<const double> a, std::span<const double> b);

} // namespace smelt
