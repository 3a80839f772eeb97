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
  int64_t groups = 0;
  std::vector<float> values, scales, minimums, expected;
  std::vector<uint8_t> bytes, groupScales, groupMinimums, zeros;

  RandomTile(WeightFormat format, int64_t cols, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const FormatInfo &info = formatInfo(format);
    groups = info.group ? (cols + info.group - 1) / info.group : 1;
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
    if (info.grid == Grid::Float) {
      codes.values = floats(values, 16 * cols);
      expected = values;
      return;
    }
    codes.codes = small(bytes, 16 * cols, 1 << info.bits);
    const bool factored = info.scales == ScaleStorage::Code;
    codes.scales = floats(scales, factored || !info.group ? 16 : 16 * groups);
    if (factored)
      codes.groupScales = small(groupScales, 16 * groups, 256);
    if (info.grid == Grid::Asymmetric) {
      codes.minimums = floats(minimums, 16);
      codes.groupMinimums = small(groupMinimums, 16 * groups, 256);
    }
    if (info.grid == Grid::Given)
      codes.zeros = small(zeros, 16 * groups, 1 << info.bits);
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t k = 0; k < cols; ++k)
        expected.push_back(value(format, row, row * groups + (info.group ? k / info.group : 0),
                                 bytes[row * cols + k]));
  }

  float value(WeightFormat format, int64_t row, int64_t group, int code) const {
    auto brief = [](float x) { return bfloat16ToFloat(floatToBfloat16(x)); };
    switch (format) {
    case WeightFormat::F32:
      break;
    case WeightFormat::S8C:
      return scales[row] * float(code - 128);
    case WeightFormat::S4G32:
      return halfToFloat(floatToHalf(scales[group])) * float(code - 8);
    case WeightFormat::K4G32:
    case WeightFormat::K8G32:
      return scales[group] * float(code - zeros[group]);
    case WeightFormat::N4G32:
    case WeightFormat::N4G16:
      return brief(scales[row]) * float(int8_t(groupScales[group]) * tableOf16[code]);
    case WeightFormat::N5G32:
      return brief(scales[row]) * float(int8_t(groupScales[group]) * tableOf32[code]);
    case WeightFormat::S8G32:
      return brief(scales[row]) * float(groupScales[group] * (code - 128));
    default: // a4, a5, a6
      return std::fma(brief(scales[row]), float(groupScales[group] * code),
                      -(brief(minimums[row]) * float(groupMinimums[group])));
    }
    return 0;
  }
};

/// Code of (row, input) found by walking the lines as the comment in formats.h describes them.
int codeInLines(const FormatInfo &info, const std::byte *block, int64_t row, int64_t input) {
  const std::byte *lines = block + info.blockHeaderBytes;
  if (info.bits == 8)
    return int(lines[input / 4 * 64 + row * 4 + input % 4]);
  const int64_t half = input / 32, within = input % 32, quad = within / 4, b = within % 4;
  int high = 0;
  if (info.bits == 5)
    high = int(lines[half * 64 + row * 4 + b]) >> quad & 1;
  if (info.bits == 6)
    high = int(lines[(2 * half + quad / 4) * 64 + row * 4 + b]) >> 2 * (quad % 4) & 3;
  // Four lines of nibbles per 32 inputs: line s, byte b of the row's dword holds inputs 8s + b
  // (low) and 8s + 4 + b (high).
  lines += (info.bits - 4) * 128 + half * 256;
  const int byte = int(lines[within / 8 * 64 + row * 4 + b]);
  return 16 * high + (quad % 2 == 0 ? byte & 15 : byte >> 4);
}

constexpr WeightFormat allFormats[] = {
#define FORMAT(enumerator, name, bits, group, grid, scales, help) WeightFormat::enumerator,
#include "runtime/formats/formats.def"
};

std::vector<std::byte> pack(WeightFormat format, const RandomTile &tile) {
  std::vector<std::byte> packed(size_t(tileBytes(format, tile.codes.cols)), std::byte(0xee));
  packTile(format, tile.codes, packed);
  return packed;
}

TEST(Formats, SizesOfTheTable) {
  const std::pair<const char *, int64_t> blocks[] = {
      {"f32", 4096},   {"s8c", 1024},   {"s4g32", 576}, {"a4g32", 576}, {"k4g32", 704},
      {"k8g32", 1216}, {"a4g16", 640},  {"a4g64", 544}, {"a5g32", 704}, {"a5g16", 768},
      {"a5g64", 672},  {"a6g32", 832},  {"a6g16", 896}, {"a6g64", 800}, {"n4g32", 544},
      {"n4g16", 576},  {"s8g32", 1056}, {"n5g32", 672}};
  for (auto [name, bytes] : blocks) {
    const FormatInfo &info = formatInfo(*findFormat(name));
    EXPECT_EQ(info.blockBytes, bytes) << name;
    EXPECT_EQ(info.blockHeaderBytes + 16 * 64 * info.bits / 8, bytes) << name;
    EXPECT_EQ(info.rowHeaderBytes % 32 + bytes % 32, 0) << name; // loads are aligned to 32 bytes
  }
  EXPECT_EQ(std::size(blocks), std::size(allFormats));
  EXPECT_EQ(tileBytes(WeightFormat::A4G32, 576), 64 + 9 * 576);
  EXPECT_EQ(tileBytes(WeightFormat::N4G32, 576), 32 + 9 * 544);
  EXPECT_EQ(tileBytes(WeightFormat::S8C, 65), 64 + 2 * 1024);
  EXPECT_EQ(packedBytes(WeightFormat::S4G32, 17, 64), 2 * 576);
}

