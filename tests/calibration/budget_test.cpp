// The knapsack against all combinations of small problems.
#include "calibration/budget.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

namespace smelt {
namespace {

/// Items whose divergence falls with bytes by about 4 per bit, with noise, some choices dominated.
std::vector<BudgetItem> randomItems(int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  auto uniform = [&] { return double(random() % 1000 + 1) / 1000; };
  std::vector<BudgetItem> items;
  for (int i = 0; i < count; ++i) {
    BudgetItem item{"item" + std::to_string(i), int64_t(random() % 9 + 1) * 512, {}};
    const double sensitivity = uniform() * double(item.weights) * 1e-6;
    for (int bits = 3; bits <= 8; ++bits)
      item.choices.push_back({item.weights * bits / 8,
                              sensitivity * std::pow(4.0, 4 - bits) * (0.6 + 0.8 * uniform())});
    std::shuffle(item.choices.begin(), item.choices.end(), random);
    items.push_back(item);
  }
  return items;
}

struct Total {
  int64_t bytes = 0;
  double kl = 0;
};

Total totalOf(const std::vector<BudgetItem> &items, const std::vector<int32_t> &choices) {
  Total total;
  for (size_t i = 0; i < items.size(); ++i) {
    total.bytes += items[i].choices[choices[i]].bytes;
    total.kl += items[i].choices[choices[i]].kl;
  }
  return total;
}

template <typename Visit> void forAllPlans(const std::vector<BudgetItem> &items, Visit visit) {
  std::vector<int32_t> choices(items.size(), 0);
  while (true) {
    visit(totalOf(items, choices));
    size_t i = 0;
    while (i < items.size() && ++choices[i] == int32_t(items[i].choices.size()))
      choices[i++] = 0;
    if (i == items.size())
      return;
  }
}

/// Bytes of the largest single item: more than one step of the chain can move.
int64_t largestStep(const std::vector<BudgetItem> &items) {
  int64_t largest = 0;
  for (const BudgetItem &item : items)
    largest = std::max(largest, item.weights * 5 / 8);
  return largest;
}

TEST(Budget, FewestBytesAgainstAllPlans) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const std::vector<BudgetItem> items = randomItems(5, seed);
    int equal = 0, all = 0;
    for (double limit = 1e-5; limit < 0.02; limit *= 1.7) {
      Result<BudgetPlan> plan = planBudget(items, {BudgetKind::MaxKl, limit});
      ASSERT_TRUE(plan.ok());
      int64_t best = INT64_MAX;
      forAllPlans(items, [&](Total total) {
        if (total.kl <= limit)
          best = std::min(best, total.bytes);
      });
      EXPECT_EQ(plan->met, best != INT64_MAX);
      if (best == INT64_MAX)
        continue;
      const Total total = totalOf(items, plan->choices);
      EXPECT_EQ(total.bytes, plan->bytes);
      EXPECT_DOUBLE_EQ(total.kl, plan->kl);
      EXPECT_LE(plan->kl, limit);
      EXPECT_GE(plan->bytes, best);
      EXPECT_LE(plan->bytes, best + largestStep(items));
      equal += plan->bytes == best;
      ++all;
    }
    EXPECT_GE(equal * 2, all) << seed; // one exchange from the hull finds the optimum mostly
  }
}

TEST(Budget, ExactOnTheHull) {
  for (uint64_t seed = 11; seed <= 14; ++seed) {
    const std::vector<BudgetItem> items = randomItems(4, seed);
    // The plan of every multiplier is the optimum for the budget that it uses itself.
    for (double lambda = 1e-9; lambda < 1e-4; lambda *= 3) {
      Total chosen;
      for (const BudgetItem &item : items) {
        const BudgetChoice *best = &item.choices[0];
        for (const BudgetChoice &choice : item.choices)
          if (choice.kl + lambda * double(choice.bytes) < best->kl + lambda * double(best->bytes))
            best = &choice;
        chosen.bytes += best->bytes;
        chosen.kl += best->kl;
      }
      Result<BudgetPlan> byKl = planBudget(items, {BudgetKind::MaxKl, chosen.kl});
      Result<BudgetPlan> byBytes = planBudget(items, {BudgetKind::MaxBytes, double(chosen.bytes)});
      ASSERT_TRUE(byKl.ok() && byBytes.ok());
      EXPECT_EQ(byKl->bytes, chosen.bytes);
      EXPECT_NEAR(byBytes->kl, chosen.kl, 1e-12 * chosen.kl);
      EXPECT_TRUE(byKl->met && byBytes->met);
    }
  }
}

