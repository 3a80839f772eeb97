// Perplexity and KL divergence against distributions whose values are known.
#include "compiler/driver/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace smelt;

namespace {

TEST(Divergence, TwoTokensByHand) {
  // p_ref = (3/4, 1/4), p = (1/4, 3/4).
  float log3 = float(std::log(3.0));
  std::vector<float> reference = {log3, 0}, logits = {5, 5 + log3};
  TokenScore score = scoreToken(logits, reference, 0);
  EXPECT_NEAR(score.loss, std::log(4.0), 1e-6);
  EXPECT_NEAR(score.referenceLoss, std::log(4.0 / 3), 1e-6);
  EXPECT_NEAR(score.divergence, 0.75 * std::log(3.0) + 0.25 * std::log(1.0 / 3), 1e-6);
  EXPECT_FALSE(score.sameTop);
  EXPECT_NEAR(score.probabilityShift, -0.5, 1e-6);
  // Both tokens are among the five likeliest of either.
  EXPECT_EQ(score.overlap[0], 1);
}

TEST(Divergence, OverlapOfTheLikeliestTokens) {
  // The reference prefers 0 .. 9 in this order, the model 3 .. 12.
  std::vector<float> reference(40), logits(40);
  for (int v = 0; v < 40; ++v) {
    reference[size_t(v)] = float(-v);
    logits[size_t(v)] = v < 3 ? -100.0f : float(-v);
  }
  TokenScore score = scoreToken(logits, reference, 0);
  EXPECT_DOUBLE_EQ(score.overlap[0], 2.0 / 5); // {3, 4}
  EXPECT_DOUBLE_EQ(score.overlap[1], 7.0 / 10);
  // Equal logits: the first tokens are the likeliest.
  EXPECT_EQ(scoreToken(std::vector<float>(40), std::vector<float>(40), 0).overlap[1], 1);
}

TEST(Divergence, ShiftedLogitsAreTheSameModel) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 8);
  std::vector<float> reference(1000), logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) {
    reference[i] = std::ldexp(std::round(std::ldexp(normal(random), 10)), -10);
    logits[i] = reference[i] - 64; // exact: the shift costs no bits
  }
  TokenScore score = scoreToken(logits, reference, 3);
  EXPECT_NEAR(score.divergence, 0, 1e-10);
  EXPECT_NEAR(score.loss, score.referenceLoss, 1e-10);
  EXPECT_TRUE(score.sameTop);
}

TEST(Divergence, LargeLogitsDoNotOverflow) {
  std::vector<float> reference = {3e38f, 0}, logits = {-3e38f, 0};
  TokenScore score = scoreToken(logits, reference, 0);
  EXPECT_TRUE(std::isfinite(score.divergence));
  EXPECT_EQ(scoreToken(reference, {}, 0).loss, 0);
}

TEST(Divergence, SummaryOfConstantScores) {
  std::vector<TokenScore> scores(100, {std::log(20.0), std::log(16.0), 0.125, -0.25, true, {0.8, 0.9}});
  Summary summary = summarize(scores);
  EXPECT_EQ(summary.tokens, 100);
  EXPECT_NEAR(summary.perplexity.mean, 20, 1e-9);
  EXPECT_NEAR(summary.perplexity.error, 0, 1e-6);
  EXPECT_NEAR(summary.referencePerplexity.mean, 16, 1e-9);
  EXPECT_NEAR(summary.perplexityRatio.mean, 1.25, 1e-12);
  EXPECT_DOUBLE_EQ(summary.divergence.mean, 0.125);
  EXPECT_DOUBLE_EQ(summary.medianDivergence, 0.125);
  EXPECT_DOUBLE_EQ(summary.sameTop.mean, 1);
  EXPECT_DOUBLE_EQ(summary.probabilityShift.mean, -0.25);
  EXPECT_DOUBLE_EQ(summary.shiftRms, 0.25);
  EXPECT_NEAR(summary.overlap[0].mean, 0.8, 1e-12);
  EXPECT_NEAR(summary.overlap[1].mean, 0.9, 1e-12);
}

TEST(Divergence, SummaryOfSpreadScores) {
  std::vector<TokenScore> scores;
  for (int i = 100; i >= 0; --i)
    scores.push_back({double(i), double(i), double(i), 0, i % 2 == 0, {}});
  Summary summary = summarize(scores);
  EXPECT_DOUBLE_EQ(summary.medianDivergence, 50);
  EXPECT_DOUBLE_EQ(summary.divergence90, 90);
  // Below 10^-7: only 0; 1 is the first of its decade; 100 is beyond the last bin's end.
  EXPECT_EQ(summary.histogram.front(), 1);
  EXPECT_EQ(summary.histogram[7 * 4], 1);
  EXPECT_EQ(summary.histogram.back(), 100 - 56); // 10^1.75 = 56.2 and above
  EXPECT_DOUBLE_EQ(summary.divergence99, 99);
  EXPECT_NEAR(summary.divergence999, 99.9, 1e-9);
  EXPECT_DOUBLE_EQ(summary.largestDivergence, 100);
  // Standard error of the mean of 0 .. 100: sqrt(variance / (n - 1)), variance = (n^2 - 1) / 12.
  EXPECT_NEAR(summary.divergence.error, std::sqrt((101.0 * 101 - 1) / 12 / 100), 1e-12);
  EXPECT_NEAR(summary.sameTop.mean, 51.0 / 101, 1e-12);
  // Both models lost alike on every token: nothing is uncertain about the ratio.
  EXPECT_EQ(summary.perplexityRatio.error, 0);
}

TEST(Divergence, NothingScored) { EXPECT_EQ(summarize({}).tokens, 0); }

} // namespace
