// Packing and unpacking of the weight formats; plain scalar code, since it is the definition the kernels are tested against.
#include "runtime/formats/formats.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace smelt {

namespace {

constexpr FormatInfo makeInfo(std::string_view name, int bits, int64_t group, bool asymmetric,
                              bool zeros, std::string_view help) {
  FormatInfo info{name, bits, group, asymmetric, zeros, help, 0, 0, 0};
  if (group == 0 && bits < 32)
    info.rowHeaderBytes = tileRows * sizeof(float);
  if (asymmetric)
    info.rowHeaderBytes = 2 * tileRows * sizeof(float);
  if (group != 0)
    info.blockHeaderBytes = zeros ? 192 : 64;
  info.blockBytes = info.blockHeaderBytes + tileRows * blockInputs * bits / 8;
  return info;
}

constexpr FormatInfo formatTable[] = {
#define FORMAT(enumerator, name, bits, group, asymmetric, zeros, help)                             \
  makeInfo(name, bits, group, asymmetric, zeros, help),
#include "runtime/formats/formats.def"
};

constexpr std::string_view activationTable[] = {
#define ACTIVATION(enumerator, name, help) name,
#include "runtime/formats/activations.def"
};

template <typename T> void store(std::byte *at, T value) { std::memcpy(at, &value, sizeof value); }
template <typename T> T load(const std::byte *at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Where the code of (row, input) lives inside a block's lines: byte offset and shift.
struct CodePlace {
  int64_t byte;
  int shift;
};
CodePlace codePlace(int bits, int64_t row, int64_t input) {
  if (bits == 8)
    return {input / 4 * 64 + row * 4 + input % 4, 0};
  int64_t line = input / 8, within = input % 8;
  return {line * 64 + row * 4 + within % 4, within < 4 ? 0 : 4};
}

} // namespace

const FormatInfo &formatInfo(WeightFormat format) {
  return formatTable[static_cast<uint32_t>(format)];
}

std::string_view activationName(ActivationFormat format) {
  return activationTable[static_cast<uint32_t>(format)];
}

Result<WeightFormat> findFormat(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < std::size(formatTable); ++i) {
    if (formatTable[i].name == name)
      return static_cast<WeightFormat>(i);
    known += (i ? ", " : "") + std::string(formatTable[i].name);
  }
  return invalidArgument("unknown weight format '" + std::string(name) + "', expected one of " + known);
}

Result<ActivationFormat> findActivation(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < std::size(activationTable); ++i) {
    if (activationTable[i] == name)
      return static_cast<ActivationFormat>(i);
    known += (i ? ", " : "") + std::string(activationTable[i]);
  }
  return invalidArgument("unknown activation precision '" + std::string(name) + "', expected one of " +
                         known);
}

int64_t tileBytes(WeightFormat format, int64_t cols) {
  const FormatInfo &info = formatInfo(format);
  return info.rowHeaderBytes + roundUp(cols, blockInputs) / blockInputs * info.blockBytes;
}

int64_t packedBytes(WeightFormat format, int64_t rows, int64_t cols) {
  return roundUp(rows, tileRows) / tileRows * tileBytes(format, cols);
}

