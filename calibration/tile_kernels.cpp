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

} // namespace

extern const TileKernels tileKernelTable;
const TileKernels tileKernelTable = {searchScales, roundNearest, roundFeedback,
                                     feedbackLoss, polish,       measure};

} // namespace smelt::SMELT_LEVEL
