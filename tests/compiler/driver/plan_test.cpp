// Which inputs a plan makes INT16: those that gain most for the products they cost, up to a share
// that depends on what the model is for. And which share their scales: those that lose least.
#include "compiler/driver/plan.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

constexpr int linears = 64;

/// Linears of one size; what INT16 spares falls from the first to the last. The head comes last.
std::vector<MatrixOutlook> outlooks(double weightKl, double inputKl) {
  std::vector<MatrixOutlook> matrices;
  for (int i = 0; i <= linears; ++i) {
    MatrixOutlook matrix;
    matrix.name = i == linears ? "head" : "linear" + std::to_string(i);
    matrix.isHead = i == linears;
    matrix.rows = matrix.cols = 64;
    matrix.formats = {WeightFormat::N4G32, WeightFormat::S8G32};
    for (WeightFormat format : matrix.formats)
      matrix.bytes.push_back(packedBytes(format, matrix.rows, matrix.cols));
    matrix.kl = {weightKl, weightKl / 100};
    matrix.a8g32 = inputKl * (1 + 0.5 / (1 + i));
    matrix.a8g64 = 1; // far too much
    matrix.a16g32 = 0;
    matrix.input = "input" + std::to_string(i);
    matrices.push_back(matrix);
  }
  return matrices;
}

struct Planned {
  int precise = 0; ///< linears before the head with INT16 inputs
  bool headIsPrecise = false;
  FormatPlan plan;
};

Planned planned(const std::vector<MatrixOutlook> &matrices, PreciseInputs precise,
                ActivationFormat activation = ActivationFormat::A8G32) {
  Planned result;
  QuantizeScheme base;
  base.activation = activation;
  Result<FormatPlan> plan = planFormats(matrices, {BudgetKind::MaxBytes, 1e9}, base, precise);
  EXPECT_TRUE(plan.ok());
  result.plan = *plan;
  for (const auto &[name, scheme] : plan->scheme.matrices) {
    const bool isPrecise = scheme.activation == ActivationFormat::A16G32;
    if (name == "head")
      result.headIsPrecise = isPrecise;
    else
      result.precise += isPrecise;
  }
  return result;
}

} // namespace

TEST(PlanFormats, FewInputsAreIntegersOf16BitsWhereWeightsLoseMore) {
  const auto matrices = outlooks(1.0, 0.001);
  const Planned found = planned(matrices, {});
  EXPECT_EQ(found.precise, linears / 32);
  EXPECT_TRUE(found.headIsPrecise);       // it runs for few rows only
  for (int i = 0; i < found.precise; ++i) // those that gain most
    EXPECT_EQ(found.plan.scheme.matrices.at("linear" + std::to_string(i)).activation,
              ActivationFormat::A16G32);
  EXPECT_EQ(planned(matrices, {.favored = true}).precise, linears / 4);
  EXPECT_EQ(planned(matrices, {.onlyPrefill = true}).precise, linears / 8);
  EXPECT_EQ(planned(matrices, {.onlyPrefill = true, .favored = true}).precise, linears / 4);
}

TEST(PlanFormats, MoreInputsAreWhereTheyLoseMoreThanWeights) {
  const auto matrices = outlooks(1e-9, 0.001);
  EXPECT_EQ(planned(matrices, {}).precise, linears / 8);
  EXPECT_EQ(planned(matrices, {.favored = true}).precise, linears);
  EXPECT_EQ(planned(matrices, {.onlyPrefill = true}).precise, linears / 8);
}

TEST(PlanFormats, LinearsOfOneInputAreChosenTogether) {
  auto matrices = outlooks(1.0, 0.001);
  for (int i = 0; i < linears; ++i)
    matrices[size_t(i)].input = "input" + std::to_string(i / 4);
  EXPECT_EQ(planned(matrices, {}).precise, 0); // four at once are over the share
  EXPECT_EQ(planned(matrices, {.favored = true}).precise, linears / 4);
}

TEST(PlanFormats, WhatIsSparedIsTakenOffThePrediction) {
  const auto matrices = outlooks(1.0, 0.001);
  double whole = 0;
  for (const MatrixOutlook &matrix : matrices)
    whole += matrix.a8g32;
  const double spared = matrices[0].a8g32 + matrices[1].a8g32 + matrices[size_t(linears)].a8g32;
  EXPECT_NEAR(planned(matrices, {}).plan.activationKl, whole - spared, 1e-12);
}

