// Sizes of caches.
#include "runtime/model/cache_layout.h"

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

} // namespace smelt