TEST(Budget, SmallestDivergenceAgainstAllPlans) {
  const std::vector<BudgetItem> items = randomItems(5, 21);
  Total smallest, whole;
  for (const BudgetItem &item : items) {
    whole.bytes += item.weights;
    smallest.bytes += item.weights * 3 / 8;
  }
  for (int64_t limit = smallest.bytes; limit <= whole.bytes;
       limit += (whole.bytes - smallest.bytes) / 7) {
    Result<BudgetPlan> plan = planBudget(items, {BudgetKind::MaxBytes, double(limit)});
    ASSERT_TRUE(plan.ok() && plan->met);
    EXPECT_LE(plan->bytes, limit);
    double best = INFINITY, bestWithLess = INFINITY;
    forAllPlans(items, [&](Total total) {
      if (total.bytes <= limit)
        best = std::min(best, total.kl);
      if (total.bytes <= limit - largestStep(items))
        bestWithLess = std::min(bestWithLess, total.kl);
    });
    EXPECT_GE(plan->kl, best * (1 - 1e-12));
    EXPECT_LE(plan->kl, bestWithLess * (1 + 1e-12));
  }
}

TEST(Budget, LooserLimitsAreNeverWorse) {
  const std::vector<BudgetItem> items = randomItems(40, 31);
  int64_t bytes = INT64_MAX;
  for (double limit = 1e-5; limit < 0.2; limit *= 1.05) {
    Result<BudgetPlan> plan = planBudget(items, {BudgetKind::MaxKl, limit});
    ASSERT_TRUE(plan.ok());
    if (!plan->met)
      continue;
    EXPECT_LE(plan->bytes, bytes);
    bytes = plan->bytes;
  }
  double kl = INFINITY;
  for (double bits = 3; bits < 8.2; bits += 0.03) {
    Result<BudgetPlan> plan = planBudget(items, {BudgetKind::MeanBits, bits});
    ASSERT_TRUE(plan.ok());
    EXPECT_LE(plan->kl, kl * (1 + 1e-12));
    kl = plan->kl;
  }
}

TEST(Budget, EqualItemsInOrder) {
  const BudgetItem item{"x", 8, {{4, 3.0}, {8, 1.0}}};
  const std::vector<BudgetItem> items(4, item);
  Result<BudgetPlan> plan = planBudget(items, {BudgetKind::MaxBytes, 24});
  ASSERT_TRUE(plan.ok() && plan->met);
  EXPECT_EQ(plan->choices, (std::vector<int32_t>{0, 0, 1, 1}));
  EXPECT_DOUBLE_EQ(plan->kl, 8.0);
}

TEST(Budget, WhatCannotBeMetComesNearest) {
  const std::vector<BudgetItem> items = {{"a", 8, {{4, 0.5}, {8, 0.1}}}, {"b", 8, {{5, 0.2}}}};
  Result<BudgetPlan> plan = planBudget(items, {BudgetKind::MaxKl, 0.2});
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->met);
  EXPECT_EQ(plan->choices, (std::vector<int32_t>{1, 0}));
  plan = planBudget(items, {BudgetKind::MaxBytes, 8});
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->met);
  EXPECT_EQ(plan->bytes, 9);
}

TEST(Budget, RefusesNonsense) {
  EXPECT_FALSE(planBudget(std::vector<BudgetItem>{{"a", 1, {}}}, {BudgetKind::MaxKl, 1}).ok());
  for (double kl : {-1.0, double(NAN), double(INFINITY)})
    EXPECT_FALSE(
        planBudget(std::vector<BudgetItem>{{"a", 1, {{1, kl}}}}, {BudgetKind::MaxKl, 1}).ok());
  EXPECT_FALSE(
      planBudget(std::vector<BudgetItem>{{"a", 1, {{1, 1}}}}, {BudgetKind::MaxKl, -1}).ok());
}

} // namespace
} // namespace smelt
