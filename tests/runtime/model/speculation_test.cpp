// Estimates of costs and acceptance, and the plan that follows from them.
#include "runtime/model/speculation.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

TEST(StepCosts, BetweenMeasurementsALine) {
  StepCosts costs;
  EXPECT_FALSE(costs.known());
  costs.record(1, 1.0);
  EXPECT_TRUE(costs.known());
  EXPECT_GT(costs.of(4), 1.0);
  EXPECT_LT(costs.of(4), 4.0);
  costs.record(5, 2.0);
  EXPECT_DOUBLE_EQ(costs.of(3), 1.5);
  EXPECT_GT(costs.of(16), 2.0);
}

TEST(StepCosts, OneSlowStepIsNoMeasurement) {
  StepCosts costs;
  for (int i = 0; i < 20; ++i)
    costs.record(1, 1.0);
  costs.record(1, 10.0);
  EXPECT_LT(costs.of(1), 1.5);
  for (int i = 0; i < 200; ++i)
    costs.record(1, 2.0);
  EXPECT_NEAR(costs.of(1), 2.0, 1e-3);
  // A size that looked slow is not avoided for ever.
  costs.record(4, 100.0);
  for (int i = 0; i < 2000; ++i)
    costs.record(1, 2.0);
  EXPECT_LT(costs.of(4), 4.0);
}

TEST(Acceptance, FollowsTheTrials) {
  Acceptance acceptance;
  size_t kind = Acceptance::ofMatch(2);
  EXPECT_EQ(kind, 0u);
  EXPECT_LT(acceptance.rate(kind), acceptance.rate(Acceptance::ofMatch(100)));
  EXPECT_LT(Acceptance::ofMatch(100), Acceptance::draftModel);
  double first = acceptance.rate(kind);
  for (int i = 0; i < 200; ++i)
    acceptance.record(kind, true);
  EXPECT_NEAR(acceptance.rate(kind), 1, 1e-3);
  for (int i = 0; i < 200; ++i)
    acceptance.record(kind, false);
  EXPECT_NEAR(acceptance.rate(kind), 0, 1e-3);
  for (int i = 0; i < 500; ++i)
    acceptance.relax(kind);
  EXPECT_NEAR(acceptance.rate(kind), first, 1e-3);
}

/// Costs 1 + (T - 1) * share for every size.
StepCosts linearCosts(double share) {
  StepCosts costs;
  for (size_t tokens = 1; tokens <= mostDrafted + 1; ++tokens)
    costs.record(tokens, 1 + double(tokens - 1) * share);
  return costs;
}

Acceptance always(bool right) {
  Acceptance acceptance;
  for (int i = 0; i < 500; ++i)
    acceptance.record(0, right);
  return acceptance;
}

TEST(PlanDraft, TakesTheBestRatio) {
  auto plan = [](double share, bool right, size_t limit, double draftSeconds = 0) {
    return planDraft(linearCosts(share), always(right), draftSeconds, limit,
                     [](size_t) { return size_t(0); });
  };
  EXPECT_EQ(plan(0.1, true, 15).count, 15u);
  EXPECT_EQ(plan(0.1, true, 6).count, 6u);
  EXPECT_EQ(plan(0.1, true, 0).count, 0u);
  EXPECT_EQ(plan(0.1, false, 15).count, 0u);
  // Rows that cost as much as steps win nothing, nor do drafts that cost as much.
  EXPECT_EQ(plan(1.2, true, 15).count, 0u);
  EXPECT_EQ(plan(0.1, true, 15, 1.0).count, 0u);
  EXPECT_NEAR(plan(0.1, true, 15).speed, 16 / 2.5, 1e-3);
  EXPECT_EQ(planDraft(StepCosts(), always(true), 0, 15, [](size_t) { return size_t(0); }).count,
            0u);
}

TEST(PlanDraft, UncertainDraftsAreShort) {
  StepCosts costs = linearCosts(0.25);
  Acceptance acceptance; // the first rates
  auto kindOf = [](size_t) { return Acceptance::draftModel; };
  double rate = acceptance.rate(Acceptance::draftModel), best = 0;
  size_t expected = 0;
  double sum = 1, certain = 1;
  for (size_t count = 1; count <= 15; ++count) {
    certain *= rate;
    sum += certain;
    if (double speed = sum / costs.of(count + 1); speed > best)
      best = speed, expected = count;
  }
  DraftPlan plan = planDraft(costs, acceptance, 0, 15, kindOf);
  EXPECT_EQ(plan.count, expected);
  EXPECT_DOUBLE_EQ(plan.speed, best);
  EXPECT_GT(expected, 0u);
  EXPECT_LT(expected, 8u);
}

} // namespace
