// Coordinate descent: known optima, and no single move left when it stands still.
#include "tests/calibration/tile_fixture.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

constexpr int64_t cols = 48; // a whole group of 32 and half of the next

/// Polishes a tile, and says the losses that the kernel gives.
std::vector<double> polishTile(TileFixture &tile, const std::vector<double> &moments) {
  std::vector<float> scratch(2 * tile.cols * 16);
  std::vector<double> losses(16);
  const TileWork work{&tile.problem, &tile.grid, tile.codes.data(), scratch.data(), losses.data()};
  tileKernels().polish(&work, 1, inPanels(moments, tile.cols).data());
  return losses;
}

TEST(Polish, FindsNearestCodesWhereInputsAreIndependent) {
  GridKind kind{Grid::Symmetric, ScaleStorage::Row, -127, 127, 0, 255, 0};
  TileFixture tile(kind, cols);
  tile.fillNormal(1);
  std::vector<double> moments(cols * cols);
  for (int64_t k = 0; k < cols; ++k)
    moments[k * cols + k] = double(1 + k % 5);
  std::mt19937 random(2);
  for (int8_t &code : tile.codes)
    code = int8_t(random() % 200) - 100;
  tile.steps.assign(16, 0.03f);
  polishTile(tile, moments);
  std::vector<int8_t> nearest(cols * 16);
  tileKernels().roundNearest(tile.problem, tile.grid, nearest.data());
  EXPECT_EQ(tile.codes, nearest);
  EXPECT_EQ(tile.steps, std::vector<float>(16, 0.03f)); // scales of rows stay
}

TEST(Polish, FindsTheScaleThatWeightsLieOn) {
  for (const GridKind &kind :
       {asymmetricKind(4, 16), tableKind(16), tableKind(16, 5), symmetricKind(16)}) {
    TileFixture tile(kind, cols);
    const std::span<const int8_t> table = tableOf(kind.bits);
    for (int64_t row = 0; row < 16; ++row) {
      tile.rowSteps[row] = tile.rowOffsets[row] = 1.0f / 64;
      for (int64_t g = 0; g < tile.groups; ++g) {
        const int64_t i = g * 16 + row;
        const int wanted = 90 + int(g + row);
        for (int64_t k = g * 16; k < g * 16 + 16; ++k) {
          tile.codes[k * 16 + row] = kind.grid == Grid::Table
                                         ? table[size_t(k % 16) * table.size() / 16]
                                         : int8_t((k * 7 + row) % 16);
          tile.weights[k * 16 + row] = float(wanted) / 64 * float(tile.codes[k * 16 + row]) -
                                       (kind.grid == Grid::Asymmetric ? 3.0f : 0.0f);
        }
        // Off by little: the codes stay nearest.
        tile.stepCodes[i] = int16_t(wanted + (row % 2 ? 1 : -1));
        tile.offsetCodes[i] = kind.grid == Grid::Asymmetric ? 190 : 0;
        tile.steps[i] = tile.rowSteps[row] * tile.stepCodes[i];
        tile.offsets[i] = tile.rowOffsets[row] * tile.offsetCodes[i];
      }
    }
    std::vector<double> moments(cols * cols); // independent: no code makes up for another
    for (int64_t k = 0; k < cols; ++k)
      moments[k * cols + k] = 1;
    polishTile(tile, moments);
    for (int64_t k = 0; k < cols; ++k)
      for (int64_t row = 0; row < 16; ++row)
        EXPECT_EQ(tile.error(k, row), 0) << int(kind.grid) << " " << k << " " << row;
  }
}

/// Tries `change` on the tile and expects the row's loss not to fall beyond rounding.
template <typename Change, typename Undo>
void expectNoGain(TileFixture &tile, const std::vector<double> &moments, int64_t row, double loss,
                  const Change &change, const Undo &undo) {
  change();
  EXPECT_GE(tile.loss(moments, row), loss * (1 - 1e-4)) << "row " << row;
  undo();
}

