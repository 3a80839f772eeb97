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

CacheSizes cacheSizes(CacheFormat format, int64_t headDim) {
  const CacheInfo &info = cacheInfo(format);
  const int64_t keyGroups = roundUp(headDim, keyGroup) / keyGroup;
  const int64_t valueGroups = roundUp(headDim, valueGroup) / valueGroup;
  CacheSizes sizes{};
  sizes.keyCodes =
      uint64_t(info.keyBits == 8 ? roundUp(headDim, dotBytes) : headDim * info.keyBits / 8);
  sizes.keyPlanes = uint64_t(info.keyBits == 8 ? keyGroups : 0);
  sizes.valueCodes =
      uint64_t(info.valueBits == 4 ? valueGroups * valueGroup / 2 : headDim * info.valueBits / 8);
  sizes.valuePlanes = uint64_t(info.valueBits == 4 ? 2 * valueGroups : info.valueBits == 8 ? 1 : 0);
  return sizes;
}

int64_t keyBytes(CacheFormat format, int64_t headDim) {
  const CacheSizes sizes = cacheSizes(format, headDim);
  return int64_t(sizes.keyCodes) + int64_t(sizes.keyPlanes) * scaleBytes;
}

int64_t valueBytes(CacheFormat format, int64_t headDim) {
  const CacheSizes sizes = cacheSizes(format, headDim);
  return int64_t(sizes.valueCodes) + int64_t(sizes.valuePlanes) * scaleBytes;
}

} // namespace smelt