TEST(Formats, UnpackGivesWhatWasPacked) {
  for (WeightFormat format : allFormats)
    for (int64_t cols : {32, 64, 65, 100, 192}) {
      RandomTile tile(format, cols, uint64_t(cols));
      std::vector<float> out(size_t(16 * cols));
      unpackTile(format, pack(format, tile), cols, out);
      EXPECT_EQ(out, tile.expected) << formatInfo(format).name << " " << cols;
    }
}

TEST(Formats, CodesLieAsDescribed) {
  const int64_t cols = 100;
  for (WeightFormat format : allFormats) {
    const FormatInfo &info = formatInfo(format);
    if (info.grid == Grid::Float)
      continue;
    RandomTile tile(format, cols, 5);
    const std::vector<std::byte> packed = pack(format, tile);
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t k = 0; k < cols; ++k) {
        const std::byte *block = packed.data() + info.rowHeaderBytes + k / 64 * info.blockBytes;
        ASSERT_EQ(codeInLines(info, block, row, k % 64), tile.bytes[row * cols + k])
            << info.name << " " << row << " " << k;
      }
  }
}

TEST(Formats, ScalesLieAsDescribed) {
  const int64_t cols = 100;
  auto half = [](const std::byte *at) {
    uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return bits;
  };
  for (WeightFormat format : allFormats) {
    const FormatInfo &info = formatInfo(format);
    RandomTile tile(format, cols, 6);
    const std::vector<std::byte> packed = pack(format, tile);
    if (info.scales == ScaleStorage::Row) {
      float header[16];
      std::memcpy(header, packed.data(), sizeof header);
      EXPECT_EQ(std::vector<float>(header, header + 16), tile.scales);
    }
    const bool coded = info.scales == ScaleStorage::Code, minimums = info.grid == Grid::Asymmetric;
    for (int64_t row = 0; coded && row < 16; ++row) {
      ASSERT_EQ(half(&packed[size_t(row * 2)]), floatToBfloat16(tile.scales[row]));
      if (minimums) {
        ASSERT_EQ(half(&packed[size_t(32 + row * 2)]), floatToBfloat16(tile.minimums[row]));
      }
    }
    for (int64_t row = 0; info.group && row < 16; ++row)
      for (int64_t g = 0; g < tile.groups; ++g) {
        const int64_t inBlock = 64 / info.group, place = g % inBlock * 16 + row;
        const std::byte *block =
            packed.data() + info.rowHeaderBytes + g / inBlock * info.blockBytes;
        if (coded) {
          ASSERT_EQ(uint8_t(block[place]), tile.groupScales[row * tile.groups + g]) << info.name;
        }
        if (minimums) {
          ASSERT_EQ(uint8_t(block[inBlock * 16 + place]),
                    tile.groupMinimums[row * tile.groups + g]);
        }
        if (info.scales == ScaleStorage::Half) {
          ASSERT_EQ(half(block + place * 2), floatToHalf(tile.scales[row * tile.groups + g]));
        }
        if (info.grid == Grid::Given) {
          ASSERT_EQ(uint8_t(block[128 + place]), tile.zeros[row * tile.groups + g]);
        }
      }
  }
}

TEST(Formats, PaddedInputsDecodeToZeroWhereTheFormatCan) {
  for (WeightFormat format :
       {WeightFormat::F32, WeightFormat::S8C, WeightFormat::S4G32, WeightFormat::S8G32}) {
    RandomTile tile(format, 70, 9);
    std::vector<float> out(16 * 128);
    unpackTile(format, pack(format, tile), 128, out);
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

TEST(Formats, EveryBfloat16RoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = bfloat16ToFloat(uint16_t(bits));
    if (std::isnan(value))
      ASSERT_TRUE(std::isnan(bfloat16ToFloat(floatToBfloat16(value))));
    else
      ASSERT_EQ(floatToBfloat16(value), bits);
  }
}

TEST(Formats, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(floatToBfloat16(1.0f + 0x1p-8f), 0x3f80);             // tie to even
  EXPECT_EQ(floatToBfloat16(1.0f + 3 * 0x1p-8f), 0x3f82);         // tie to even, upwards
  EXPECT_EQ(floatToBfloat16(-1.0f - 0x1p-8f - 0x1p-20f), 0xbf81); // above the tie
  EXPECT_EQ(floatToBfloat16(3.4e38f), 0x7f80);
}

TEST(Formats, NamesAreFoundAndOthersListed) {
  ASSERT_TRUE(findFormat("a4g32").ok());
  EXPECT_EQ(*findFormat("a4g32"), WeightFormat::A4G32);
  Result<WeightFormat> unknown = findFormat("int4");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("f32, s8c, s4g32, a4g32, k4g32, k8g32"),
            std::string::npos);
  ASSERT_TRUE(findActivation("a8t").ok());
  EXPECT_EQ(*findActivation("a8t"), ActivationFormat::A8T);
  EXPECT_FALSE(findActivation("").ok());
}

TEST(Formats, UnpackedCodesPackToTheSameBytes) {
  for (WeightFormat format : allFormats)
    for (int64_t cols : {32, 70, 128}) {
      const RandomTile tile(format, cols, 8);
      const std::vector<std::byte> packed = pack(format, tile);
      OwnedTileCodes codes;
      unpackCodes(format, packed, cols, codes);
      EXPECT_EQ(codes.codes, tile.bytes) << formatInfo(format).name;
      EXPECT_EQ(codes.groupScales, tile.groupScales) << formatInfo(format).name;
      std::vector<std::byte> again(packed.size());
      packTile(format, codes.view(cols), again);
      EXPECT_EQ(again, packed) << formatInfo(format).name << ", " << cols;
    }
}

} // namespace
} // namespace smelt
