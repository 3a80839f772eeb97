// The packed layouts against an independent decode written from the description in formats.h.
#include "runtime/formats/formats.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>

namespace smelt {
namespace {

/// A tile with random codes and scales, and the value that each weight must decode to.
struct RandomTile {
  TileCodes codes;
  std::vector<float> values, scales, minimums, expected;
  std::vector<uint8_t> bytes, groupScales, groupMinimums;

  RandomTile(WeightFormat format, int64_t cols, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const FormatInfo &info = formatInfo(format);
    const int64_t groups = (cols + 31) / 32;
    codes.cols = cols;
    auto floats = [&](std::vector<float> &into, int64_t count) {
      for (int64_t i = 0; i < count; ++i)
        into.push_back(normal(random));
      return std::span<const float>(into);
    };
    auto small = [&](std::vector<uint8_t> &into, int64_t count, int below) {
      for (int64_t i = 0; i < count; ++i)
        into.push_back(uint8_t(random() % uint64_t(below)));
      return std::span<const uint8_t>(into);
    };
    if (format == WeightFormat::F32) {
      codes.values = floats(values, 16 * cols);
      expected = values;
      return;
    }
    codes.codes = small(bytes, 16 * cols, 1 << info.bits);
    codes.scales = floats(scales, format == WeightFormat::S4G32 ? 16 * groups : 16);
    if (info.asymmetric) {
      codes.minimums = floats(minimums, 16);
      codes.groupScales = small(groupScales, 16 * groups, 256);
      codes.groupMinimums = small(groupMinimums, 16 * groups, 256);
    }
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t k = 0; k < cols; ++k) {
        const int code = bytes[row * cols + k];
        const int64_t group = row * groups + k / 32;
        float value = 0;
        if (format == WeightFormat::S8C)
          value = scales[row] * float(code - 128);
        if (format == WeightFormat::S4G32)
          value = halfToFloat(floatToHalf(scales[group])) * float(code - 8);
        if (format == WeightFormat::A4G32)
          value = std::fma(scales[row], float(groupScales[group] * code),
                           -(minimums[row] * float(groupMinimums[group])));
        expected.push_back(value);
      }
  }
};

/// Code of (row, k) found by walking the lines as the comment in formats.h describes them.
int codeInLines(const FormatInfo &info, const std::byte *block, int64_t row, int64_t input) {
  const std::byte *lines = block + info.blockHeaderBytes;
  if (info.bits == 8)
    return int(lines[input / 4 * 64 + row * 4 + input % 4]);
  // Four lines per group of 32: line s, byte b of the row's dword holds inputs 8s + b (low) and 8s
  // + 4 + b (high).
  const int64_t group = input / 32, s = input % 32 / 8, rest = input % 8;
  const int byte = int(lines[(group * 4 + s) * 64 + row * 4 + rest % 4]);
  return rest < 4 ? byte & 15 : byte >> 4;
}

constexpr WeightFormat allFormats[] = {WeightFormat::F32, WeightFormat::S8C, WeightFormat::S4G32,
                                       WeightFormat::A4G32};

TEST(Formats, SizesOfTheTable) {
  EXPECT_EQ(formatInfo(WeightFormat::F32).blockBytes, 4096);
  EXPECT_EQ(formatInfo(WeightFormat::S8C).blockBytes, 1024);
  EXPECT_EQ(formatInfo(WeightFormat::S4G32).blockBytes, 576);
  EXPECT_EQ(formatInfo(WeightFormat::A4G32).blockBytes, 576);
  EXPECT_EQ(tileBytes(WeightFormat::A4G32, 576), 128 + 9 * 576);
  EXPECT_EQ(tileBytes(WeightFormat::S8C, 65), 64 + 2 * 1024);
  EXPECT_EQ(packedBytes(WeightFormat::S4G32, 17, 64), 2 * 576);
}

TEST(Formats, UnpackGivesWhatWasPacked) {
  for (WeightFormat format : allFormats)
    for (int64_t cols : {32, 64, 65, 100, 192}) {
      RandomTile tile(format, cols, uint64_t(cols));
      std::vector<std::byte> packed(size_t(tileBytes(format, cols)), std::byte(0xee));
      packTile(format, tile.codes, packed);
      std::vector<float> out(size_t(16 * cols));
      unpackTile(format, packed, cols, out);
      EXPECT_EQ(out, tile.expected) << formatInfo(format).name << " " << cols;
    }
}

TEST(Formats, LayoutIsAsDescribed) {
  const int64_t cols = 100;
  for (WeightFormat format : {WeightFormat::S8C, WeightFormat::S4G32, WeightFormat::A4G32}) {
    const FormatInfo &info = formatInfo(format);
    RandomTile tile(format, cols, 5);
    std::vector<std::byte> packed(size_t(tileBytes(format, cols)));
    packTile(format, tile.codes, packed);
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t k = 0; k < cols; ++k) {
        const std::byte *block = packed.data() + info.rowHeaderBytes + k / 64 * info.blockBytes;
        ASSERT_EQ(codeInLines(info, block, row, k % 64), tile.bytes[row * cols + k]);
        const int64_t group = row * 4 + k / 32, place = k % 64 / 32 * 16 + row;
        if (format == WeightFormat::A4G32) {
          ASSERT_EQ(uint8_t(block[place]), tile.groupScales[group]);
          ASSERT_EQ(uint8_t(block[32 + place]), tile.groupMinimums[group]);
        }
        if (format == WeightFormat::S4G32) {
          uint16_t half;
          std::memcpy(&half, block + place * 2, 2);
          ASSERT_EQ(half, floatToHalf(tile.scales[group]));
        }
      }
    float header[16];
    if (format != WeightFormat::S4G32) {
      std::memcpy(header, packed.data(), sizeof header);
      EXPECT_EQ(std::vector<float>(header, header + 16), tile.scales);
    }
    if (format == WeightFormat::A4G32) {
      std::memcpy(header, packed.data() + 64, sizeof header);
      EXPECT_EQ(std::vector<float>(header, header + 16), tile.minimums);
    }
  }
}

