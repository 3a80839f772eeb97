// The search for a plan under a budget: how near it comes, what it keeps and when it stops.
#include "compiler/driver/budget_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

using namespace smelt;

namespace {

struct Found {
  double best;
  std::vector<double> trials;
  std::vector<bool> kept;
};

/// Runs the search on a compiler that makes a trial of a goal.
Found seek(BudgetSearch search, const std::function<BudgetTrial(double)> &compile,
           double activationKl) {
  Found found{};
  for (bool isDone = false; !isDone && found.trials.size() < 100;) {
    const BudgetTrial trial = compile(search.nextGoal(activationKl).limit);
    found.trials.push_back(trial.reached);
    const BudgetSearch::Verdict verdict = search.record(trial);
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
          {{BudgetKind::MaxKl, budget}, 0},
          [&](double goal) {
            return BudgetTrial{factor * (goal + inputs), 0, true};
          },
          inputs);
      EXPECT_LE(found.best, budget) << budget << " " << factor;
      EXPECT_GE(found.best, 0.97 * budget) << budget << " " << factor;
      EXPECT_LE(found.trials.size(), 2u) << "one trial tells the factor";
    }
}

namespace {

/// A compiler whose plans weigh a multiple of `step`, and whose files what `beside` says more.
std::function<BudgetTrial(double)> compilerOf(double step,
                                              const std::function<double(double)> &beside) {
  return [=](double goal) {
    const double smallest = 400e3;
    const double planned = std::max(smallest, step * std::floor(goal / step));
    return BudgetTrial{planned + beside(planned), planned, goal >= smallest};
  };
}

} // namespace

TEST(BudgetSearch, LearnsWhatLiesBesideTheMatrices) {
  // 100 kB are known, 150 kB are there.
  Found found =
      seek({{BudgetKind::MaxBytes, 1e6}, 100e3}, compilerOf(1, [](double) { return 150e3; }), 0);
  EXPECT_EQ(found.trials.size(), 2u);
  EXPECT_LE(found.best, 1e6);
  EXPECT_GE(found.best, 1e6 - 8192);
}

TEST(BudgetSearch, KeepsToBytesWithCoarsePlans) {
  // One format less saves more than the file weighs too much: the next plan must not be the same.
  for (double step : {7e3, 14e3, 60e3}) {
    Found found = seek({{BudgetKind::MaxBytes, 1e6}, 100e3},
                       compilerOf(step, [](double) { return 150e3; }), 0);
    EXPECT_EQ(found.trials.size(), 2u) << step;
    EXPECT_LE(found.best, 1e6) << step;
    EXPECT_GE(found.best, 1e6 - 8192 - step) << step;
  }
}

TEST(BudgetSearch, KeepsToBytesWithCodeForEveryFormat) {
  // Smaller plans mix more formats, each with code for several targets.
  for (double growth : {0.3, 0.8, 1.2}) {
    auto beside = [&](double planned) { return 150e3 + growth * std::max(0.0, 850e3 - planned); };
    Found found = seek({{BudgetKind::MaxBytes, 950e3}, 100e3}, compilerOf(1000, beside), 0);
    if (growth < 1)
      EXPECT_LE(found.best, 950e3) << growth;
    EXPECT_LE(found.trials.size(), 8u) << growth;
  }
}

TEST(BudgetSearch, KeepsTheBestTrialNotTheLast) {
  // The fourth trial misses the budget, the third is further from it than the second.
  const std::vector<double> reached{0.0105, 0.0094, 0.0090, 0.0110};
  size_t next = 0;
  Found found = seek(
      {{BudgetKind::MaxKl, 0.01}, 0},
      [&](double) {
        return BudgetTrial{reached[next++], 0, true};
      },
      0);
  EXPECT_EQ(found.trials, reached);
  EXPECT_EQ(found.kept, (std::vector<bool>{true, true, false, false}));
  EXPECT_EQ(found.best, 0.0094);
}

TEST(BudgetSearch, TellsWhatCannotBeMet) {
  BudgetSearch search({BudgetKind::MaxBytes, 1e6}, 0);
  // No plan is small enough: one trial is all there is to try.
  EXPECT_TRUE(search.record({1.5e6, 1.1e6, false}).isDone);
  EXPECT_EQ(search.shortfall(),
            "--max-size of 1000000 bytes cannot be met: the smallest found has 1500000, of which "
            "400000 are not weights (code for every target, tokenizer, tables)");
  BudgetSearch kept({BudgetKind::MaxKl, 0.1}, 0);
  EXPECT_TRUE(kept.record({0.099, 0, true}).isDone);
  EXPECT_EQ(kept.shortfall(), "");
}

TEST(BudgetSearch, MeanOfBitsTakesOneTrial) {
  BudgetSearch search({BudgetKind::MeanBits, 4.5}, 0);
  EXPECT_EQ(search.nextGoal(1).limit, 4.5);
  const BudgetSearch::Verdict verdict = search.record({4.25, 0, true});
  EXPECT_TRUE(verdict.isBest && verdict.isDone);
  EXPECT_EQ(search.shortfall(), "");
  BudgetSearch missed({BudgetKind::MeanBits, 1}, 0);
  EXPECT_TRUE(missed.record({4.1, 0, false}).isDone);
  EXPECT_EQ(missed.shortfall(), "--bits 1 cannot be met: the fewest found are 4.1 bits a weight");
}
