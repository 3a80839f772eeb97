// One block of cached positions against a few query heads: what decode and prefill attention share,
// bit for bit.
#pragma once

#include "passes/lower/kernels/cache.h"
#include "passes/lower/kernels/columns.h"

namespace smelt {

/// Emits the pieces of attention of `pairs` (row, query head) pairs, all of one kv head and slot,
/// against one block of attentionBlock positions. For every pair, in this order:
///   s_t = sum over d, in order, of q_d k_td by fma from 0; a quantized k_td is code * scale, which
///   is exact in float; s_t = s_t * scale; with softcap s_t = cap tanh(s_t / cap); with slopes s_t =
///   fma(slope, t - position, s_t); invisible positions get -FLT_MAX
///   m = max s_t, p_t = exp(s_t - m) (nothing visible: m = -FLT_MAX and all p_t = 0)
///   l = 16-lane sums of p over the four vectors of 16 positions in order, then reduceAdd
///   o_d = sum over t, in order, of p_t v_td by fma from 0
/// With quantized values, v_td are codes and p_t, after the sum l, is p_t * (scale of value t), of
/// packed ones of the group of d; the latter's sum starts at the group's b = 16-lane sums of p_t
/// (minimum of value t) over the four vectors in order, the first product rounded, the others by
/// fma, then reduceAdd.
/// Positions that are invisible to all pairs may be skipped: they would add exact zeros.
class AttentionBlock {
public:
  AttentionBlock(KernelBuilder &k, CacheView &cache, int64_t pairs);

  const int64_t pairs;
  Buffer maxima, sums; ///< float of each pair, after softmax(); arrays are padded to 16

  /// Copies the query of one pair (headDim floats).
  void setQuery(Value pair, Buffer queries, Value at);
  /// What one pair's row sees.
  void setVisible(Value pair, RowPlaces::Range range);
  /// The slope of one pair's query head, if the spec has slopes.
  void setSlope(Value pair, Buffer slopes, Value queryHead);
  /// Scores of the block at position `start` of the cache head; `count` positions from the start
  /// are needed.
  void scores(Value head, Value start, Value count);
  /// Scores -> p, maxima, sums.
  void softmax(Value start);
  /// o of the positions [first, first + count) of the block; `write(pair, column, vector)` takes
  /// each finished vector of the columns from `column`.
  void values(Value head, Value start, Value first, Value count,
              const std::function<void(int64_t pair, Value column, Value o)> &write);

private:
  KernelBuilder &k;
  CacheView &cache;
  int64_t queryStride, pairStep;
  Buffer queries, weights, firsts, lasts, headSlopes;
  /// Of packed values, for up to two groups: weights [group][pair][position], sums b [group][pair].
  Buffer groupWeights, groupSums;

  void scoreTile(Value head, Value start, Value chunk, int64_t firstPair, int64_t chunks);
  void scaleWeights(Value head, Value start);
  void weighGroup(Value head, Value start, Value group, int64_t place, int64_t firstPair,
                  int64_t held);
  void packedValues(Value head, Value start, Value first, Value count,
                    const std::function<void(int64_t, Value, Value)> &write);
  void packedTile(Value row, Value first, Value count, int64_t firstPair, Value group,
                  int64_t firstVector, int64_t vectors, int64_t dims,
                  const std::function<void(int64_t, Value, Value)> &write);
  void valueTile(Value row, Value first, Value count, int64_t firstPair, Value column,
                 int64_t vectors, int64_t width,
                 const std::function<void(int64_t, Value, Value)> &write);
  void softmaxOf(Value start, Value firstPair, int64_t count);
  Value masked(Value score, Value start, RowPlaces::Range range, int64_t chunk);
};

} // namespace smelt
