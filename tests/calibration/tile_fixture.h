// A tile with its grid for tests of single kernels, and the plain definition of what they compute.
#pragma once

#include "calibration/statistics.h"
#include "calibration/tile_kernels.h"

#include <cmath>
#include <memory>
#include <random>
#include <vector>

namespace smelt {

/// Sixteen rows of `cols` inputs on a grid of `kind`; everything starts at zero but omega and
/// importance, which are 1.
struct TileFixture {
  int64_t cols, groups;
  std::vector<float> weights, omega, importance, steps, offsets, rowSteps, rowOffsets;
  std::vector<int16_t> stepCodes, offsetCodes;
  std::vector<int8_t> codes;
  TileProblem problem;
  TileGrid grid;

  TileFixture(GridKind kind, int64_t cols)
      : cols(cols), groups(kind.group ? cols / kind.group : 1), weights(cols * 16),
        omega(cols * 16, 1.0f), importance(cols, 1.0f), steps(groups * 16), offsets(groups * 16),
        rowSteps(16), rowOffsets(16), stepCodes(groups * 16), offsetCodes(groups * 16),
        codes(cols * 16), problem{weights.data(), omega.data(), importance.data(), cols, cols},
        grid{kind,
             cols / groups,
             steps.data(),
             offsets.data(),
             rowSteps.data(),
             rowOffsets.data(),
             stepCodes.data(),
             offsetCodes.data()} {}
  TileFixture(const TileFixture &) = delete;

  void fillNormal(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (float &weight : weights)
      weight = normal(random);
  }
  double value(int64_t k, int64_t row) const {
    const int64_t i = k / grid.groupCols * 16 + row;
    return double(steps[i]) * codes[k * 16 + row] - double(offsets[i]);
  }
  double error(int64_t k, int64_t row) const {
    return value(k, row) - double(weights[k * 16 + row]);
  }
  /// sum omega d^2 of one row's group
  double groupError(int64_t group, int64_t row) const {
    double sum = 0;
    for (int64_t k = group * grid.groupCols; k < (group + 1) * grid.groupCols; ++k)
      sum += omega[k * 16 + row] * error(k, row) * error(k, row);
    return sum;
  }
  /// d^T H d of one row, H [cols, cols]
  double loss(const std::vector<double> &moments, int64_t row) const {
    double sum = 0;
    for (int64_t a = 0; a < cols; ++a)
      for (int64_t b = 0; b < cols; ++b)
        sum += error(a, row) * error(b, row) * moments[a * cols + b];
    return sum;
  }
};

/// Kinds as the formats have them.
inline GridKind asymmetricKind(int bits, int64_t group) {
  return {Grid::Asymmetric, ScaleStorage::Code, 0, float((1 << bits) - 1), 0, 255, group, bits};
}
inline GridKind tableKind(int64_t group, int bits = 4) {
  const std::span<const int8_t> table = tableOf(bits);
  return {
      Grid::Table, ScaleStorage::Code, float(table.front()), float(table.back()), -127, 127, group,
      bits};
}
inline GridKind symmetricKind(int64_t group) {
  return {Grid::Symmetric, ScaleStorage::Code, -127, 127, 0, 255, group, 8};
}

/// A positive definite H of correlated inputs of uneven strength.
inline std::vector<double> correlatedMoments(int64_t cols, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> moments(size_t(cols * cols)), strength, x(static_cast<size_t>(cols));
  for (int64_t k = 0; k < cols; ++k)
    strength.push_back(std::exp(0.7 * normal(random)));
  const int64_t tokens = 4 * cols;
  for (int64_t t = 0; t < tokens; ++t) {
    double common = 0;
    for (int64_t k = 0; k < cols; ++k)
      x[k] = (common = 0.8 * common + normal(random)) * strength[k];
    for (int64_t a = 0; a < cols; ++a)
      for (int64_t b = 0; b < cols; ++b)
        moments[a * cols + b] += x[a] * x[b] / double(tokens);
  }
  return moments;
}

/// Statistics with `moments` [cols, cols] as E[x x^T].
inline InputStatistics statisticsOf(const std::vector<double> &moments, int64_t cols) {
  InputStatistics input;
  input.tokens = 1;
  std::vector<double> triangle;
  for (int64_t a = 0; a < cols; ++a) {
    input.sumSquares.push_back(moments[a * cols + a]);
    triangle.insert(triangle.end(), moments.begin() + a * cols + a,
                    moments.begin() + (a + 1) * cols);
  }
  input.secondMoments = std::make_shared<const std::vector<double>>(triangle);
  return input;
}

/// H [cols, cols] as the kernels read it.
inline std::vector<float> inPanels(const std::vector<double> &moments, int64_t cols) {
  std::vector<float> panels(size_t(momentPanels(cols) * cols * momentPanel), 0.0f);
  for (int64_t k = 0; k < cols; ++k)
    for (int64_t j = 0; j < cols; ++j)
      panels[size_t((j / momentPanel * cols + k) * momentPanel + j % momentPanel)] =
          float(moments[size_t(k * cols + j)]);
  return panels;
}

} // namespace smelt
