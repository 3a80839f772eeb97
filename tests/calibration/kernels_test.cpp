// Every instruction set level gives the same bits, and the row kernels follow their formulas.
#include "calibration/adjoint_kernels.h"
#include "calibration/kernels.h"
#include "calibration/tile_kernels.h"
#include "calibration/tile_quantizer.h"
#include "tests/calibration/tile_fixture.h"

#include <array>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <random>

namespace smelt {
namespace {

std::vector<float> normals(int64_t count, double spread, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, float(spread));
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(normal(random));
  return values;
}

/// Everything that one level computes from fixed inputs, as one sequence of numbers.
std::vector<double> everyRowKernel(const RowKernels &kernels) {
  constexpr int64_t n = 333;
  const std::vector<float> x = normals(n, 3), y = normals(n, 1, 2), w = normals(n, 1, 3);
  std::vector<double> seen;
  auto keep = [&](const std::vector<float> &values) {
    seen.insert(seen.end(), values.begin(), values.end());
  };
  std::vector<float> out(n);
  for (ActivationKind kind :
       {ActivationKind::Identity, ActivationKind::Relu, ActivationKind::Relu2, ActivationKind::Silu,
        ActivationKind::GeluTanh, ActivationKind::GeluErf}) {
    kernels.activate(kind, x.data(), out.data(), n);
    keep(out);
    kernels.gated(kind, x.data(), y.data(), out.data(), n);
    keep(out);
  }
  kernels.add(x.data(), y.data(), out.data(), n);
  keep(out);
  kernels.multiply(x.data(), y.data(), out.data(), n);
  keep(out);
  kernels.scale(0.3f, x.data(), out.data(), n);
  keep(out);
  kernels.softcap(2.5f, x.data(), out.data(), n);
  keep(out);
  kernels.rmsNorm(x.data(), w.data(), 1e-5, out.data(), n);
  keep(out);
  kernels.layerNorm(x.data(), w.data(), y.data(), 1e-5, out.data(), n);
  keep(out);
  for (bool interleaved : {false, true}) {
    kernels.rope(x.data(), y.data(), w.data(), 100, n, interleaved, out.data());
    keep(out);
  }
  out = x;
  kernels.softmax(out.data(), 5, 300, n);
  keep(out);
  std::vector<double> squares(111), absolutes(111);
  std::vector<float> maxima(111);
  kernels.moments(x.data(), 3, 111, 111, squares.data(), absolutes.data(), maxima.data());
  seen.insert(seen.end(), squares.begin(), squares.end());
  seen.insert(seen.end(), absolutes.begin(), absolutes.end());
  keep(maxima);
  std::vector<uint16_t> halves(n);
  kernels.toBfloat16(x.data(), halves.data(), n);
  seen.insert(seen.end(), halves.begin(), halves.end());
  return seen;
}

std::vector<double> everyAdjointKernel(const AdjointKernels &kernels) {
  constexpr int64_t n = 333;
  const std::vector<float> x = normals(n, 3), g = normals(n, 1, 2), w = normals(n, 1, 3);
  std::vector<double> seen;
  std::vector<float> out(n), other(n);
  auto keep = [&](const std::vector<float> &values) {
    seen.insert(seen.end(), values.begin(), values.end());
  };
  for (ActivationKind kind :
       {ActivationKind::Identity, ActivationKind::Relu, ActivationKind::Relu2, ActivationKind::Silu,
        ActivationKind::GeluTanh, ActivationKind::GeluErf}) {
    kernels.activate(kind, x.data(), g.data(), out.data(), n);
    keep(out);
    kernels.gated(kind, x.data(), w.data(), g.data(), out.data(), other.data(), n);
    keep(out);
    keep(other);
  }
  kernels.softcap(2.5f, x.data(), g.data(), out.data(), n);
  keep(out);
  kernels.cappedScores(9.0f, x.data(), g.data(), out.data(), n);
  keep(out);
  kernels.rmsNorm(x.data(), w.data(), 1e-5, g.data(), out.data(), n);
  keep(out);
  kernels.layerNorm(x.data(), w.data(), 1e-5, g.data(), out.data(), n);
  keep(out);
  kernels.softmax(x.data(), g.data(), out.data(), n);
  keep(out);
  kernels.roundingError(x.data(), 127, out.data(), n);
  keep(out);
  seen.push_back(kernels.dot(x.data(), g.data(), n));
  return seen;
}

std::vector<double> everyTileKernel(const TileKernels &kernels) {
  constexpr int64_t cols = 128, groups = cols / 16;
  const std::vector<float> weights = normals(cols * 16, 1);
  std::vector<float> omega = normals(cols * 16, 1, 4), importance = normals(cols, 1, 5);
  std::vector<float> factors = normals(cols * cols, 0.05, 6);
  std::vector<double> moments(cols * cols);
  std::vector<float> diagonal(cols, 1.5f), scratch(2 * cols * 16);
  std::vector<int32_t> order;
  for (float &value : omega)
    value *= value;
  for (int64_t k = 0; k < cols; ++k) {
    importance[k] *= importance[k];
    order.push_back(int32_t((k * 5) % cols));
    for (int64_t j = 0; j < cols; ++j) // positive definite: 0.5^|k - j|
      moments[k * cols + j] = std::pow(0.5, double(std::abs(k - j)));
  }
  const TileProblem problem{weights.data(), omega.data(), importance.data(), cols, cols};
  const FeedbackOrder feedback{order.data(), factors.data(), diagonal.data(), cols};
  std::vector<double> seen;
  for (WeightFormat format : {WeightFormat::A4G32, WeightFormat::A6G16, WeightFormat::N4G32,
                              WeightFormat::S4G32, WeightFormat::S8C, WeightFormat::S8G32})
    for (bool search : {false, true}) {
      std::vector<float> steps(groups * 16), offsets(groups * 16), rowSteps(16), rowOffsets(16);
      std::vector<int16_t> stepCodes(groups * 16), offsetCodes(groups * 16);
      const GridKind kind = gridKind(formatInfo(format));
      const TileGrid grid{kind,
                          kind.group ? kind.group : cols,
                          steps.data(),
                          offsets.data(),
                          rowSteps.data(),
                          rowOffsets.data(),
                          stepCodes.data(),
                          offsetCodes.data()};
      std::vector<int8_t> codes(cols * 16), fed(cols * 16);
      double nearestLoss[16], fedLoss[16], polishedLoss[16];
      auto keep = [&](const auto &values) {
        seen.insert(seen.end(), std::begin(values), std::end(values));
      };
      kernels.searchScales(problem, search, grid);
      keep(steps);
      keep(offsets);
      kernels.roundNearest(problem, grid, codes.data());
      keep(codes);
      const TileWork given{&problem, &grid, codes.data(), scratch.data(), nearestLoss};
      kernels.feedbackLoss(&given, 1, feedback);
      keep(nearestLoss);
      const TileWork rounded{&problem, &grid, fed.data(), scratch.data(), fedLoss};
      kernels.roundFeedback(&rounded, 1, feedback);
      keep(fed);
      keep(fedLoss);
      const TileWork polished{&problem, &grid, fed.data(), scratch.data(), polishedLoss};
      kernels.polish(&polished, 1, inPanels(moments, cols).data());
      keep(fed);
      keep(steps);
      keep(polishedLoss);
      std::vector<float> triangle, apart = normals(2 * 27 * 16, 1, 7);
      for (int64_t k = 0; k < 27; ++k) // no multiple of four
        triangle.insert(triangle.end(), &moments[k * cols + k], &moments[k * cols + 27]);
      double apartLosses[32];
      kernels.momentLosses(triangle.data(), 27, apart.data(), 2, apartLosses);
      keep(apartLosses);
      const TileErrors total = kernels.measure(problem, grid, fed.data(), 13);
      keep(std::array{total.squares, total.weighted});
    }
  return seen;
}

TEST(Kernels, EveryLevelGivesTheSameBits) {
  const std::vector<KernelLevel> &levels = kernelLevels();
  ASSERT_STREQ(levels.back().name, "base");
  const std::vector<double> rows = everyRowKernel(levels.back().rows);
  const std::vector<double> tiles = everyTileKernel(levels.back().tiles);
  const std::vector<double> adjoints = everyAdjointKernel(levels.back().adjoints);
  for (double value : rows)
    ASSERT_TRUE(std::isfinite(value));
  for (const KernelLevel &level : levels) {
    EXPECT_EQ(everyRowKernel(level.rows), rows) << level.name;
    EXPECT_EQ(everyTileKernel(level.tiles), tiles) << level.name;
    EXPECT_EQ(everyAdjointKernel(level.adjoints), adjoints) << level.name;
  }
}

/// Largest distance of the kernel from the exact function, over a range that holds both tails.
double worst(ActivationKind kind, const std::function<double(double)> &exact) {
  std::vector<float> x, y;
  for (int i = -20000; i <= 20000; ++i)
    x.push_back(float(i) * 0.005f);
  y.resize(x.size());
  rowKernels().activate(kind, x.data(), y.data(), int64_t(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::fabs(y[i] - exact(x[i])) / (1 + std::fabs(x[i])));
  return worst;
}

TEST(Kernels, ActivationsAreAccurate) {
  EXPECT_LT(worst(ActivationKind::Silu, [](double x) { return x / (1 + std::exp(-x)); }), 3e-7);
  EXPECT_LT(worst(ActivationKind::GeluErf,
                  [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }),
            3e-7);
  EXPECT_LT(worst(ActivationKind::GeluTanh,
                  [](double x) {
                    return 0.5 * x *
                           (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
                  }),
            3e-7);
}

TEST(Kernels, RoundingErrors) {
  const std::vector<float> x = {127, -126.4f, 0.5f, 1.5f, 0};
  std::vector<float> e(x.size());
  adjointKernels().roundingError(x.data(), 127, e.data(), int64_t(x.size()));
  EXPECT_EQ(e, (std::vector<float>{0, -126.0f + 126.4f, -0.5f, 0.5f, 0}));
  const std::vector<float> zeros(4, 0.0f);
  adjointKernels().roundingError(zeros.data(), 127, e.data(), 4);
  EXPECT_EQ(std::vector<float>(e.begin(), e.begin() + 4), zeros);
}

TEST(Kernels, Bfloat16RoundsToNearestEven) {
  const std::vector<float> x = {
      1.0f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, -1.0f - 0x1.8p-8f, 3.4e38f, INFINITY, NAN};
  std::vector<uint16_t> y(x.size());
  rowKernels().toBfloat16(x.data(), y.data(), int64_t(x.size()));
  EXPECT_EQ(std::vector<uint16_t>(y.begin(), y.end() - 1),
            (std::vector<uint16_t>{0x3f80, 0x3f80, 0x3f82, 0xbf81, 0x7f80, 0x7f80}));
  EXPECT_EQ(y.back() & 0x7fc0, 0x7fc0);
}

} // namespace
} // namespace smelt
