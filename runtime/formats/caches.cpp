// The table of cache precisions, and the sizes that follow from the layout.
#include "runtime/formats/caches.h"

#include "runtime/formats/formats.h"

#include <iterator>
#include <string>

namespace smelt {

namespace {

constexpr CacheInfo cacheTable[] = {
#define CACHE(enumerator, name, keyBits, valueBits, help) {name, keyBits, valueBits, help},
#include "runtime/formats/caches.def"
};

constexpr int64_t scaleBytes = 2; ///< float16

} // namespace

uint32_t cacheFormatCount() { return uint32_t(std::size(cacheTable)); }

const CacheInfo &cacheInfo(CacheFormat format) { return cacheTable[uint32_t(format)]; }

Result<CacheFormat> findCacheFormat(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < cacheFormatCount(); ++i) {
    if (cacheTable[i].name == name)
      return CacheFormat(i);
    known += (i ? ", " : "") + std::string(cacheTable[i].name);
  }
  return invalidArgument("unknown cache precision '" + std::string(name) + "', expected one of " +
                         known);
}

int64_t keyBytes(CacheFormat format, int64_t headDim) {
  const int bits = cacheInfo(format).keyBits;
  if (bits == 8)
    return roundUp(headDim, dotBytes) + roundUp(headDim, keyGroup) / keyGroup * scaleBytes;
  return headDim * bits / 8;
}

int64_t valueBytes(CacheFormat format, int64_t headDim) {
  const int bits = cacheInfo(format).valueBits;
  if (bits == 4)
    return roundUp(headDim, valueGroup) / 2 +
           roundUp(headDim, valueGroup) / valueGroup * 2 * scaleBytes;
  return headDim * bits / 8 + (bits == 8 ? scaleBytes : 0);
}

} // namespace smelt