void packTile(WeightFormat format, const TileCodes &tile, std::span<std::byte> out) {
  const FormatInfo &info = formatInfo(format);
  const int64_t cols = tile.cols, padded = roundUp(cols, blockInputs);
  const int64_t groups = roundUp(cols, groupInputs) / groupInputs;
  std::memset(out.data(), 0, out.size());
  std::byte *at = out.data();

  // Row header.
  if (format == WeightFormat::S8C || format == WeightFormat::A4G32)
    std::memcpy(at, tile.scales.data(), tileRows * sizeof(float));
  if (format == WeightFormat::A4G32)
    std::memcpy(at + tileRows * sizeof(float), tile.minimums.data(), tileRows * sizeof(float));
  at += info.rowHeaderBytes;

  for (int64_t k0 = 0; k0 < padded; k0 += blockInputs, at += info.blockBytes) {
    // Block header: two groups of 32.
    for (int64_t j = 0; j < 2; ++j) {
      int64_t group = k0 / groupInputs + j;
      for (int64_t row = 0; row < tileRows && group < groups; ++row) {
        if (format == WeightFormat::S4G32)
          store(at + (j * tileRows + row) * 2, floatToHalf(tile.scales[row * groups + group]));
        if (format == WeightFormat::A4G32) {
          at[j * tileRows + row] = std::byte(tile.groupScales[row * groups + group]);
          at[32 + j * tileRows + row] = std::byte(tile.groupMinimums[row * groups + group]);
        }
        if (info.zeros) {
          store(at + (j * tileRows + row) * 4, tile.scales[row * groups + group]);
          at[128 + j * tileRows + row] = std::byte(tile.zeros[row * groups + group]);
        }
      }
    }
    // Lines.
    std::byte *lines = at + info.blockHeaderBytes;
    for (int64_t row = 0; row < tileRows; ++row) {
      for (int64_t i = 0; i < blockInputs; ++i) {
        int64_t k = k0 + i;
        if (format == WeightFormat::F32) {
          if (k < cols)
            store(lines + (i * tileRows + row) * 4, tile.values[row * cols + k]);
          continue;
        }
        // A padded input carries the code of zero where the format has one.
        uint8_t code = k < cols ? tile.codes[row * cols + k]
                                : (info.asymmetric ? 0 : uint8_t(1u << (info.bits - 1)));
        CodePlace place = codePlace(info.bits, row, i);
        lines[place.byte] |= std::byte(code << place.shift);
      }
    }
  }
}

void unpackTile(WeightFormat format, std::span<const std::byte> tile, int64_t cols,
                std::span<float> out) {
  const FormatInfo &info = formatInfo(format);
  const std::byte *rowHeader = tile.data();
  for (int64_t row = 0; row < tileRows; ++row) {
    for (int64_t k = 0; k < cols; ++k) {
      const std::byte *block = rowHeader + info.rowHeaderBytes + k / blockInputs * info.blockBytes;
      const std::byte *lines = block + info.blockHeaderBytes;
      int64_t i = k % blockInputs, j = i / groupInputs;
      float &value = out[row * cols + k];
      if (format == WeightFormat::F32) {
        value = load<float>(lines + (i * tileRows + row) * 4);
        continue;
      }
      CodePlace place = codePlace(info.bits, row, i);
      int code = int(lines[place.byte] >> place.shift) & ((1 << info.bits) - 1);
      switch (format) {
      case WeightFormat::S8C:
        value = load<float>(rowHeader + row * 4) * float(code - 128);
        break;
      case WeightFormat::S4G32:
        value = halfToFloat(load<uint16_t>(block + (j * tileRows + row) * 2)) * float(code - 8);
        break;
      case WeightFormat::K4G32:
      case WeightFormat::K8G32:
        value = load<float>(block + (j * tileRows + row) * 4) *
                float(code - int(block[128 + j * tileRows + row]));
        break;
      default: {
        float ds = load<float>(rowHeader + row * 4);
        float dm = load<float>(rowHeader + (tileRows + row) * 4);
        float sc = float(uint8_t(block[j * tileRows + row]));
        float mn = float(uint8_t(block[32 + j * tileRows + row]));
        value = std::fma(ds, sc * float(code), -(dm * mn));
      }
      }
    }
  }
}

uint16_t floatToHalf(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) // infinity or NaN
    return sign | 0x7c00 | (magnitude > 0x7f800000 ? 0x200 : 0);
  if (magnitude >= 0x477ff000) // rounds to 65536 or more
    return sign | 0x7c00;
  if (magnitude < 0x38800000) { // below the smallest normal half: let float addition round
    float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | uint16_t(std::bit_cast<uint32_t>(shifted) - 0x3f000000);
  }
  uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return sign | uint16_t((rounded - 0x38000000) >> 13);
}

float halfToFloat(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00)
    return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude >= 0x400)
    return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000));
  float value = float(magnitude) * 0x1p-24f;
  return sign ? -value : value;
}

} // namespace smelt
