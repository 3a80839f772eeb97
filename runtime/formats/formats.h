// Storage formats of packed weights and activations: names, sizes, exact layouts, pack and unpack (the reference).
//
// Packed weights (one layout for every CPU target, research/codegen.md). A linear W [rows=N, cols=K] is cut into tiles of 16
// rows, N padded to 16 and K to 64; a tile is its row header, then ceil(K/64) blocks along K, contiguous:
//   format  row header per tile                block of 16 rows x 64 inputs, G = 64 / group
//   f32     none                               4096 B: float[64 inputs][16 rows]
//   s8c     64 B: float scale[16]              1024 B: 16 lines
//   s4g32   none                                576 B: float16 scale[2 groups][16 rows]; 8 lines
//   k4g32   none                                704 B: float scale[2 groups][16 rows], u8 zero[2 groups][16], 32 B; 8 lines
//   k8g32   none                               1216 B: the same header; 16 lines as in s8c
//   a4g*    64 B: bfloat16 ds[16], dm[16]      32 G + 512 B: u8 sc[G][16], u8 mn[G][16]; 8 lines
//   a5g*    the same                           32 G + 640 B: the same header; 2 high lines; 8 lines
//   a6g*    the same                           32 G + 768 B: the same header; 4 high lines; 8 lines
//   n4g*    32 B: bfloat16 ds[16]              16 G + 512 B: s8 sc[G][16]; 8 lines
//   n5g32   the same                           672 B: s8 sc[2][16]; 2 high lines; 8 lines
//   s8g32   32 B: bfloat16 ds[16]              1056 B: u8 sc[2][16]; 16 lines as in s8c
// Tiles and blocks start on multiples of 32 bytes.
// A line is 64 bytes: dword lane r = row r. Lines of 8 bits: line s: byte b of the dword = code of input 4s+b. Others: lines 0-3
// are the low 4 bits of the block's first 32 inputs, lines 4-7 of the second; line s of these 32: byte b: low nibble = input 8s+b,
// high nibble = input 8s+4+b. High lines, of the first 32 inputs, then of the second, inputs counted within them:
//   5 bits  one line: bit q of byte b = bit 4 of the code of input 4q+b
//   6 bits  two lines: bits 2i, 2i+1 of byte b of line t = bits 4, 5 of the code of input 4(4t+i)+b
// Codes are unsigned: u = q + 128 (s8c, s8g32, q in -127..127), u = q + 8 (s4g32, q in -8..7), else all values that the bits hold.
// Value of a weight of group g:
//   s8c    scale[r] * q
//   s4g32  float(scale[g][r]) * q
//   k*g32  scale[g][r] * (u - zero[g][r])
//   a*g*   ds[r] * sc[g][r] * u - dm[r] * mn[g][r]
//   n*g*   ds[r] * sc[g][r] * tableOf(bits)[u]
//   s8g32  ds[r] * sc[g][r] * q
// In the last two every product is exact in float, in a*g* only the difference is rounded.
// A padded weight need not decode to zero: activations are zero there.
#pragma once

#include "runtime/base/status.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

enum class WeightFormat : uint32_t {
#define FORMAT(enumerator, name, bits, group, grid, scales, help) enumerator,
#include "runtime/formats/formats.def"
};

enum class ActivationFormat : uint32_t {
#define ACTIVATION(enumerator, name, group, planes, help) enumerator,
#include "runtime/formats/activations.def"
};

inline constexpr int64_t tileRows = 16;    ///< output rows of a tile
inline constexpr int64_t blockInputs = 64; ///< inputs of a block
inline constexpr int64_t groupInputs = 32; ///< inputs of one integer dot product; activations of a8g32 share a scale

/// What a code stands for, before scales.
enum class Grid : uint8_t {
  Float,      ///< there are no codes
  Symmetric,  ///< u - 2^(bits - 1)
  Asymmetric, ///< u, and a minimum is taken off the product
  Table,      ///< tableOf(bits)[u]
  Given,      ///< u - zero point, as the model file gives them; no algorithm makes them
};

/// How scales are stored.
enum class ScaleStorage : uint8_t {
  None,
  Row,   ///< one float per row
  Half,  ///< float16 per row and group
  Float, ///< float per row and group
  Code,  ///< 8 bits per row and group times a bfloat16 factor per row; likewise minimums
};

