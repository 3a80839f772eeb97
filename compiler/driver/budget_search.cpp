// Seeks, trial after trial, the plan whose finished artifact just keeps to a budget.
#include "compiler/driver/budget_search.h"

#include <algorithm>
#include <cstdio>

namespace smelt {

namespace {
/// Of a divergence or a mean. Bytes need no bound: every trial plans for fewer.
constexpr int mostTrials = 4;
/// A divergence of this share of the budget is near enough: the next step of the plan is coarser.
constexpr double near = 0.97;
constexpr double aim = 0.985;
/// Code and metadata differ a little with the formats; twice as much is expected after every trial
/// that weighs too much.
constexpr double firstSlack = 8192;
} // namespace

BudgetGoal BudgetSearch::nextGoal(double activationKl) const {
  BudgetGoal goal = budget;
  if (budget.kind == BudgetKind::MaxBytes)
    goal.limit = std::max(1.0, budget.limit - bytesBeside - slackBytes);
  if (budget.kind == BudgetKind::MaxKl)
    goal.limit = std::max(1e-9, budget.limit / underestimate - activationKl);
  return goal;
}

/// One that keeps to the budget is the better the nearer it comes; others as well.
bool BudgetSearch::isBetter(double reached) const {
  const bool keeps = reached <= budget.limit;
  if (!best || keeps != (best->reached <= budget.limit))
    return !best || keeps;
  return keeps ? reached > best->reached : reached < best->reached;
}

BudgetSearch::Verdict BudgetSearch::record(const BudgetTrial &trial) {
  const bool isBest = isBetter(trial.reached);
  if (isBest)
    best = trial;
  ++trials;
  const bool keeps = trial.reached <= budget.limit;
  bool isDone = false;
  switch (budget.kind) {
  case BudgetKind::MaxBytes:
    isDone = keeps;
    bytesBeside = trial.reached - trial.plannedBytes;
    slackBytes = std::max(firstSlack, 2 * slackBytes);
    break;
  case BudgetKind::MaxKl:
    isDone = (keeps && trial.reached >= near * budget.limit) || trials == mostTrials;
    underestimate *= trial.reached / (aim * budget.limit);
    break;
  case BudgetKind::MeanBits:
    isDone = keeps || trials == mostTrials;
  }
  return {isBest, isDone || !trial.planMet};
}

std::string BudgetSearch::shortfall() const {
  if (!best || best->reached <= budget.limit)
    return {};
  char text[200];
  switch (budget.kind) {
  case BudgetKind::MaxKl:
    std::snprintf(text, sizeof text,
                  "--max-kl %.4g cannot be met: the best found has a mean KL divergence of %.4g",
                  budget.limit, best->reached);
    break;
  case BudgetKind::MaxBytes:
    std::snprintf(text, sizeof text,
                  "--max-size of %.0f bytes cannot be met: the smallest found has %.0f, of which "
                  "%.0f are not weights (code for every target, tokenizer, tables)",
                  budget.limit, best->reached, best->reached - best->plannedBytes);
    break;
  case BudgetKind::MeanBits:
    std::snprintf(text, sizeof text,
                  "--bits %.4g cannot be met: the fewest found are %.4g bits a weight",
                  budget.limit, best->reached);
  }
  return text;
}

} // namespace smelt
