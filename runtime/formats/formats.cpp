// Packing and unpacking of the weight formats; plain scalar code, since it is the definition the
// kernels are tested against.
#include "runtime/formats/formats.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace smelt {

namespace {

constexpr FormatInfo makeInfo(std::string_view name, int bits, int64_t group, Grid grid,
                              ScaleStorage scales, std::string_view help) {
  FormatInfo info{name, bits, group, grid, scales, help, 0, 0, 0, 0};
  const int64_t groups = group ? blockInputs / group : 0;
  const int64_t factors = grid == Grid::Asymmetric ? 2 : 1; // scale, minimum
  switch (scales) {
  case ScaleStorage::None:
    break;
  case ScaleStorage::Row:
    info.rowHeaderBytes = tileRows * sizeof(float);
    break;
  case ScaleStorage::Half:
    info.blockHeaderBytes = groups * tileRows * sizeof(uint16_t);
    break;
  case ScaleStorage::Float: // with zero points
    info.blockHeaderBytes = roundUp(groups * tileRows * (sizeof(float) + 1), 64);
    break;
  case ScaleStorage::Code:
    info.rowHeaderBytes = factors * tileRows * sizeof(uint16_t);
    info.blockHeaderBytes = factors * groups * tileRows;
    break;
  }
  info.highBytes = bits > 4 && bits < 8 ? tileRows * blockInputs * (bits - 4) / 8 : 0;
  info.blockBytes = info.blockHeaderBytes + tileRows * blockInputs * bits / 8;
  return info;
}

constexpr FormatInfo formatTable[] = {
#define FORMAT(enumerator, name, bits, group, grid, scales, help)                                  \
  makeInfo(name, bits, group, Grid::grid, ScaleStorage::scales, help),
#include "runtime/formats/formats.def"
};

constexpr ActivationInfo activationTable[] = {
#define ACTIVATION(enumerator, name, group, planes, help) {name, group, planes, help},
#include "runtime/formats/activations.def"
};

template <typename T> void store(std::byte *at, T value) { std::memcpy(at, &value, sizeof value); }
template <typename T> T load(const std::byte *at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Some bits of the code of (row, input) within a block: bits [first, first + count) of the code
/// lie in byte `byte`, counted from the block's lines, from bit `shift` on.
struct CodePart {
  int64_t byte;
  int shift, first, count;
};
/// Low and high part; the high one is empty where the code lies in one place.
std::array<CodePart, 2> codeParts(const FormatInfo &info, int64_t row, int64_t input) {
  if (info.bits == 8)
    return {{{input / 4 * 64 + row * 4 + input % 4, 0, 0, 8}, {}}};
  const int64_t line = input / 8, within = input % 8;
  const CodePart low{info.highBytes + line * 64 + row * 4 + within % 4, within < 4 ? 0 : 4, 0, 4};
  if (!info.highBytes)
    return {low, {}};
  // A high byte holds these bits of 8 or 4 inputs that lie 4 apart.
  const int count = info.bits - 4, perByte = 8 / count;
  const int64_t highLine = input / (4 * perByte), place = input / 4 % perByte;
  return {low, {highLine * 64 + row * 4 + input % 4, int(place) * count, 4, count}};
}

void storeCode(const FormatInfo &info, std::byte *lines, int64_t row, int64_t input, int code) {
  for (const CodePart &part : codeParts(info, row, input))
    lines[part.byte] |= std::byte((code >> part.first & ((1 << part.count) - 1)) << part.shift);
}

int loadCode(const FormatInfo &info, const std::byte *lines, int64_t row, int64_t input) {
  int code = 0;
  for (const CodePart &part : codeParts(info, row, input))
    code |= (int(lines[part.byte]) >> part.shift & ((1 << part.count) - 1)) << part.first;
  return code;
}

/// Writes the scales, minimums and zero points of the block whose first input is k0.
void storeBlockHeader(const FormatInfo &info, const TileCodes &tile, int64_t k0, std::byte *at) {
  if (!info.blockHeaderBytes)
    return;
  const int64_t groups = roundUp(tile.cols, info.group) / info.group,
                inBlock = blockInputs / info.group;
  for (int64_t j = 0; j < inBlock && k0 / info.group + j < groups; ++j)
    for (int64_t row = 0; row < tileRows; ++row) {
      const int64_t from = row * groups + k0 / info.group + j, to = j * tileRows + row;
      switch (info.scales) {
      case ScaleStorage::None:
      case ScaleStorage::Row:
        break;
      case ScaleStorage::Half:
        store(at + to * 2, floatToHalf(tile.scales[from]));
        break;
      case ScaleStorage::Float:
        store(at + to * 4, tile.scales[from]);
        at[inBlock * tileRows * 4 + to] = std::byte(tile.zeros[from]);
        break;
      case ScaleStorage::Code:
        at[to] = std::byte(tile.groupScales[from]);
        if (info.grid == Grid::Asymmetric)
          at[inBlock * tileRows + to] = std::byte(tile.groupMinimums[from]);
        break;
      }
    }
}

float loadBfloat16(const std::byte *at) { return bfloat16ToFloat(load<uint16_t>(at)); }

/// What the code `code` of `row` means in group `j` of the block at `block`.
float decode(const FormatInfo &info, const std::byte *rowHeader, const std::byte *block,
             int64_t row, int64_t j, int code) {
  const int64_t at = j * tileRows + row;
  const int64_t after = info.group ? blockInputs / info.group * tileRows : 0; // entries of a header
  float q = float(code);
  if (info.grid == Grid::Symmetric)
    q = float(code - (1 << (info.bits - 1)));
  if (info.grid == Grid::Table)
    q = float(tableOf(info.bits)[size_t(code)]);
  switch (info.scales) {
  case ScaleStorage::None:
    break;
  case ScaleStorage::Row:
    return load<float>(rowHeader + row * 4) * q;
  case ScaleStorage::Half:
    return halfToFloat(load<uint16_t>(block + at * 2)) * q;
  case ScaleStorage::Float:
    return load<float>(block + at * 4) * float(code - int(block[after * 4 + at]));
  case ScaleStorage::Code: {
    const float ds = loadBfloat16(rowHeader + row * 2);
    if (info.grid == Grid::Table)
      return ds * (float(int8_t(block[at])) * q);
    if (info.grid == Grid::Symmetric)
      return ds * (float(uint8_t(block[at])) * q);
    const float dm = loadBfloat16(rowHeader + (tileRows + row) * 2);
    return std::fma(ds, float(uint8_t(block[at])) * q, -(dm * float(uint8_t(block[after + at]))));
  }
  }
  return q;
}

} // namespace

const FormatInfo &formatInfo(WeightFormat format) {
  return formatTable[static_cast<uint32_t>(format)];
}

const ActivationInfo &activationInfo(ActivationFormat format) {
  return activationTable[static_cast<uint32_t>(format)];
}

std::string_view activationName(ActivationFormat format) { return activationInfo(format).name; }

Result<WeightFormat> findFormat(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < std::size(formatTable); ++i) {
    if (formatTable[i].name == name)
      return static_cast<WeightFormat>(i);
    known += (i ? ", " : "") + std::string(formatTable[i].name);
  }
  return invalidArgument("unknown weight format '" + std::string(name) + "', expected one of " +
                         known);
}

