// Seeks, trial after trial, the plan whose finished artifact just keeps to a budget.
#include "compiler/driver/budget_search.h"

#include <algorithm>
#include <cstdio>

namespace smelt {

namespace {
constexpr int mostTrials = 4;
/// A divergence of this share of the budget is near enough: the next step of the plan is coarser.
constexpr double near = 0.97;
constexpr double aim = 0.985;
/// Code and metadata differ a little with the formats.
constexpr double slackBytes = 8192;
} // namespace

BudgetGoal BudgetSearch::nextGoal(double activationKl) const {
  BudgetGoal goal = budget;
  if (budget.kind == BudgetKind::MaxBytes)
    goal.limit = std::max(1.0, budget.limit - bytesBeside);
  if (budget.kind == BudgetKind::MaxKl)
    goal.limit = std::max(1e-9, budget.limit / underestimate - activationKl);
  return goal;
}

/// One that keeps to the budget is the better the nearer it comes; others as well.
bool BudgetSearch::isBetter(double reached) const {
  const bool keeps = reached <= budget.limit;
  if (!reachedByBest || keeps != (*reachedByBest <= budget.limit))
    return !reachedByBest || keeps;
  return keeps ? reached > *reachedByBest : reached < *reachedByBest;
}

BudgetSearch::Verdict BudgetSearch::record(double reached, bool planMet) {
  const bool isBest = isBetter(reached);
  if (isBest)
    reachedByBest = reached;
  const bool keeps = reached <= budget.limit;
  const bool isNear = budget.kind != BudgetKind::MaxKl || reached >= near * budget.limit;
  if (budget.kind == BudgetKind::MaxBytes)
    bytesBeside += reached - budget.limit + slackBytes;
  if (budget.kind == BudgetKind::MaxKl)
    underestimate *= reached / (aim * budget.limit);
  return {isBest, (keeps && isNear) || !planMet || ++trials == mostTrials};
}

std::string BudgetSearch::shortfall() const {
  if (!reachedByBest || *reachedByBest <= budget.limit)
    return {};
  char text[160];
  switch (budget.kind) {
  case BudgetKind::MaxKl:
    std::snprintf(text, sizeof text,
                  "--max-kl %.4g cannot be met: the best found has a mean KL divergence of %.4g",
                  budget.limit, *reachedByBest);
    break;
  case BudgetKind::MaxBytes:
    std::snprintf(text, sizeof text,
                  "--max-size of %.2f MB cannot be met: the smallest found has %.2f MB",
                  budget.limit / 1e6, *reachedByBest / 1e6);
    break;
  case BudgetKind::MeanBits:
    std::snprintf(text, sizeof text,
                  "--bits %.4g cannot be met: the fewest found are %.4g bits a weight",
                  budget.limit, *reachedByBest);
  }
  return text;
}

} // namespace smelt