TEST(PlanFormats, InputsThatAreAskedForStayAsTheyAre) {
  const auto matrices = outlooks(1.0, 0.001);
  const Planned found = planned(matrices, {.favored = true}, ActivationFormat::A8T);
  EXPECT_EQ(found.precise, 0);
  EXPECT_EQ(found.plan.scheme.matrices.at("linear0").activation, ActivationFormat::A8T);
}

TEST(PlanFormats, GainsThatNobodyNoticesCostNoSpeed) {
  auto matrices = outlooks(1.0, 0.001);
  for (MatrixOutlook &matrix : matrices)
    matrix.a16g32 = matrix.a8g32 * 0.9999;
  const Planned found = planned(matrices, {.favored = true});
  EXPECT_EQ(found.precise, 0);
  EXPECT_FALSE(found.headIsPrecise);
}

TEST(PlanFormats, InputsShareScalesWhereThatCostsLittle) {
  const auto coarse = [](double weightKl, PreciseInputs precise) {
    auto matrices = outlooks(weightKl, 0.001);
    double whole = 0;
    for (int i = 0; i <= linears; ++i) { // the further, the less
      MatrixOutlook &matrix = matrices[size_t(i)];
      matrix.a8g64 = matrix.a8g32 * (1 + 40.0 / (1 + i));
      whole += matrix.kl.back() + matrix.a8g32;
    }
    const Planned found = planned(matrices, precise);
    double lost = 0;
    int count = 0;
    bool before = false;
    for (int i = 0; i < linears; ++i) {
      const MatrixOutlook &matrix = matrices[size_t(i)];
      const bool isCoarse =
          found.plan.scheme.matrices.at(matrix.name).activation == ActivationFormat::A8G64;
      EXPECT_LE(before, isCoarse) << "of equal size, those that lose least come first";
      before = isCoarse;
      count += isCoarse;
      lost += isCoarse ? matrix.a8g64 - matrix.a8g32 : 0;
    }
    EXPECT_LE(lost, 0.03 * whole);
    return count;
  };
  EXPECT_GT(coarse(0.01, {}), 0);
  EXPECT_LT(coarse(0.01, {}), linears / 2);
  EXPECT_EQ(coarse(0.01, {.favored = true}), 0);
  EXPECT_EQ(coarse(1.0, {}), 0) << "weights lose more";
}

TEST(UsualGoal, EightBitsHaveAScalePerChannelWhereThatCostsLittle) {
  const auto coarse = [](bool favorsQuality) {
    auto matrices = outlooks(0.01, 0.001);
    double whole = 0, finest = 0;
    for (int i = 0; i <= linears; ++i) { // the further, the less
      MatrixOutlook &matrix = matrices[size_t(i)];
      matrix.cols = 512; // enough for groups to cost bytes
      matrix.formats = {WeightFormat::S8G32, WeightFormat::S8C};
      for (size_t f = 0; f < 2; ++f)
        matrix.bytes[f] = packedBytes(matrix.formats[f], matrix.rows, matrix.cols);
      matrix.kl = {0.0001, 0.0001 * (1 + 40.0 / (1 + i))};
      finest += matrix.kl[0];
      whole += matrix.kl[0] + matrix.a8g32;
    }
    QuantizeScheme base;
    base.decoder = WeightFormat::S8G32;
    base.activation = ActivationFormat::A8G32;
    Result<FormatPlan> plan =
        planFormats(matrices, usualGoal(matrices, base, favorsQuality), base, {});
    EXPECT_TRUE(plan.ok());
    EXPECT_TRUE(plan->met);
    EXPECT_LE(plan->weightKl - finest, 0.1 * whole);
    int count = 0;
    bool before = false;
    for (int i = 0; i < linears; ++i) {
      const bool isCoarse =
          plan->scheme.matrices.at(matrices[size_t(i)].name).format == WeightFormat::S8C;
      EXPECT_LE(before, isCoarse) << "of equal size, those that lose least come first";
      before = isCoarse;
      count += isCoarse;
    }
    return count;
  };
  EXPECT_GT(coarse(false), linears / 4);
  EXPECT_LT(coarse(false), linears);
  EXPECT_EQ(coarse(true), 0);
}

TEST(UsualGoal, OtherWeightsHaveTheBytesOfTheirFormat) {
  const auto matrices = outlooks(1.0, 0.001);
  QuantizeScheme base;
  base.decoder = WeightFormat::A4G32;
  base.head = WeightFormat::S8C;
  const BudgetGoal goal = usualGoal(matrices, base, false);
  EXPECT_EQ(goal.kind, BudgetKind::MaxBytes);
  EXPECT_EQ(goal.limit, double(linears * packedBytes(WeightFormat::A4G32, 64, 64) +
                               packedBytes(WeightFormat::S8C, 64, 64)));
}