Result<ActivationFormat> findActivation(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < std::size(activationTable); ++i) {
    if (activationTable[i].name == name)
      return static_cast<ActivationFormat>(i);
    known += (i ? ", " : "") + std::string(activationTable[i].name);
  }
  return invalidArgument("unknown activation precision '" + std::string(name) +
                         "', expected one of " + known);
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
  std::memset(out.data(), 0, out.size());
  std::byte *at = out.data();
  if (info.scales == ScaleStorage::Row)
    std::memcpy(at, tile.scales.data(), tileRows * sizeof(float));
  if (info.scales == ScaleStorage::Code)
    for (int64_t row = 0; row < tileRows; ++row) {
      store(at + row * 2, floatToBfloat16(tile.scales[row]));
      if (info.grid == Grid::Asymmetric)
        store(at + (tileRows + row) * 2, floatToBfloat16(tile.minimums[row]));
    }
  at += info.rowHeaderBytes;

  for (int64_t k0 = 0; k0 < padded; k0 += blockInputs, at += info.blockBytes) {
    storeBlockHeader(info, tile, k0, at);
    std::byte *lines = at + info.blockHeaderBytes;
    for (int64_t row = 0; row < tileRows; ++row)
      for (int64_t i = 0; i < blockInputs; ++i) {
        const int64_t k = k0 + i;
        if (info.grid == Grid::Float) {
          if (k < cols)
            store(lines + (i * tileRows + row) * 4, tile.values[row * cols + k]);
          continue;
        }
        // A padded input carries the code of zero where the grid has one.
        const int zero = info.grid == Grid::Asymmetric ? 0 : 1 << (info.bits - 1);
        storeCode(info, lines, row, i, k < cols ? tile.codes[row * cols + k] : zero);
      }
  }
}

