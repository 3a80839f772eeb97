// The search for a plan under a budget: how near it comes, what it keeps and when it stops.
#include "compiler/driver/budget_search.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

using namespace smelt;

namespace {

struct Found {
  double best;
  std::vector<double> trials;
  std::vector<bool> kept;
};

/// Runs the search on a compiler that makes `reached` of a goal.
Found seek(BudgetSearch search, const std::function<double(double)> &reached, double activationKl,
           bool planMet = true) {
  Found found{};
  for (bool isDone = false; !isDone && found.trials.size() < 100;) {
    found.trials.push_back(reached(search.nextGoal(activationKl).limit));
    const BudgetSearch::Verdict verdict = search.record(found.trials.back(), planMet);
    found.kept.push_back(verdict.isBest);
    isDone = verdict.isDone;
    if (verdict.isBest)
      found.best = found.trials.back();
  }
  return found;
}

} // namespace

TEST(BudgetSearch, ComesNearADivergenceFromEitherSide) {
  // Measured divergences are a multiple of the predicted ones, inputs included.
  for (double budget : {0.003, 0.01, 0.05, 0.3})
    for (double factor : {0.5, 0.8, 1.0, 1.12, 1.3, 2.0}) {
      const double inputs = 0.1 * budget;
      Found found = seek(
          {{BudgetKind::MaxKl, budget}, 0}, [&](double goal) { return factor * (goal + inputs); },
          inputs);
      EXPECT_LE(found.best, budget) << budget << " " << factor;
      EXPECT_GE(found.best, 0.97 * budget) << budget << " " << factor;
      EXPECT_LE(found.trials.size(), 2u) << "one trial tells the factor";
    }
}

TEST(BudgetSearch, LearnsWhatLiesBesideTheMatrices) {
  // 100 kB are known, 150 kB are there.
  Found found =
      seek({{BudgetKind::MaxBytes, 1e6}, 100e3}, [](double goal) { return goal + 150e3; }, 0);
  EXPECT_EQ(found.trials.size(), 2u);
  EXPECT_LE(found.best, 1e6);
  EXPECT_GE(found.best, 1e6 - 8192);
}

TEST(BudgetSearch, KeepsTheBestTrialNotTheLast) {
  // The fourth trial misses the budget, the third is further from it than the second.
  const std::vector<double> reached{0.0105, 0.0094, 0.0090, 0.0110};
  size_t next = 0;
  Found found = seek({{BudgetKind::MaxKl, 0.01}, 0}, [&](double) { return reached[next++]; }, 0);
  EXPECT_EQ(found.trials, reached);
  EXPECT_EQ(found.kept, (std::vector<bool>{true, true, false, false}));
  EXPECT_EQ(found.best, 0.0094);
}

TEST(BudgetSearch, TellsWhatCannotBeMet) {
  BudgetSearch search({BudgetKind::MaxBytes, 1e6}, 0);
  // No plan is small enough: one trial is all there is to try.
  EXPECT_TRUE(search.record(1.5e6, false).isDone);
  EXPECT_EQ(search.shortfall(),
            "--max-size of 1.00 MB cannot be met: the smallest found has 1.50 MB");
  BudgetSearch kept({BudgetKind::MaxKl, 0.1}, 0);
  EXPECT_TRUE(kept.record(0.099, true).isDone);
  EXPECT_EQ(kept.shortfall(), "");
}

TEST(BudgetSearch, MeanOfBitsTakesOneTrial) {
  BudgetSearch search({BudgetKind::MeanBits, 4.5}, 0);
  EXPECT_EQ(search.nextGoal(1).limit, 4.5);
  const BudgetSearch::Verdict verdict = search.record(4.25, true);
  EXPECT_TRUE(verdict.isBest && verdict.isDone);
  EXPECT_EQ(search.shortfall(), "");
  BudgetSearch missed({BudgetKind::MeanBits, 1}, 0);
  EXPECT_TRUE(missed.record(4.1, false).isDone);
  EXPECT_EQ(missed.shortfall(), "--bits 1 cannot be met: the fewest found are 4.1 bits a weight");
}