TEST(Formats, PaddedInputsDecodeToZeroWhereTheFormatCan) {
  for (WeightFormat format : {WeightFormat::F32, WeightFormat::S8C, WeightFormat::S4G32}) {
    RandomTile tile(format, 70, 9);
    std::vector<std::byte> packed(size_t(tileBytes(format, 70)));
    packTile(format, tile.codes, packed);
    std::vector<float> out(16 * 128);
    unpackTile(format, packed, 128, out);
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t k = 70; k < 128; ++k)
        ASSERT_EQ(out[row * 128 + k], 0.0f);
  }
}

TEST(Formats, EveryHalfRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = halfToFloat(uint16_t(bits));
    if (std::isnan(value))
      ASSERT_TRUE(std::isnan(halfToFloat(floatToHalf(value))));
    else
      ASSERT_EQ(floatToHalf(value), bits);
  }
}

TEST(Formats, HalvesRoundToNearestEven) {
  EXPECT_EQ(floatToHalf(1.0f + 0x1p-11f), 0x3c00);            // tie to even
  EXPECT_EQ(floatToHalf(1.0f + 3 * 0x1p-11f), 0x3c02);        // tie to even, upwards
  EXPECT_EQ(floatToHalf(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01); // above the tie
  EXPECT_EQ(floatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(floatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(floatToHalf(-0x1p-25f), 0x8000); // tie with zero
  EXPECT_EQ(floatToHalf(0x1.8p-25f), 0x0001);
}

TEST(Formats, NamesAreFoundAndOthersListed) {
  ASSERT_TRUE(findFormat("a4g32").ok());
  EXPECT_EQ(*findFormat("a4g32"), WeightFormat::A4G32);
  Result<WeightFormat> unknown = findFormat("int4");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("f32, s8c, s4g32, a4g32, k4g32, k8g32"), std::string::npos);
  ASSERT_TRUE(findActivation("a8t").ok());
  EXPECT_EQ(*findActivation("a8t"), ActivationFormat::A8T);
  EXPECT_FALSE(findActivation("").ok());
}

} // namespace
} // namespace smelt
