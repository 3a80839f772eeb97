// Sizes of caches and the pieces of a slot.
#include "runtime/model/cache_layout.h"

#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"

#include <string>

namespace smelt {

Result<uint64_t> cacheBytes(uint32_t slots, uint32_t capacity, uint64_t perPosition) {
  constexpr int addressBits = 48;
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(uint64_t(slots) * capacity, perPosition, &bytes) ||
      bytes >> addressBits != 0)
    return exhausted("a cache of " + std::to_string(slots) + " slots with " +
                     std::to_string(capacity) + " positions does not fit the address space");
  return bytes;
}

void visitCache(const Artifact &artifact, LayerRange layers, uint32_t capacity, int32_t slot,
                uint32_t length, const std::function<bool(const CachePiece &)> &piece) {
  const auto format = CacheFormat(artifact.config().cacheFormat);
  const uint64_t whole = roundUp(length, cachedTogether);
  for (uint32_t index = layers.first; index < layers.end; ++index) {
    const format::CacheLayer &layer = artifact.cacheLayers()[index];
    const CacheSizes sizes = cacheSizes(format, layer.headDim);
    for (bool isValues : {false, true}) {
      const uint64_t codes = isValues ? sizes.valueCodes : sizes.keyCodes;
      const uint64_t planes = isValues ? sizes.valuePlanes : sizes.keyPlanes;
      for (uint32_t h = 0; h < layer.kvHeads; ++h) {
        const uint64_t head = uint64_t(slot) * layer.kvHeads + h;
        uint64_t at = head * (codes + planes * scaleBytes) * capacity;
        if (!piece({index, isValues, at, whole * codes}))
          return;
        at += codes * capacity;
        for (uint64_t plane = 0; plane < planes; ++plane, at += scaleBytes * capacity)
          if (!piece({index, isValues, at, uint64_t(length) * uint64_t(scaleBytes)}))
            return;
      }
    }
  }
}

} // namespace smelt
