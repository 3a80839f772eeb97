// The factorisation behind error feedback: it reproduces the damped second moments, and its kernel
// the loss.
#include "calibration/error_feedback.h"
#include "calibration/tile_kernels.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

namespace smelt {
namespace {

constexpr int64_t cols = 32;

InputStatistics makeStatistics(int64_t tokens) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  InputStatistics input;
  input.tokens = uint64_t(tokens);
  input.sumSquares.resize(cols);
  std::vector<double> triangle(size_t(triangleSize(cols))), x(cols);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < cols; ++k)
      x[k] = normal(random) * double(1 + k % 5) + (k ? 0.5 * x[k - 1] : 0);
    for (int64_t k = 0; k < cols; ++k) {
      input.sumSquares[k] += x[k] * x[k];
      for (int64_t j = k; j < cols; ++j)
        triangle[triangleRow(k, cols) + j - k] += x[k] * x[j];
    }
  }
  input.secondMoments = std::make_shared<const std::vector<double>>(std::move(triangle));
  return input;
}

double moment(const InputStatistics &input, int64_t a, int64_t b) {
  double mean = 0;
  for (double value : input.sumSquares)
    mean += value / double(input.tokens) / double(cols);
  const double value = (*input.secondMoments)[triangleRow(std::min(a, b), cols) + std::abs(a - b)] /
                       double(input.tokens);
  return a == b ? value + 0.003 * mean : value;
}

TEST(ErrorFeedback, FactorsMultiplyToTheMoments) {
  const InputStatistics input = makeStatistics(200);
  Result<ErrorFeedback> feedback = factorErrorFeedback(input, 1);
  ASSERT_TRUE(feedback.ok());
  for (int64_t i = 0; i + 1 < cols; ++i)
    EXPECT_GE(input.sumSquares[feedback->order[i]], input.sumSquares[feedback->order[i + 1]]);
  // H_ab = sum_i R_ai R_bi over i >= max(a, b), in the order of processing.
  auto upper = [&](int64_t a, int64_t i) {
    const double factor = a == i ? 1 : feedback->factors[i * cols + a];
    return factor * std::sqrt(double(feedback->diagonal[i]));
  };
  for (int64_t a = 0; a < cols; ++a)
    for (int64_t b = 0; b < cols; ++b) {
      double sum = 0;
      for (int64_t i = std::max(a, b); i < cols; ++i)
        sum += upper(a, i) * upper(b, i);
      EXPECT_NEAR(sum, moment(input, feedback->order[a], feedback->order[b]), 1e-4)
          << a << " " << b;
    }
}

TEST(ErrorFeedback, KernelComputesTheQuadraticForm) {
  const InputStatistics input = makeStatistics(200);
  Result<ErrorFeedback> feedback = factorErrorFeedback(input, 1);
  ASSERT_TRUE(feedback.ok());
  std::mt19937_64 random(6);
  std::normal_distribution<float> normal;
  std::vector<float> weights(cols * 16), importance(cols, 1.0f), steps(16, 0.3f), offsets(16, 0.1f),
      errors(cols * 16);
  for (float &weight : weights)
    weight = normal(random);
  std::vector<int8_t> codes(cols * 16), fed(cols * 16);
  for (int8_t &code : codes)
    code = int8_t(random() % 16);
  const TileProblem problem{weights.data(), weights.data(), importance.data(), cols, cols};
  GridKind kind;
  kind.highest = 15;
  const TileGrid grid{kind, cols, steps.data(), offsets.data(), nullptr, nullptr, nullptr, nullptr};
  const FeedbackOrder order{feedback->order.data(), feedback->factors.data(),
                            feedback->diagonal.data(), cols};
  double givenLoss[16], fedLoss[16];
  const TileWork given{&problem, &grid, codes.data(), errors.data(), givenLoss};
  const TileWork rounded{&problem, &grid, fed.data(), errors.data(), fedLoss};
  tileKernels().feedbackLoss(&given, 1, order);
  tileKernels().roundFeedback(&rounded, 1, order);
  for (int64_t row = 0; row < 16; ++row) {
    auto loss = [&](const std::vector<int8_t> &of) {
      auto error = [&](int64_t k) {
        return double(weights[k * 16 + row]) - (0.3 * of[k * 16 + row] - 0.1);
      };
      double sum = 0;
      for (int64_t a = 0; a < cols; ++a)
        for (int64_t b = 0; b < cols; ++b)
          sum += error(a) * error(b) * moment(input, a, b);
      return sum;
    };
    EXPECT_NEAR(givenLoss[row], loss(codes), 1e-4 * loss(codes));
    EXPECT_NEAR(fedLoss[row], loss(fed), 1e-4 * loss(fed));
    EXPECT_LT(fedLoss[row], givenLoss[row]);
  }
}

