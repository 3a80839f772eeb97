// Where the caches of a token program lie.
#pragma once

#include "runtime/artifact/reader.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <functional>

namespace smelt {

/// Bytes of the key or the value cache of all layers, `perPosition` for each of the `capacity`
/// positions of a slot. Exhausted: more than any address space has.
Result<uint64_t> cacheBytes(uint32_t slots, uint32_t capacity, uint64_t perPosition);

/// Layers [first, end) of a model.
struct LayerRange {
  uint32_t first, end;
};

/// A piece of the memory that positions of a slot are cached in.
struct CachePiece {
  uint32_t layer;
  bool isValues;   ///< of the layer's values, else of its keys
  uint64_t offset; ///< within the layer's keys or values of all slots, in bytes
  uint64_t bytes;
};

/// Calls `piece` for all memory that the first `length` positions of a slot are cached in, in an
/// order that depends on the model alone, until it returns false. `capacity`: positions of a slot.
/// (Codes of a head's positions lie together, its scales in planes of `capacity` behind all codes.)
void visitCache(const Artifact &artifact, LayerRange layers, uint32_t capacity, int32_t slot,
                uint32_t length, const std::function<bool(const CachePiece &)> &piece);

} // namespace smelt
