// Precisions of the key and value cache: names, sizes and layout.
//
// The keys of a layer are [slot][kv head], its values likewise; within a head, codes of all
// positions come first, then the scales (capacity is a multiple of 64, so both start aligned):
//   keys    codes [capacity / 16][headDim][16]: lanes are positions
//           8 bits: codes [capacity / 16][ceil(headDim / 4)][16][4]: four dimensions of a position
//           are one dot product; then float16 scale [ceil(headDim / 32)][capacity]
//   values  codes [capacity][headDim]
//           8 bits: codes [capacity / 4][headDim][4]: so are four positions of a dimension; then
//           float16 scale [capacity]
//           4 bits: codes [capacity][groups][16 bytes], groups = ceil(headDim / 32), byte i of
//           group g: low nibble dimension 32 g + i, high nibble 32 g + 16 + i; then float16 scale
//           [groups][capacity], float16 minimum [groups][capacity]
// Values: scale * q, q in -127..127, stored as q + 128 (8 bits); minimum + scale * u, u in 0..15
// (4 bits).
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <string_view>

namespace smelt {

enum class CacheFormat : uint32_t {
#define CACHE(enumerator, name, keyBits, valueBits, help) enumerator,
#include "runtime/formats/caches.def"
};

struct CacheInfo {
  std::string_view name;
  int keyBits, valueBits;
  std::string_view help;
};

inline constexpr int64_t keyGroup = 32;   ///< dimensions that share the scale of 8-bit keys
inline constexpr int64_t dotBytes = 4;    ///< codes of one step of an integer dot product
inline constexpr int64_t valueGroup = 32; ///< dimensions that share the scale of 4-bit values

/// Rows of the table.
uint32_t cacheFormatCount();
const CacheInfo &cacheInfo(CacheFormat format);
/// By name; the error lists what there is.
Result<CacheFormat> findCacheFormat(std::string_view name);

inline constexpr int64_t cachedTogether = 16; ///< positions whose codes may lie between each other
inline constexpr int64_t scaleBytes = 2;      ///< float16

/// Parts of one position of one kv head: bytes of codes, and numbers of scales and minima.
struct CacheSizes {
  uint64_t keyCodes, keyPlanes, valueCodes, valuePlanes;
};
CacheSizes cacheSizes(CacheFormat format, int64_t headDim);

/// Bytes of one position of one kv head.
int64_t keyBytes(CacheFormat format, int64_t headDim);
int64_t valueBytes(CacheFormat format, int64_t headDim);

} // namespace smelt