/// The values of Grid::Table, denser around zero, as weights are: of 4 bits the table of llama.cpp's IQ4_NL; of 5 bits what Lloyd's
/// algorithm (Least squares quantization in PCM, 1982) makes of groups of 32 normal and Student-t (6) numbers, half of each, whose scales
/// are fitted by least squares in turn; then the best integers of 7 bits near by (0.05 dB lost), whose products with INT8 fit 16 bits in
/// pairs. Plain arrays: hot loops read them that call nothing of the standard library.
inline constexpr int8_t tableOf16[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t tableOf32[32] = {-64, -59, -51, -46, -41, -36, -32, -28, -24, -21, -18, -15, -12, -9, -6, -3,
                                         -1,  2,   4,   7,   10,  13,  16,  19,  22,  26,  30,  34,  39,  44, 50, 59};
/// The table of codes of 4 or 5 bits, ascending.
constexpr std::span<const int8_t> tableOf(int bits) {
  return bits == 4 ? std::span<const int8_t>(tableOf16) : std::span<const int8_t>(tableOf32);
}

/// What the table says of one format, and the sizes that follow from the layout.
struct FormatInfo {
  std::string_view name;
  int bits;
  int64_t group; ///< 0: whole row
  Grid grid;
  ScaleStorage scales;
  std::string_view help;
  int64_t rowHeaderBytes;   ///< per tile
  int64_t blockHeaderBytes;
  int64_t highBytes;        ///< of a block: the lines of bits 4 and 5, after its header
  int64_t blockBytes;       ///< header included
};

/// What the table says of one activation precision.
struct ActivationInfo {
  std::string_view name;
  int64_t group;  ///< inputs that share a scale; 0: whole row
  int64_t planes; ///< of signed bytes: 1 of INT8, 2 of INT16; 0: float
  std::string_view help;
  /// Codes are in -largestCode() .. largestCode(): one plane holds -127..127, two 255 high + low.
  constexpr int64_t largestCode() const { return planes == 2 ? 255 * 127 + 127 : 127; }
};

const FormatInfo &formatInfo(WeightFormat format);
const ActivationInfo &activationInfo(ActivationFormat format);
std::string_view activationName(ActivationFormat format);
/// Finds a format by its table name; the error lists the names there are.
Result<WeightFormat> findFormat(std::string_view name);
Result<ActivationFormat> findActivation(std::string_view name);

inline constexpr int64_t roundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
/// Bytes of one tile of 16 rows with `cols` inputs.
int64_t tileBytes(WeightFormat format, int64_t cols);
/// Bytes of a whole packed linear [rows, cols].
int64_t packedBytes(WeightFormat format, int64_t rows, int64_t cols);

/// One tile before packing: what a quantization algorithm decides. Row-major; unused vectors of a format stay empty.
/// groups = ceil(K / the format's group).
struct TileCodes {
  int64_t cols = 0;            ///< K, not padded
  std::span<const float> values;   ///< f32: [16, K]
  std::span<const uint8_t> codes;  ///< quantized: [16, K], unsigned codes as above
  std::span<const float> scales;   ///< s8c: [16]; s4g32, k*g32: [16, groups]; a*, n*, s8g32: ds [16], bfloat16 values
  std::span<const float> minimums; ///< a*: dm [16], bfloat16 values
  std::span<const uint8_t> groupScales;   ///< a*, n* (the bits of an int8_t), s8g32: sc [16, groups]
  std::span<const uint8_t> groupMinimums; ///< a*: mn [16, groups]
  std::span<const uint8_t> zeros;         ///< k*g32: [16, groups]
};
/// Writes one tile into `out` (tileBytes(format, cols) bytes).
void packTile(WeightFormat format, const TileCodes &tile, std::span<std::byte> out);
/// A tile's codes and scales in vectors of their own, as TileCodes has them.
struct OwnedTileCodes {
  std::vector<float> values, scales, minimums;
  std::vector<uint8_t> codes, groupScales, groupMinimums, zeros;

  TileCodes view(int64_t cols) const {
    return {cols, values, codes, scales, minimums, groupScales, groupMinimums, zeros};
  }
};
/// Takes one tile apart: packTile of the result gives its bytes again, where what the format leaves unused is zero.
void unpackCodes(WeightFormat format, std::span<const std::byte> tile, int64_t cols, OwnedTileCodes &out);
/// Decodes one tile to float [16, cols]: the definition of what a format means.
void unpackTile(WeightFormat format, std::span<const std::byte> tile, int64_t cols, std::span<float> out);

uint16_t floatToHalf(float value); ///< IEEE binary16, round to nearest even
float halfToFloat(uint16_t bits);
uint16_t floatToBfloat16(float value); ///< round to nearest even; beyond the largest: infinity
float bfloat16ToFloat(uint16_t bits);

} // namespace smelt
