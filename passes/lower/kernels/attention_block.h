// One block of cached positions against a few query heads: what decode and prefill attention share,
// bit for bit.
#pragma once

#include "passes/lower/kernels/cache.h"
#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/group_dot.h"

namespace smelt {

inline constexpr int64_t chunksOfBlock = attentionBlock / lanes;
inline constexpr int64_t mostWeight = 254; ///< the largest weight of values of 8 bits
/// What is taken off rounded weights where only signed bytes are multiplied: it leaves -127..127.
inline constexpr int64_t weightOffset = mostWeight / 2;
/// The smallest scale of values that a cache can hold beside 0.
inline constexpr double leastScale = 0x1p-24;
/// The largest code of a query.
inline constexpr int64_t mostCode = 127;

/// Whether the registers hold `sums` and `vectors` (what they are made of) of 16 lanes, and one
/// factor.
bool fitsRegisters(const KernelTarget &target, int64_t sums, int64_t vectors);

/// Emits the pieces of attention of `pairs` (row, query head) pairs, all of one kv head and slot,
/// against one block of attentionBlock positions. For every pair, in this order:
///   q_d = q_d * (scale log2(e)), s_t = sum over d, in order, of q_d k_td by fma from 0
///   with softcap q_d = q_d * (scale / cap) instead and s_t = tanh(s_t) (cap log2(e))
///   with slopes s_t = fma(slope log2(e), t - position, s_t)
///   m = max s_t, p_t = 2^(s_t - m) of the visible positions; of others s_t = -FLT_MAX, p_t = 0
///   l = 16-lane sums of p over the four vectors of 16 positions in order, then reduceAdd
///   o_d = sum over t, in order, of p_t v_td by fma from 0
/// With keys of 8 bits, q is rounded to INT8 in groups of 32 dimensions like them (qs = max |q| /
/// 127, code = roundEven(q * (1 / qs))), the factor of q_d is one of qs instead and, with the exact
/// integer D of a group,
///   s_t = sum over groups, in order, of D (ks_t * qs) by fma from 0
/// With values of 8 bits weights contain the scales of values (z_t, at least 2^-24), 254 at most:
///   s_t = s_t + log2 z_t, absolute error 1.5e-5
///   m = max s_t, p_t = 254 * 2^(s_t - m) with a relative error of 1.1e-4
///   l as above, but of p_t * (1 / z_t), the first product rounded, the others by fma
///   c_t = 127 + roundEven(p_t - 127), o_d = sum over t of c_t code_td, an exact integer
/// With packed values, v_td are codes and p_t, after the sum l, is p_t * (scale of value t in the
/// group of d); the sum starts at the group's b = 16-lane sums of p_t (minimum of value t) over the
/// four vectors in order, the first product rounded, the others by fma, then reduceAdd. Positions
/// that are invisible to all pairs may be skipped: they would add exact zeros.
class AttentionBlock {
public:
  using TileWriter = std::function<void(Value pair, Value column, Value o)>;

  AttentionBlock(KernelBuilder &k, CacheView &cache, int64_t pairs);

  const int64_t pairs;
  Buffer maxima, sums; ///< float of each pair, after softmax(); arrays are padded to 16

  /// Copies the query of one pair (headDim floats).
  void setQuery(Value pair, Buffer queries, Value at);
  /// What one pair's row sees.
  void setVisible(Value pair, PositionRange range);
  /// The slope of one pair's query head, if the spec has slopes.
  void setSlope(Value pair, Buffer slopes, Value queryHead);
  /// Scores of the block at position `start` of the cache head; `count` positions from the start
  /// are needed.
  void scores(Value head, Value start, Value count);
  /// Scores -> p, maxima, sums. `isWhole`: all pairs see the whole block.
  void softmax(Value head, Value start, Value isWhole);
  /// o of the positions [first, first + count) of the block; `write(pair, column, vector)` takes
  /// each finished vector of the columns from `column`.
  void values(Value head, Value start, Value first, Value count, const TileWriter &write);

private:
  KernelBuilder &k;
  CacheView &cache;
  int64_t queryStride;
  Buffer queries, weights, firsts, lasts, headSlopes;
  /// With keys of 8 bits, of each pair: words of four codes, and of each group its scale and -128
  /// times the sum of its codes.
  Buffer queryWords, queryScales, queryOffsets;
  /// With values of 8 bits, of each pair: words of four weights (encodeWeights()).
  Buffer weightWords;
  /// Of packed values, for up to two groups: weights [group][pair][position], sums b [group][pair].
  Buffer groupWeights, groupSums;

  /// Pairs that are computed together, as many as the registers hold with `sums` of each.
  int64_t pairsAtOnce(int64_t sums) const;
  /// Calls `tile` with the first of `step` pairs and their number, for all pairs.
  void forPairs(int64_t step, const std::function<void(Value, int64_t)> &tile);
  void scoreTile(Value head, Value start, Value chunk, Value firstPair, int64_t held,
                 int64_t chunks);
  /// What makes scores of products of queries and keys.
  double queryFactor() const;
  int64_t queryGroups() const { return roundUp(k.spec.headDim, keyGroup) / keyGroup; }
  int64_t wordsOfQuery() const { return roundUp(k.spec.headDim, lanes) / dotBytes; }
  void encodeQuery(Value pair, Buffer from, Value at);
  void integerScoreTile(Value head, Value start, Value chunk, Value firstPair, int64_t held,
                        int64_t chunks);
  void encodeWeights(Value firstPair, llvm::ArrayRef<Values> weights);
  void integerValues(Value head, Value start, Value first, Value count, const TileWriter &write);
  void integerValueTile(Value row, Value first, Value count, Value firstPair, int64_t held,
                        Value column, int64_t vectors, int64_t dims, const TileWriter &write);
  void weighGroup(Value head, Value start, Value group, int64_t place, Value firstPair,
                  int64_t held);
  void packedValues(Value head, Value start, Value first, Value count, const TileWriter &write);
  void packedTile(Value row, Value first, Value count, Value firstPair, int64_t held, Value group,
                  int64_t firstVector, int64_t vectors, int64_t dims, const TileWriter &write);
  void valueTile(Value row, Value first, Value count, Value firstPair, int64_t held, Value column,
                 int64_t vectors, int64_t width, const TileWriter &write);
  void storeScores(Value pair, Value chunk, Value scores);
  /// Of values of 8 bits, for each chunk of positions: log2 z_t, and 1 / z_t.
  struct ValueScales {
    Values logs, inverses;
  };
  ValueScales integerValueScales(Value head, Value start);
  void softmaxOf(Value start, Value firstPair, int64_t count, const ValueScales &scales,
                 bool isWhole);
  Value visible(Value start, PositionRange range, int64_t chunk);
};

} // namespace smelt
