// How attention of many rows is dealt to warps that multiply by the matrix unit.
#pragma once

#include "passes/lower/gpu_target.h"
#include "passes/lower/kernel_spec.h"
#include "runtime/formats/caches.h"

#include <algorithm>

namespace smelt {

/// Whether they do: on NVIDIA's devices, with a cache of bytes. The codes of longer queries do not
/// fit the registers.
inline bool attentionByTiles(const KernelSpec &spec, const GpuTarget &target) {
  const CacheInfo &cache = cacheInfo(spec.cache);
  return target.isPtx() && cache.keyBits == 8 && cache.valueBits == 8 && spec.headDim <= 128;
}

/// A warp takes 16 (token, query head) pairs of one kv head, and some dimensions of their results.
struct AttentionTiles {
  /// More dimensions than 64 of a warp would not fit its registers beside the scores.
  static constexpr int64_t pairs = 16, warps = 4, mostDims = 64;

  explicit AttentionTiles(const KernelSpec &spec)
      : heads(std::min<int64_t>(spec.heads / spec.kvHeads, pairs)), tokens(pairs / heads),
        headParts((spec.heads / spec.kvHeads + heads - 1) / heads),
        dimParts((spec.headDim + mostDims - 1) / mostDims) {}

  int64_t heads;     ///< of a tile, for each of its tokens
  int64_t tokens;    ///< of a tile
  int64_t headParts; ///< tiles that the query heads of a kv head are divided among
  int64_t dimParts;  ///< warps that compute the same weights, each for mostDims dimensions
};

} // namespace smelt