TEST(ErrorFeedback, LossesByTheTriangleAreThoseByTheFactors) {
  const InputStatistics input = makeStatistics(200);
  FeedbackCache cache;
  auto triangle = cache.triangle(input);
  ASSERT_TRUE(triangle.ok());
  std::mt19937_64 random(8);
  std::normal_distribution<float> normal;
  std::vector<float> errors(3 * cols * 16);
  for (float &error : errors)
    error = normal(random);
  double losses[3 * 16];
  tileKernels().momentLosses((*triangle)->data(), cols, errors.data(), 3, losses);
  for (int64_t e = 0; e < 3; ++e)
    for (int64_t row = 0; row < 16; ++row) {
      double sum = 0;
      for (int64_t a = 0; a < cols; ++a)
        for (int64_t b = 0; b < cols; ++b)
          sum += double(errors[(e * cols + a) * 16 + row]) * errors[(e * cols + b) * 16 + row] *
                 moment(input, a, b);
      EXPECT_NEAR(losses[e * 16 + row], sum, 1e-5 * sum);
    }
}

TEST(ErrorFeedback, CacheSharesAndForgets) {
  FeedbackCache cache;
  const InputStatistics input = makeStatistics(200), other = makeStatistics(100);
  auto first = cache.get(input, 1);
  ASSERT_TRUE(first.ok());
  const InputStatistics sameInput = input; // shares the second moments
  EXPECT_EQ(cache.get(sameInput, 1)->get(), first->get());
  EXPECT_NE(cache.get(other, 1)->get(), first->get());
  InputStatistics none = makeStatistics(1);
  none.sumSquares.assign(cols, 0);
  EXPECT_FALSE(cache.get(none, 1).ok());
  EXPECT_FALSE(cache.get(none, 1).ok());
  EXPECT_TRUE(cache.get(input, 1).ok());
}

TEST(ErrorFeedback, MomentsAreDampedAndDeadColumnsCounted) {
  InputStatistics input = makeStatistics(200);
  std::vector<double> triangle = *input.secondMoments;
  for (int64_t j = 0; j < cols; ++j)
    triangle[triangleRow(std::min<int64_t>(j, 7), cols) + std::abs(j - 7)] = 0;
  input.sumSquares[7] = 0;
  input.secondMoments = std::make_shared<const std::vector<double>>(triangle);
  Result<ErrorFeedback> feedback = factorErrorFeedback(input, 1);
  ASSERT_TRUE(feedback.ok());
  EXPECT_EQ(feedback->deadColumns, 1);
  EXPECT_NEAR(feedback->damping, 0.003, 1e-9);
  for (int64_t a = 0; a < cols; ++a)
    for (int64_t b = 0; b < cols; ++b)
      EXPECT_NEAR(feedback->moment(a, b), moment(input, a, b), 1e-5);
}

TEST(ErrorFeedback, FewTokensAreDampedAndNoneRefused) {
  EXPECT_TRUE(factorErrorFeedback(makeStatistics(1), 1).ok());
  InputStatistics none = makeStatistics(1);
  none.sumSquares.assign(cols, 0);
  EXPECT_FALSE(factorErrorFeedback(none, 1).ok());
  none.secondMoments = nullptr;
  EXPECT_FALSE(factorErrorFeedback(none, 1).ok());
}

TEST(ErrorFeedback, RefusesMomentsThatAreNoMoments) {
  InputStatistics input = makeStatistics(50);
  std::vector<double> broken = *input.secondMoments;
  broken[triangleRow(0, cols) + 1] = 1e9; // no correlation can exceed its variances
  input.secondMoments = std::make_shared<const std::vector<double>>(broken);
  Result<ErrorFeedback> feedback = factorErrorFeedback(input, 1);
  ASSERT_FALSE(feedback.ok());
  EXPECT_NE(feedback.status().message().find("positive definite"), std::string::npos);
}

} // namespace
} // namespace smelt
