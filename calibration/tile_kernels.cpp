// Rounding to nearest and measuring over tiles of 16 rows, and the table of all tile kernels.
#include "calibration/lanes.h"

namespace smelt::SMELT_LEVEL {
namespace {

template <typename Levels>
void roundAll(const TileProblem &problem, const TileGrid &grid, const Levels &levels,
              int8_t *codes) {
  for (int64_t k0 = 0, g = 0; k0 < problem.cols; k0 += grid.groupCols, ++g) {
    const Lanes inverse = reciprocal(load(grid.steps + g * lanes));
    const Lanes shift = load(grid.offsets + g * lanes) * inverse;
    for (int64_t k = k0; k < k0 + grid.groupCols; ++k)
      storeCodes(codes + k * lanes, levels(load(problem.weights + k * lanes) * inverse + shift));
  }
}

void roundNearest(const TileProblem &problem, const TileGrid &grid, int8_t *codes) {
  withLevels(grid.kind, [&](const auto &levels) { roundAll(problem, grid, levels, codes); });
}

TileErrors measure(const TileProblem &problem, const TileGrid &grid, const int8_t *codes,
                   int64_t rows) {
  Doubles squares{}, weightSquares{}, weighted{}, weightedSquares{};
  for (int64_t k = 0; k < problem.inputs; ++k) {
    const int64_t g = k / grid.groupCols;
    Lanes w = load(problem.weights + k * lanes);
    Lanes d = load(grid.steps + g * lanes) * loadCodes(codes + k * lanes) -
              load(grid.offsets + g * lanes) - w;
    Doubles error = toDoubles(d * d), power = toDoubles(w * w);
    squares += error;
    weightSquares += power;
    weighted += double(problem.importance[k]) * error;
    weightedSquares += double(problem.importance[k]) * power;
  }
  TileErrors total{};
  for (int64_t row = 0; row < rows; ++row) {
    total.squares += squares[row];
    total.weightSquares += weightSquares[row];
    total.weighted += weighted[row];
    total.weightedSquares += weightedSquares[row];
  }
  return total;
}

/// d^T H d = sum_k d_k (H_kk d_k + 2 sum_{j>k} H_kj d_j). Four rows of H at a time pass all errors
/// while they are in the cache.
void momentLosses(const float *triangle, int64_t inputs, const float *errors, int64_t count,
                  double *losses) {
  for (int64_t i = 0; i < count * lanes; ++i)
    losses[i] = 0;
  for (int64_t first = 0; first < inputs; first += 4) {
    const int64_t width = first + 4 <= inputs ? 4 : inputs - first, last = first + width;
    const float *rows[4]; // row[j] is H of column j, j >= the row's own
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t k = first + (i < width ? i : 0);
      rows[i] = triangle + (k * inputs - k * (k - 1) / 2) - k;
    }
    for (int64_t e = 0; e < count; ++e) {
      const float *d = errors + e * inputs * lanes;
      Lanes sums[4] = {};
      for (int64_t j = last; j < inputs; ++j) {
        const Lanes v = load(d + j * lanes);
        for (int64_t i = 0; i < 4; ++i)
          sums[i] += rows[i][j] * v;
      }
      Doubles total{};
      for (int64_t i = 0; i < width; ++i) {
        const int64_t k = first + i;
        for (int64_t j = k + 1; j < last; ++j)
          sums[i] += rows[i][j] * load(d + j * lanes);
        const Lanes own = load(d + k * lanes);
        total += toDoubles(own) * toDoubles(rows[i][k] * own + 2.0f * sums[i]);
      }
      for (int64_t row = 0; row < lanes; ++row)
        losses[e * lanes + row] += total[row];
    }
  }
}

} // namespace

extern const TileKernels tileKernelTable;
const TileKernels tileKernelTable = {searchScales, roundNearest, roundFeedback, feedbackLoss,
                                     polish,       momentLosses, measure};

} // namespace smelt::SMELT_LEVEL
