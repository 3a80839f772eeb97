// Random directions against the angle that they stand for, and which samples are picked.
#include "calibration/sampled_labels.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

namespace smelt {
namespace {

Matrix randomRows(int64_t rows, int64_t cols, uint64_t seed, float deviation) {
  Matrix matrix{rows, cols, std::make_unique<float[]>(size_t(rows * cols))};
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  for (int64_t i = 0; i < rows * cols; ++i)
    matrix.data[size_t(i)] = normal(random);
  return matrix;
}

double dot(const float *a, const float *b, int64_t cols) {
  double sum = 0;
  for (int64_t k = 0; k < cols; ++k)
    sum += double(a[k]) * double(b[k]);
  return sum;
}

TEST(SampleDirections, MeanSquareIsTheAngle) {
  constexpr int64_t draws = 4000, cols = 24;
  const Matrix state = randomRows(1, cols, 1, 3.0f), change = randomRows(1, cols, 2, 0.01f);
  Matrix rows{draws, cols, std::make_unique<float[]>(size_t(draws * cols))};
  for (int64_t row = 0; row < draws; ++row)
    std::copy_n(state.row(0), cols, rows.row(row));
  WorkerPool pool(2);
  ASSERT_TRUE(sampleDirections(rows, 5, 3, pool).ok());
  double sum = 0;
  for (int64_t row = 0; row < draws; ++row) {
    EXPECT_NEAR(dot(rows.row(row), state.row(0), cols), 0, 1e-5) << "turns the state, only";
    sum += std::pow(dot(rows.row(row), change.row(0), cols), 2) / 2;
  }
  std::vector<float> moved(state.row(0), state.row(0) + cols);
  for (int64_t k = 0; k < cols; ++k)
    moved[size_t(k)] += change.row(0)[k];
  const double cosine =
      dot(moved.data(), state.row(0), cols) /
      std::sqrt(dot(moved.data(), moved.data(), cols) * dot(state.row(0), state.row(0), cols));
  // The squares of normal deviates vary by sqrt(2 / draws) of their mean: four of that.
  EXPECT_NEAR(sum / draws / (1 - cosine), 1, 4 * std::sqrt(2.0 / draws));
}

TEST(SampleDirections, DependOnThePlaceAlone) {
  Matrix few = randomRows(7, 5, 3, 1), many = randomRows(7, 5, 3, 1);
  WorkerPool one(1), three(3);
  ASSERT_TRUE(sampleDirections(few, 1, 2, one).ok() && sampleDirections(many, 1, 2, three).ok());
  EXPECT_TRUE(std::equal(few.row(0), few.row(0) + 35, many.row(0)));
}

TEST(SampleDirections, RefusesWhatIsNotFinite) {
  Matrix rows = randomRows(2, 4, 3, 1);
  rows.row(1)[2] = INFINITY;
  WorkerPool pool(1);
  EXPECT_EQ(sampleDirections(rows, 1, 0, pool).message(),
            "the hidden states are not finite: the float model overflows or its weights hold NaN");
}

TEST(PickWindows, TakesAsManyTokensOfShortSamples) {
  auto samples = [](int64_t count, size_t length) {
    return std::vector<std::vector<int32_t>>(size_t(count), std::vector<int32_t>(length, 1));
  };
  EXPECT_EQ(pickWindows(samples(64, 512), 4, 512).size(), 4u);
  EXPECT_EQ(pickWindows(samples(512, 64), 4, 512).size(), 32u);
  EXPECT_EQ(pickWindows(samples(20, 64), 4, 512).size(), 20u) << "there are no more";
  const auto cut = pickWindows(samples(8, 100), 2, 50);
  EXPECT_EQ(cut.size(), 2u);
  EXPECT_EQ(cut[0].size(), 50u);
}

} // namespace
} // namespace smelt
