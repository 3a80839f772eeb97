// The scale search against exhaustive search, and on weights that lie on a grid.
#include "tests/calibration/tile_fixture.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

/// Nearest level by definition.
double nearestLevel(const GridKind &kind, double value) {
  if (kind.grid != Grid::Table)
    return std::min<double>(kind.highest, std::max<double>(kind.lowest, std::nearbyint(value)));
  const std::span<const int8_t> table = tableOf(kind.bits);
  double best = table[0];
  for (int8_t level : table)
    if (std::fabs(value - level) < std::fabs(value - best))
      best = level;
  return best;
}

/// Least weighted error of the single group of a row over a fine net of steps and offsets.
double exhaustiveError(const TileFixture &tile, int64_t row) {
  const GridKind &kind = tile.grid.kind;
  double low = 0, high = 0, best = 1e30;
  for (int64_t k = 0; k < tile.cols; ++k) {
    low = std::min<double>(low, tile.weights[k * 16 + row]);
    high = std::max<double>(high, tile.weights[k * 16 + row]);
  }
  auto consider = [&](double step, double offset) {
    double sum = 0;
    for (int64_t k = 0; k < tile.cols; ++k) {
      const double w = tile.weights[k * 16 + row];
      const double d = step * nearestLevel(kind, (w + offset) / step) - offset - w;
      sum += tile.omega[k * 16 + row] * d * d;
    }
    best = std::min(best, sum);
  };
  if (kind.grid == Grid::Asymmetric) {
    for (int i = 0; i <= 60; ++i)
      for (int j = 0; j <= 60; ++j) {
        const double offset = -low * (0.6 + 0.5 * j / 60), top = high * (0.6 + 0.5 * i / 60);
        consider((top + offset) / kind.highest, offset);
      }
    return best;
  }
  const double extreme = std::max(-low, high);
  for (int i = 0; i <= 400; ++i)
    for (double sign : {-1.0, 1.0})
      if (sign > 0 || kind.lowestStep < 0)
        consider(sign * extreme / kind.highest * (0.6 + 0.6 * i / 400), 0);
  return best;
}

TEST(ScaleSearch, ComesNearTheExhaustiveSearch) {
  for (const GridKind &kind : {asymmetricKind(4, 32), asymmetricKind(5, 16), asymmetricKind(6, 64),
                               tableKind(32), tableKind(16), tableKind(32, 5), symmetricKind(32)}) {
    TileFixture tile(kind, kind.group); // one group: its scale is the row's largest
    tile.fillNormal(uint64_t(kind.group));
    for (int64_t k = 0; k < tile.cols; ++k)
      for (int64_t row = 0; row < 16; ++row)
        tile.omega[k * 16 + row] = k % 7 == 0 ? 5.0f : 1.0f;
    double minimumMaximum = 0, found = 0, best = 0;
    tileKernels().searchScales(tile.problem, false, tile.grid);
    tileKernels().roundNearest(tile.problem, tile.grid, tile.codes.data());
    for (int64_t row = 0; row < 16; ++row)
      minimumMaximum += tile.groupError(0, row);
    tileKernels().searchScales(tile.problem, true, tile.grid);
    tileKernels().roundNearest(tile.problem, tile.grid, tile.codes.data());
    for (int64_t row = 0; row < 16; ++row) {
      found += tile.groupError(0, row);
      best += exhaustiveError(tile, row);
    }
    EXPECT_LT(found, minimumMaximum) << int(kind.grid) << " " << kind.highest;
    // With many levels the error is a ragged function of the step, of which twenty see less.
    EXPECT_LT(found, (kind.grid == Grid::Symmetric ? 1.2 : 1.06) * best)
        << int(kind.grid) << " " << kind.highest;
  }
}

TEST(ScaleSearch, FindsTheGridThatWeightsLieOn) {
  // Steps of 127 / 1024 or 255 / 1024 are stored exactly: the row factor is then 1 / 1024.
  TileFixture table(tableKind(32), 64);
  TileFixture asymmetric(asymmetricKind(4, 32), 64);
  for (int64_t k = 0; k < 64; ++k)
    for (int64_t row = 0; row < 16; ++row) {
      const float sign = row % 2 ? -1.0f : 1.0f, half = k < 32 ? 1.0f : 100.0f / 127;
      table.weights[k * 16 + row] = sign * half * 127 / 1024 * float(tableOf16[(k + row) % 16]);
      asymmetric.weights[k * 16 + row] = 255.0f / 1024 * float((k * 5 + row) % 16 - 6);
    }
  for (TileFixture *tile : {&table, &asymmetric}) {
    tileKernels().searchScales(tile->problem, true, tile->grid);
    tileKernels().roundNearest(tile->problem, tile->grid, tile->codes.data());
  }
  for (int64_t k = 0; k < 64; ++k)
    for (int64_t row = 0; row < 16; ++row) {
      EXPECT_NEAR(table.error(k, row), 0, 1e-6) << k << " " << row;
      EXPECT_NEAR(asymmetric.error(k, row), 0, 2e-3) << k << " " << row;
    }
}

TEST(ScaleSearch, StoredScalesMeanTheSteps) {
  for (const GridKind &kind :
       {asymmetricKind(5, 16), tableKind(32), tableKind(32, 5), symmetricKind(32)}) {
    TileFixture tile(kind, 128);
    tile.fillNormal(3);
    tileKernels().searchScales(tile.problem, true, tile.grid);
    for (int64_t i = 0; i < tile.groups * 16; ++i) {
      EXPECT_EQ(bfloat16ToFloat(floatToBfloat16(tile.rowSteps[i % 16])), tile.rowSteps[i % 16]);
      EXPECT_EQ(bfloat16ToFloat(floatToBfloat16(tile.rowOffsets[i % 16])), tile.rowOffsets[i % 16]);
      EXPECT_EQ(tile.steps[i], tile.rowSteps[i % 16] * tile.stepCodes[i]);
      EXPECT_EQ(tile.offsets[i], tile.rowOffsets[i % 16] * tile.offsetCodes[i]);
      EXPECT_GE(tile.stepCodes[i], kind.lowestStep);
      EXPECT_LE(tile.stepCodes[i], kind.highestStep);
      EXPECT_GE(tile.offsetCodes[i], 0);
      EXPECT_LE(tile.offsetCodes[i], kind.grid == Grid::Asymmetric ? 255 : 0);
    }
  }
}

} // namespace
} // namespace smelt
