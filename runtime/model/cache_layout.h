// Where the caches of a token program lie.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>

namespace smelt {

/// Bytes of the key or the value cache of all layers, `perPosition` for each of the `capacity`
/// positions of a slot. Exhausted: more than any address space has.
Result<uint64_t> cacheBytes(uint32_t slots, uint32_t capacity, uint64_t perPosition);

} // namespace smelt