void unpackCodes(WeightFormat format, std::span<const std::byte> tile, int64_t cols,
                 OwnedTileCodes &out) {
  const FormatInfo &info = formatInfo(format);
  out = {};
  if (info.grid == Grid::Float) {
    out.values.resize(size_t(tileRows * cols));
    return unpackTile(format, tile, cols, out.values);
  }
  const std::byte *rowHeader = tile.data();
  for (int64_t row = 0; row < tileRows && info.scales == ScaleStorage::Row; ++row)
    out.scales.push_back(load<float>(rowHeader + row * 4));
  for (int64_t row = 0; row < tileRows && info.scales == ScaleStorage::Code; ++row) {
    out.scales.push_back(loadBfloat16(rowHeader + row * 2));
    if (info.grid == Grid::Asymmetric)
      out.minimums.push_back(loadBfloat16(rowHeader + (tileRows + row) * 2));
  }
  for (int64_t row = 0; row < tileRows; ++row)
    for (int64_t k = 0; k < cols; ++k) {
      const std::byte *block = rowHeader + info.rowHeaderBytes + k / blockInputs * info.blockBytes;
      const int64_t i = k % blockInputs;
      out.codes.push_back(uint8_t(loadCode(info, block + info.blockHeaderBytes, row, i)));
      if (!info.group || k % info.group != 0)
        continue;
      const int64_t at = i / info.group * tileRows + row;
      const int64_t after = blockInputs / info.group * tileRows; // entries of a header
      if (info.scales == ScaleStorage::Half)
        out.scales.push_back(halfToFloat(load<uint16_t>(block + at * 2)));
      if (info.scales == ScaleStorage::Float) {
        out.scales.push_back(load<float>(block + at * 4));
        out.zeros.push_back(uint8_t(block[after * 4 + at]));
      }
      if (info.scales == ScaleStorage::Code)
        out.groupScales.push_back(uint8_t(block[at]));
      if (info.scales == ScaleStorage::Code && info.grid == Grid::Asymmetric)
        out.groupMinimums.push_back(uint8_t(block[after + at]));
    }
}

void unpackTile(WeightFormat format, std::span<const std::byte> tile, int64_t cols,
                std::span<float> out) {
  const FormatInfo &info = formatInfo(format);
  const std::byte *rowHeader = tile.data();
  for (int64_t row = 0; row < tileRows; ++row)
    for (int64_t k = 0; k < cols; ++k) {
      const std::byte *block = rowHeader + info.rowHeaderBytes + k / blockInputs * info.blockBytes;
      const std::byte *lines = block + info.blockHeaderBytes;
      const int64_t i = k % blockInputs, j = info.group ? i / info.group : 0;
      out[row * cols + k] = info.grid == Grid::Float ? load<float>(lines + (i * tileRows + row) * 4)
                                                     : decode(info, rowHeader, block, row, j,
                                                              loadCode(info, lines, row, i));
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

uint16_t floatToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) // NaN stays one
    return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float bfloat16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

} // namespace smelt