TEST(Polish, LeavesNoSingleMoveAndNeverRises) {
  const std::vector<double> moments = correlatedMoments(cols, 7);
  for (const GridKind &kind :
       {asymmetricKind(4, 16), tableKind(16), tableKind(16, 5), symmetricKind(16)}) {
    TileFixture tile(kind, cols);
    tile.fillNormal(6);
    tileKernels().searchScales(tile.problem, true, tile.grid);
    tileKernels().roundNearest(tile.problem, tile.grid, tile.codes.data());
    std::vector<double> before(16);
    for (int64_t row = 0; row < 16; ++row)
      before[row] = tile.loss(moments, row);
    polishTile(tile, moments);
    for (int64_t row = 0; row < 16; ++row)
      EXPECT_LT(tile.loss(moments, row), 0.9 * before[row]);
    std::vector<double> losses;
    for (int round = 0; round < 20; ++round)
      losses = polishTile(tile, moments);
    for (int64_t row = 0; row < 16; ++row)
      EXPECT_NEAR(losses[size_t(row)], tile.loss(moments, row), 1e-4 * before[row]);
    for (int64_t row = 0; row < 2; ++row) {
      const double loss = tile.loss(moments, row);
      for (int64_t k = 0; k < cols; ++k) {
        int8_t &code = tile.codes[k * 16 + row];
        const int8_t kept = code;
        for (int other = int(kind.lowest); other <= int(kind.highest); ++other) {
          bool allowed = kind.grid != Grid::Table;
          for (int8_t value : tableOf(kind.bits))
            allowed |= value == other;
          if (allowed && std::abs(other - kept) < 30)
            expectNoGain(
                tile, moments, row, loss, [&] { code = int8_t(other); }, [&] { code = kept; });
        }
      }
      for (int64_t g = 0; g < tile.groups; ++g) {
        const int64_t i = g * 16 + row;
        const float step = tile.steps[i], offset = tile.offsets[i];
        for (int s = -2; s <= 2; ++s)
          for (int o = -2; o <= 2; ++o) {
            const int stepCode = tile.stepCodes[i] + s, offsetCode = tile.offsetCodes[i] + o;
            if (stepCode < int(kind.lowestStep) || stepCode > int(kind.highestStep) ||
                offsetCode < 0 || offsetCode > 255 || (o && kind.grid != Grid::Asymmetric))
              continue;
            expectNoGain(
                tile, moments, row, loss,
                [&] {
                  tile.steps[i] = tile.rowSteps[row] * float(stepCode);
                  tile.offsets[i] = tile.rowOffsets[row] * float(offsetCode);
                },
                [&] {
                  tile.steps[i] = step;
                  tile.offsets[i] = offset;
                });
          }
      }
    }
  }
}

TEST(Polish, TilesSideBySideAreAsAlone) {
  constexpr int64_t wide = 192, count = 5; // more than any level takes together, and one alone
  const std::vector<double> moments = correlatedMoments(wide, 7);
  const std::vector<float> panels = inPanels(moments, wide);
  for (const GridKind &kind : {asymmetricKind(4, 16), tableKind(32), asymmetricKind(4, 64)}) {
    std::vector<std::unique_ptr<TileFixture>> alone, together;
    std::vector<std::vector<float>> scratch(count, std::vector<float>(2 * wide * 16));
    std::vector<std::vector<double>> aloneLosses, losses(count, std::vector<double>(16));
    std::vector<TileWork> work;
    for (int64_t t = 0; t < count; ++t) {
      for (auto *tiles : {&alone, &together}) {
        tiles->push_back(std::make_unique<TileFixture>(kind, wide));
        TileFixture &tile = *tiles->back();
        tile.fillNormal(uint64_t(20 + t));
        tileKernels().searchScales(tile.problem, true, tile.grid);
        tileKernels().roundNearest(tile.problem, tile.grid, tile.codes.data());
      }
      aloneLosses.push_back(polishTile(*alone.back(), moments));
      TileFixture &tile = *together.back();
      work.push_back({&tile.problem, &tile.grid, tile.codes.data(), scratch[size_t(t)].data(),
                      losses[size_t(t)].data()});
    }
    tileKernels().polish(work.data(), count, panels.data());
    EXPECT_EQ(losses, aloneLosses);
    for (size_t t = 0; t < count; ++t) {
      EXPECT_EQ(together[t]->codes, alone[t]->codes);
      EXPECT_EQ(together[t]->steps, alone[t]->steps);
      EXPECT_EQ(together[t]->offsets, alone[t]->offsets);
    }
  }
}

} // namespace
} // namespace smelt
