// Storage formats of packed weights and activations: names, sizes, exact layouts, pack and unpack (the reference).
//
// Packed weights (one layout for every CPU target, research/codegen.md). A linear W [rows=N, cols=K] is cut into tiles of 16
// rows, N padded to 16 and K to 64 with zero weights; a tile is its row header, then ceil(K/64) blocks along K, contiguous:
//   format  row header per tile              block of 16 rows x 64 inputs
//   f32     none                             4096 B: float[64 inputs][16 rows]
//   s8c     64 B: float scale[16]            1024 B: 16 lines
//   s4g32   none                              576 B: header line: float16 scale[2 groups][16 rows]; 8 lines
//   a4g32   128 B: float ds[16], float dm[16] 576 B: header line: u8 sc[2 groups][16], u8 mn[2 groups][16]; 8 lines
//   k4g32   none                              704 B: float scale[2 groups][16 rows], u8 zero[2 groups][16], 32 B; 8 lines
//   k8g32   none                             1216 B: the same header; 16 lines as in s8c
// A line is 64 bytes: dword lane r = row r. s8c line s: byte b of the dword = code of input 4s+b. INT4: lines 0-3 are the block's
// first group of 32, lines 4-7 the second; line s of a group: byte b: low nibble = input 8s+b, high nibble = input 8s+4+b.
// Codes are unsigned: u = q + 128 (s8c, q in -127..127), u = q + 8 (s4g32, q in -8..7), u in 0..15 (a4g32, k4g32), u in 0..255 (k8g32).
// Value of a weight:
//   s8c    scale[r] * q
//   s4g32  float(scale[g][r]) * q
//   a4g32  ds[r] * sc[g][r] * u - dm[r] * mn[g][r]
//   k*g32  scale[g][r] * (u - zero[g][r])
// A padded weight need not decode to zero in a4g32 beyond K: activations are zero there.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace smelt {

enum class WeightFormat : uint32_t {
#define FORMAT(enumerator, name, bits, group, asymmetric, zeros, help) enumerator,
#include "runtime/formats/formats.def"
};

enum class ActivationFormat : uint32_t {
#define ACTIVATION(enumerator, name, help) enumerator,
#include "runtime/formats/activations.def"
};

inline constexpr int64_t tileRows = 16;    ///< output rows of a tile
inline constexpr int64_t blockInputs = 64; ///< inputs of a block
inline constexpr int64_t groupInputs = 32; ///< inputs that share a scale

/// What the table says of one format, and the sizes that follow from the layout.
struct FormatInfo {
  std::string_view name;
  int bits;
  int64_t group; ///< 0: whole row
  bool asymmetric;
  bool zeros; ///< codes, scales and zero points that the model file gives; no algorithm makes them
  std::string_view help;
  int64_t rowHeaderBytes; ///< per tile
  int64_t blockHeaderBytes;
  int64_t blockBytes; ///< header included
};

const FormatInfo &formatInfo(WeightFormat format);
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
struct TileCodes {
  int64_t cols = 0;            ///< K, not padded
  std::span<const float> values;   ///< f32: [16, K]
  std::span<const uint8_t> codes;  ///< quantized: [16, K], unsigned codes as above
  std::span<const float> scales;   ///< s8c: [16]; s4g32, k*g32: [16, groups]; a4g32: ds [16]
  std::span<const float> minimums; ///< a4g32: dm [16]
  std::span<const uint8_t> groupScales;   ///< a4g32: sc [16, groups]
  std::span<const uint8_t> groupMinimums; ///< a4g32: mn [16, groups]
  std::span<const uint8_t> zeros;         ///< k*g32: [16, groups]
};
/// Writes one tile into `out` (tileBytes(format, cols) bytes).
void packTile(WeightFormat format, const TileCodes &tile, std::span<std::byte> out);
/// Decodes one tile to float [16, cols]: the definition of what a format means.
void unpackTile(WeightFormat format, std::span<const std::byte> tile, int64_t cols, std::span<float> out);

uint16_t floatToHalf(float value); ///< IEEE binary16, round to nearest even
float halfToFloat(uint16_t bits);

} // namespace smelt
