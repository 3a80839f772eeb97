// Error feedback against GPTQ as published: inverse, its Cholesky factor, column by column.
#include "calibration/error_feedback.h"
#include "tests/calibration/tile_fixture.h"

#include <gtest/gtest.h>
#include <numeric>

namespace smelt {
namespace {

constexpr int64_t cols = 32;

/// Inverse by Gauss-Jordan; matrix [cols, cols] is positive definite.
std::vector<double> inverse(std::vector<double> matrix) {
  std::vector<double> result(cols * cols);
  for (int64_t i = 0; i < cols; ++i)
    result[i * cols + i] = 1;
  for (int64_t i = 0; i < cols; ++i) {
    const double pivot = matrix[i * cols + i];
    for (int64_t j = 0; j < cols; ++j) {
      matrix[i * cols + j] /= pivot;
      result[i * cols + j] /= pivot;
    }
    for (int64_t row = 0; row < cols; ++row) {
      const double factor = matrix[row * cols + i];
      for (int64_t j = 0; j < cols && row != i; ++j) {
        matrix[row * cols + j] -= factor * matrix[i * cols + j];
        result[row * cols + j] -= factor * result[i * cols + j];
      }
    }
  }
  return result;
}

/// Upper U with matrix = U^T U.
std::vector<double> upperFactor(const std::vector<double> &matrix) {
  std::vector<double> u(cols * cols);
  for (int64_t i = 0; i < cols; ++i)
    for (int64_t j = i; j < cols; ++j) {
      double sum = matrix[i * cols + j];
      for (int64_t k = 0; k < i; ++k)
        sum -= u[k * cols + i] * u[k * cols + j];
      u[i * cols + j] = i == j ? std::sqrt(sum) : sum / u[i * cols + i];
    }
  return u;
}

FeedbackOrder orderOf(const ErrorFeedback &feedback) {
  return {feedback.order.data(), feedback.factors.data(), feedback.diagonal.data(), cols};
}

TEST(Gptq, GivesTheCodesOfThePublishedAlgorithm) {
  for (const GridKind &kind : {asymmetricKind(4, 16), tableKind(32), symmetricKind(32)}) {
    TileFixture tile(kind, cols);
    tile.fillNormal(2);
    const Result<ErrorFeedback> feedback =
        factorErrorFeedback(statisticsOf(correlatedMoments(cols, 4), cols), 1);
    ASSERT_TRUE(feedback.ok());
    tileKernels().searchScales(tile.problem, true, tile.grid);
    std::vector<float> errors(cols * 16);
    double loss[16];
    const TileWork work{&tile.problem, &tile.grid, tile.codes.data(), errors.data(), loss};
    tileKernels().roundFeedback(&work, 1, orderOf(*feedback));

    // The reference, in the same order of columns.
    std::vector<double> ordered(cols * cols);
    for (int64_t a = 0; a < cols; ++a)
      for (int64_t b = 0; b < cols; ++b)
        ordered[a * cols + b] = feedback->moment(feedback->order[a], feedback->order[b]);
    const std::vector<double> u = upperFactor(inverse(ordered));
    int different = 0;
    for (int64_t row = 0; row < 16; ++row) {
      std::vector<double> w;
      for (int64_t a = 0; a < cols; ++a)
        w.push_back(tile.weights[feedback->order[a] * 16 + row]);
      for (int64_t a = 0; a < cols; ++a) {
        const int64_t k = feedback->order[a], i = k / tile.grid.groupCols * 16 + row;
        const double step = tile.steps[i], offset = tile.offsets[i];
        double best = 0, least = 1e30;
        for (int level = int(kind.lowest); level <= int(kind.highest); ++level) {
          bool allowed = kind.grid != Grid::Table;
          for (int8_t value : tableOf(kind.bits))
            allowed |= value == level;
          if (allowed && std::fabs(step * level - offset - w[a]) < least) {
            least = std::fabs(step * level - offset - w[a]);
            best = level;
          }
        }
        different += best != tile.codes[k * 16 + row];
        const double error = (w[a] - (step * best - offset)) / u[a * cols + a];
        for (int64_t b = a; b < cols; ++b)
          w[b] -= error * u[a * cols + b];
      }
    }
    // Float sums may tip a weight that lies between two levels, and what follows it in its row.
    EXPECT_LE(different, 16 * cols / 50) << int(kind.grid);
  }
}

TEST(Gptq, IsRoundingToNearestWhereInputsAreIndependent) {
  std::vector<double> moments(cols * cols);
  for (int64_t k = 0; k < cols; ++k)
    moments[k * cols + k] = double(1 + k);
  const Result<ErrorFeedback> feedback = factorErrorFeedback(statisticsOf(moments, cols), 1);
  ASSERT_TRUE(feedback.ok());
  TileFixture tile(asymmetricKind(4, 32), cols);
  tile.fillNormal(5);
  tileKernels().searchScales(tile.problem, true, tile.grid);
  std::vector<int8_t> nearest(cols * 16);
  tileKernels().roundNearest(tile.problem, tile.grid, nearest.data());
  std::vector<float> errors(cols * 16);
  double loss[16];
  const TileWork work{&tile.problem, &tile.grid, tile.codes.data(), errors.data(), loss};
  tileKernels().roundFeedback(&work, 1, orderOf(*feedback));
  EXPECT_EQ(tile.codes, nearest);
}

} // namespace
} // namespace smelt
