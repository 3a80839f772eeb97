// Compact rotary tables: which tables are recognized, how near the combined rows come to the exact
// angles, and near misses that must keep their table.
#include "passes/lower/rotary_table.h"

#include "runtime/formats/formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace smelt {
namespace {

constexpr int64_t positions = 4096, half = 24;

float frequencyOf(int64_t i) { return float(std::pow(10000.0, -double(i) / double(half))); }

/// Two tables [positions, half] of m cos and m sin, the angle in float as exporters compute it.
struct Tables {
  std::vector<float> cos, sin;
  std::vector<uint16_t> halfCos, halfSin;

  explicit Tables(const std::function<float(int64_t position, int64_t i)> &angle, float m = 1) {
    for (int64_t p = 0; p < positions; ++p)
      for (int64_t i = 0; i < half; ++i) {
        cos.push_back(m * std::cos(angle(p, i)));
        sin.push_back(m * std::sin(angle(p, i)));
      }
  }
  std::optional<std::vector<float>> compact(int64_t rows = positions) const {
    return compactRotaryTable(view(cos.data(), DataType::F32), view(sin.data(), DataType::F32),
                              rows);
  }
  std::optional<std::vector<float>> compactInHalf() {
    for (float v : cos)
      halfCos.push_back(floatToHalf(v));
    for (float v : sin)
      halfSin.push_back(floatToHalf(v));
    return compactRotaryTable(view(halfCos.data(), DataType::F16),
                              view(halfSin.data(), DataType::F16), positions);
  }

private:
  static WeightView view(const void *data, DataType type) {
    WeightView view;
    view.data = static_cast<const std::byte *>(data);
    view.type = type;
    view.rows = positions;
    view.cols = view.rowStride = half;
    return view;
  }
};

float usualAngle(int64_t p, int64_t i) { return float(p) * frequencyOf(i); }

/// Largest distance of the combined cosines and sines from m times those of the exact angle.
double largestError(const std::vector<float> &table, double m) {
  double largest = 0;
  for (int64_t p = 0; p < positions; ++p) {
    const float *a = &table[size_t((rotaryStep + p / rotaryStep) * 2 * half)];
    const float *b = &table[size_t(p % rotaryStep * 2 * half)];
    for (int64_t i = 0; i < half; ++i) {
      float cos = std::fma(a[i], b[i], -(a[half + i] * b[half + i]));
      float sin = std::fma(a[half + i], b[i], a[i] * b[half + i]);
      double angle = double(p) * double(frequencyOf(i));
      largest = std::max(
          {largest, std::fabs(cos - m * std::cos(angle)), std::fabs(sin - m * std::sin(angle))});
    }
  }
  return largest;
}

TEST(RotaryTable, AnglesInFloatAreTwoSmallTables) {
  auto table = Tables(usualAngle).compact();
  ASSERT_TRUE(table);
  EXPECT_EQ(int64_t(table->size()), (rotaryStep + positions / rotaryStep) * 2 * half);
  // Roundings of the combination (rotary_table.h), and a frequency that is recovered from angles
  // rounded to 2^-24 of themselves, independently: least squares over n rows leaves 2^-24 / sqrt(n)
  // of that.
  const double combined = (2 * std::sqrt(2) + 2) * 0x1p-25;
  EXPECT_LT(largestError(*table, 1), combined + positions * 0x1p-24 / std::sqrt(positions));
}

TEST(RotaryTable, AFactorOfAllAnglesIsKept) {
  auto table = Tables(usualAngle, 1.1902381f).compact();
  ASSERT_TRUE(table);
  EXPECT_LT(largestError(*table, 1.1902381f), 2 * 0x1p-22 + 0x1p-18);
}

TEST(RotaryTable, HalfPrecisionIsRoundingOnly) {
  auto table = Tables(usualAngle).compactInHalf();
  ASSERT_TRUE(table);
  // Better than what was stored, which is off by up to 2^-12.
  EXPECT_LT(largestError(*table, 1), 0x1p-13);
}

TEST(RotaryTable, PartOfATableOfManyPositions) {
  auto table = Tables(usualAngle).compact(200);
  ASSERT_TRUE(table);
  EXPECT_EQ(int64_t(table->size()), (rotaryStep + 4) * 2 * half);
}

TEST(RotaryTable, FewPositionsKeepTheirTable) {
  EXPECT_FALSE(Tables(usualAngle).compact(65));
  EXPECT_FALSE(Tables(usualAngle).compact(1));
}

TEST(RotaryTable, FrequenciesThatSwitchKeepTheirTable) {
  // longrope: other factors from a position on.
  auto switching = [](int64_t p, int64_t i) {
    return float(p) * (p < 3000 ? frequencyOf(i) : frequencyOf(i) / (1 + 0.01f * float(i)));
  };
  EXPECT_FALSE(Tables(switching).compact());
  // All rows that are stored lie before the switch.
  EXPECT_TRUE(Tables(switching).compact(2900));
}

TEST(RotaryTable, OneOtherElementKeepsTheTable) {
  for (bool sine : {false, true}) {
    Tables tables(usualAngle);
    (sine ? tables.sin : tables.cos)[100 * half + 20] += 1e-5f; // an angle of about 0.05
    EXPECT_FALSE(tables.compact()) << sine;
  }
}

TEST(RotaryTable, CoarserAnglesKeepTheirTable) {
  auto coarse = [](int64_t p, int64_t i) {
    return halfToFloat(floatToHalf(float(p) * frequencyOf(i)));
  };
  EXPECT_FALSE(Tables(coarse).compact());
}

TEST(RotaryTable, NoNumbersKeepTheirTable) {
  Tables tables(usualAngle);
  tables.cos[5 * half] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(tables.compact());
}

} // namespace
} // namespace smelt
