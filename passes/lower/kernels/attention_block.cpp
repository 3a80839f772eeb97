// The block emitter of attention: register tiles of scores and values, and the softmax between
// them.
#include "passes/lower/kernels/attention_block.h"

#include <cfloat>

using namespace mlir;

namespace smelt {

namespace {

/// Groups of packed values that are summed together.
constexpr int64_t groupsTogether = 2;
constexpr double log2OfE = 1.44269504088896341;

Value compare(KernelBuilder &k, arith::CmpIPredicate predicate, Value a, Value c) {
  return arith::CmpIOp::create(k.b, predicate, a, c);
}

} // namespace

bool fitsRegisters(const KernelTarget &target, int64_t sums, int64_t vectors) {
  const int64_t perVector = lanes * int64_t(sizeof(float)) / target.vectorBytes;
  return (sums + vectors) * perVector + 1 <= target.registers;
}

AttentionBlock::AttentionBlock(KernelBuilder &k, CacheView &cache, int64_t pairs)
    : pairs(pairs), maxima(k.scratch(roundUp(pairs, lanes), k.f32)),
      sums(k.scratch(roundUp(pairs, lanes), k.f32)), k(k), cache(cache),
      // Rows of a power of two floats would fall on few sets of the first-level cache.
      queryStride(roundUp(k.spec.headDim, lanes) + lanes),
      weights(k.scratch(pairs * attentionBlock, k.f32)), firsts(k.scratch(pairs, k.i32)),
      lasts(k.scratch(pairs, k.i32)) {
  if (k.spec.slopes)
    headSlopes = k.scratch(pairs, k.f32);
  if (cache.hasIntegerKeys()) {
    queryWords = k.scratch(pairs * wordsOfQuery(), k.i32);
    queryScales = k.scratch(pairs * queryGroups(), k.f32);
    queryOffsets = k.scratch(pairs * queryGroups(), k.i32);
  } else {
    queries = k.scratch(pairs * queryStride, k.f32);
  }
  if (cache.hasIntegerValues()) {
    weightWords = k.scratch(pairs * attentionBlock / dotBytes, k.i32);
  }
  if (cache.packsValues()) {
    groupWeights = k.scratch(groupsTogether * pairs * attentionBlock, k.f32);
    groupSums = k.scratch(groupsTogether * pairs, k.f32);
  }
}

int64_t AttentionBlock::pairsAtOnce(int64_t sums) const {
  int64_t steps = 1;
  while (steps < pairs && !fitsRegisters(k.target, (pairs + steps - 1) / steps * sums, 1))
    ++steps;
  return (pairs + steps - 1) / steps;
}

void AttentionBlock::forPairs(int64_t step, const std::function<void(Value, int64_t)> &tile) {
  const int64_t whole = pairs / step * step;
  if (whole == step)
    tile(k.idx(0), step);
  else
    k.loop(k.idx(0), k.idx(whole), step, [&](Value first) { tile(first, step); });
  if (whole != pairs)
    tile(k.idx(whole), pairs - whole);
}

double AttentionBlock::queryFactor() const {
  return k.spec.softcap != 0 ? k.spec.scalar / k.spec.softcap : k.spec.scalar * log2OfE;
}

void AttentionBlock::setQuery(Value pair, Buffer from, Value at) {
  if (cache.hasIntegerKeys())
    return encodeQuery(pair, from, at);
  Value to = k.mul(pair, queryStride);
  for (Piece piece : pieces(k.spec.headDim))
    k.storeVector(queries, k.add(to, piece.first),
                  k.fmul(k.loadVector(from, k.add(at, piece.first), piece.n),
                         k.splatF(queryFactor(), piece.n)));
}

void AttentionBlock::setVisible(Value pair, PositionRange range) {
  k.store(firsts, pair, arith::IndexCastOp::create(k.b, k.i32, range.first));
  k.store(lasts, pair, arith::IndexCastOp::create(k.b, k.i32, range.last));
}

void AttentionBlock::setSlope(Value pair, Buffer slopes, Value queryHead) {
  k.store(headSlopes, pair, k.fmul(k.load(slopes, queryHead), k.f32Const(log2OfE)));
}

// --- Scores: lanes are positions; a key line is loaded once for all pairs of the tile.

void AttentionBlock::scores(Value head, Value start, Value count) {
  // Beside the sum of an integer score there is the dot product of its group.
  const int64_t each = cache.hasIntegerKeys() ? 2 : 1, pairStep = pairsAtOnce(each);
  int64_t chunks = chunksOfBlock;
  while (chunks > 1 && !fitsRegisters(k.target, pairStep * each * chunks, chunks))
    chunks /= 2;
  // Pairs vary within chunks: were it the other way round, compilers would spread the words of
  // queries ahead of the loop, and have no registers for them.
  auto tile = [&](Value chunk, int64_t together) {
    forPairs(pairStep, [&](Value first, int64_t held) {
      if (cache.hasIntegerKeys())
        integerScoreTile(head, start, chunk, first, held, together);
      else
        scoreTile(head, start, chunk, first, held, together);
    });
  };
  auto tiles = [&](int64_t together) {
    Value needed = k.ceilDiv(count, lanes * together);
    k.loop(k.idx(0), k.mul(needed, together), together,
           [&](Value chunk) { tile(chunk, together); });
  };
  if (chunks < chunksOfBlock)
    return tiles(chunks);
  // A block that has just begun is common when answers are short: take half of it only.
  k.ifElse(
      k.lessEqual(count, k.idx(attentionBlock / 2)), {},
      [&]() -> Values {
        tile(k.idx(0), chunks / 2);
        return {};
      },
      [&]() -> Values {
        tiles(chunks);
        return {};
      });
}

void AttentionBlock::scoreTile(Value head, Value start, Value chunk, Value firstPair, int64_t held,
                               int64_t chunks) {
  const int64_t chunkElements = k.spec.headDim * lanes;
  Value first = k.add(cache.keyLines(head, start), k.mul(chunk, chunkElements));
  Values acc(held * chunks, k.splatF(0));
  acc = k.loop(k.idx(0), k.idx(k.spec.headDim), 1, acc, [&](Value d, ValueRange carried) {
    Values key, next;
    for (int64_t c = 0; c < chunks; ++c)
      key.push_back(cache.loadKeys(k.add(k.add(first, k.mul(d, lanes)), c * chunkElements)));
    for (int64_t p = 0; p < held; ++p) {
      Value q = k.splat(k.load(queries, k.add(d, k.mul(k.add(firstPair, p), queryStride))));
      for (int64_t c = 0; c < chunks; ++c)
        next.push_back(k.fma(q, key[c], carried[p * chunks + c]));
    }
    return next;
  });
  for (int64_t p = 0; p < held; ++p)
    for (int64_t c = 0; c < chunks; ++c)
      storeScores(k.add(firstPair, p), k.add(chunk, c), acc[p * chunks + c]);
}

void AttentionBlock::storeScores(Value pair, Value chunk, Value scores) {
  Value at = k.add(k.mul(pair, attentionBlock), k.mul(chunk, lanes));
  k.storeVector(weights, at, scores, 64);
}

// --- Softmax.

/// Which of the 16 positions of a chunk a row sees.
Value AttentionBlock::visible(Value start, PositionRange range, int64_t chunk) {
  // Lane i is position start + 16 chunk + i.
  auto fromStart = [&](Value position) {
    return k.splat(arith::IndexCastOp::create(k.b, k.i32, k.sub(position, start)));
  };
  Value ids = k.iadd(k.laneIds(), k.splatI(chunk * lanes));
  Value seen = compare(k, arith::CmpIPredicate::sle, ids, fromStart(range.last));
  if (k.spec.window)
    seen = k.iand(seen, compare(k, arith::CmpIPredicate::sge, ids, fromStart(range.first)));
  return seen;
}

void AttentionBlock::softmax(Value head, Value start, Value isWhole) {
  ValueScales valueScales;
  if (cache.hasIntegerValues())
    valueScales = integerValueScales(head, start);
  // A few pairs step by step together: each step alone is one long chain of dependent operations.
  const int64_t together = std::min(pairs, std::max<int64_t>(1, k.target.rowBlock / 2));
  auto all = [&](bool whole) -> Values {
    forPairs(together, [&](Value first, int64_t count) {
      softmaxOf(start, first, count, valueScales, whole);
    });
    return {};
  };
  k.ifElse(
      isWhole, {}, [&] { return all(true); }, [&] { return all(false); });
}

void AttentionBlock::softmaxOf(Value start, Value firstPair, int64_t count,
                               const ValueScales &scales, bool isWhole) {
  auto pairAt = [&](int64_t p) { return k.add(firstPair, p); };
  auto vectorAt = [&](int64_t p, int64_t c) {
    return k.add(k.mul(pairAt(p), attentionBlock), c * lanes);
  };
  SmallVector<Values> s(count), seen(count);
  Values most;
  for (int64_t p = 0; p < count; ++p) {
    PositionRange range{k.toIndex(k.load(firsts, pairAt(p))), k.toIndex(k.load(lasts, pairAt(p)))};
    for (int64_t c = 0; c < chunksOfBlock; ++c) {
      Value v = k.loadVector(weights, vectorAt(p, c), lanes, 64);
      if (k.spec.softcap != 0)
        v = k.fmul(k.tanh(v), k.splatF(k.spec.softcap * log2OfE));
      if (k.spec.slopes) {
        Value offset = arith::IndexCastOp::create(k.b, k.i32, k.sub(start, range.last));
        Value ids = k.iadd(k.laneIds(), k.splatI(c * lanes));
        Value distance = k.toFloat(k.iadd(ids, k.splat(offset)));
        v = k.fma(k.splat(k.load(headSlopes, pairAt(p))), distance, v);
      }
      if (cache.hasIntegerValues())
        v = k.fadd(v, scales.logs[c]);
      if (!isWhole) {
        seen[p].push_back(visible(start, range, c));
        v = k.select(seen[p][c], v, k.splatF(-FLT_MAX));
      }
      s[p].push_back(v);
    }
    most.push_back(k.fmax(k.fmax(s[p][0], s[p][1]), k.fmax(s[p][2], s[p][3])));
  }
  most = k.reduceMax(most);
  auto weightOf = [&](Value x) {
    return cache.hasIntegerValues() ? k.coarseExp2OfNegative(x, mostWeight) : k.exp2OfNegative(x);
  };
  auto addWeight = [&](Value total, Value weight, int64_t c) {
    if (!cache.hasIntegerValues())
      return total ? k.fadd(total, weight) : weight;
    Value inverse = scales.inverses[c];
    return total ? k.fma(weight, inverse, total) : k.fmul(weight, inverse);
  };
  Values shifts, totals(count);
  for (int64_t p = 0; p < count; ++p) {
    k.store(maxima, pairAt(p), most[p]);
    shifts.push_back(k.splat(most[p]));
  }
  for (int64_t c = 0; c < chunksOfBlock; ++c)
    for (int64_t p = 0; p < count; ++p) {
      Value weight = weightOf(k.fsub(s[p][c], shifts[p]));
      s[p][c] = isWhole ? weight : k.select(seen[p][c], weight, k.splatF(0));
      totals[p] = addWeight(totals[p], s[p][c], c);
    }
  totals = k.reduceAdd(totals);
  for (int64_t p = 0; p < count; ++p)
    k.store(sums, pairAt(p), totals[p]);
  if (cache.hasIntegerValues())
    return encodeWeights(firstPair, s);
  for (int64_t p = 0; p < count; ++p)
    for (int64_t c = 0; c < chunksOfBlock; ++c)
      k.storeVector(weights, vectorAt(p, c), s[p][c], 64);
}

// --- Values: lanes are dimensions; a value vector is loaded once for all pairs of the tile.

void AttentionBlock::values(Value head, Value start, Value first, Value count,
                            const TileWriter &write) {
  if (cache.packsValues())
    return packedValues(head, start, first, count, write);
  if (cache.hasIntegerValues())
    return integerValues(head, start, first, count, write);
  const int64_t headDim = k.spec.headDim, pairStep = pairsAtOnce(1);
  Value row = cache.valueRow(head, start);
  forPairs(pairStep, [&](Value firstPair, int64_t held) {
    int64_t together = std::max<int64_t>(1, std::min<int64_t>(4, headDim / lanes));
    while (together > 1 && !fitsRegisters(k.target, held * together, together))
      --together;
    const int64_t whole = headDim / (lanes * together) * (lanes * together);
    k.loop(k.idx(0), k.idx(whole), lanes * together, [&](Value column) {
      valueTile(row, first, count, firstPair, held, column, together, lanes, write);
    });
    for (Piece piece : pieces(headDim - whole))
      valueTile(row, first, count, firstPair, held, k.idx(whole + piece.first), 1, piece.n, write);
  });
}

void AttentionBlock::valueTile(Value row, Value first, Value count, Value firstPair, int64_t held,
                               Value column, int64_t vectors, int64_t width,
                               const TileWriter &write) {
  Value from = k.add(row, column);
  Values acc(held * vectors, k.splatF(0, width));
  acc = k.loop(first, k.add(first, count), 1, acc, [&](Value t, ValueRange carried) {
    Values value, next;
    Value at = k.add(from, k.mul(t, k.spec.headDim));
    for (int64_t v = 0; v < vectors; ++v)
      value.push_back(cache.loadValues(k.add(at, v * lanes), width));
    for (int64_t p = 0; p < held; ++p) {
      Value weight =
          k.splat(k.load(weights, k.add(t, k.mul(k.add(firstPair, p), attentionBlock))), width);
      for (int64_t v = 0; v < vectors; ++v)
        next.push_back(k.fma(weight, value[v], carried[p * vectors + v]));
    }
    return next;
  });
  for (int64_t p = 0; p < held; ++p)
    for (int64_t v = 0; v < vectors; ++v)
      write(k.add(firstPair, p), k.add(column, v * lanes), acc[p * vectors + v]);
}

// --- Packed values: a group of dimensions has its own weights; 16 bytes are two vectors of it.

void AttentionBlock::packedValues(Value head, Value start, Value first, Value count,
                                  const TileWriter &write) {
  constexpr int64_t vectorsOfGroup = valueGroup / lanes;
  const int64_t headDim = k.spec.headDim, groups = cache.valueGroups(), pairStep = pairsAtOnce(1);
  Value row = cache.valueRow(head, start);
  forPairs(pairStep, [&](Value firstPair, int64_t held) {
    int64_t vectors = groupsTogether * vectorsOfGroup;
    while (vectors > 1 && !fitsRegisters(k.target, held * vectors, vectors))
      vectors /= 2;
    /// `n` groups from `group` on, of which `dims` dimensions exist.
    auto unit = [&](Value group, int64_t n, int64_t dims) {
      for (int64_t j = 0; j < n; ++j)
        weighGroup(head, start, k.add(group, j), j, firstPair, held);
      const int64_t together = std::min(vectors, n * vectorsOfGroup);
      for (int64_t v = 0; v < n * vectorsOfGroup; v += together)
        packedTile(row, first, count, firstPair, held, group, v, together, dims, write);
    };
    const int64_t n = std::max<int64_t>(1, vectors / vectorsOfGroup);
    const int64_t whole = headDim / (n * valueGroup) * n;
    k.loop(k.idx(0), k.idx(whole), n, [&](Value group) { unit(group, n, n * valueGroup); });
    for (int64_t group = whole; group < groups; ++group)
      unit(k.idx(group), 1, std::min(valueGroup, headDim - group * valueGroup));
  });
}

/// Weights and sum b of one group, for the pairs of a tile.
void AttentionBlock::weighGroup(Value head, Value start, Value group, int64_t place,
                                Value firstPair, int64_t held) {
  Values scales, minimums;
  for (int64_t c = 0; c < chunksOfBlock; ++c) {
    Value position = k.add(start, c * lanes);
    scales.push_back(
        cache.loadScales(cache.valueScales, cache.valueScaleAt(head, position, group)));
    minimums.push_back(
        cache.loadScales(cache.valueScales, cache.valueMinimumAt(head, position, group)));
  }
  k.loop(firstPair, k.add(firstPair, held), 1, [&](Value pair) {
    Value at = k.mul(pair, attentionBlock), sum;
    for (int64_t c = 0; c < chunksOfBlock; ++c) {
      Value weight = k.loadVector(weights, k.add(at, c * lanes), lanes, 64);
      sum = sum ? k.fma(weight, minimums[c], sum) : k.fmul(weight, minimums[c]);
      k.storeVector(groupWeights, k.add(at, place * pairs * attentionBlock + c * lanes),
                    k.fmul(weight, scales[c]), 64);
    }
    k.store(groupSums, k.add(pair, place * pairs), k.reduceAdd(sum));
  });
}

/// Vectors [firstVector, firstVector + vectors) of the groups from `group` on.
void AttentionBlock::packedTile(Value row, Value first, Value count, Value firstPair, int64_t held,
                                Value group, int64_t firstVector, int64_t vectors, int64_t dims,
                                const TileWriter &write) {
  // Place of a pair in the arrays of the group that vector v lies in.
  auto place = [&](int64_t p, int64_t v) {
    return k.add(firstPair, (firstVector + v) * lanes / valueGroup * pairs + p);
  };
  Values acc;
  for (int64_t p = 0; p < held; ++p)
    for (int64_t v = 0; v < vectors; ++v)
      acc.push_back(k.splat(k.load(groupSums, place(p, v))));
  Value from = k.add(row, k.mul(group, lanes));
  acc = k.loop(first, k.add(first, count), 1, acc, [&](Value t, ValueRange carried) {
    Values value, next;
    Value at = k.add(from, k.mul(t, cache.valueStride()));
    for (int64_t v = firstVector; v < firstVector + vectors; ++v)
      value.push_back(cache.loadPacked(k.add(at, v * lanes / valueGroup * lanes), v % 2));
    for (int64_t p = 0; p < held; ++p)
      for (int64_t v = 0; v < vectors; ++v) {
        Value weight = k.load(groupWeights, k.add(t, k.mul(place(p, v), attentionBlock)));
        next.push_back(k.fma(k.splat(weight), value[v], carried[p * vectors + v]));
      }
    return next;
  });
  Value column = k.mul(group, valueGroup);
  for (int64_t p = 0; p < held; ++p)
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t start = (firstVector + v) * lanes;
      for (Piece piece : pieces(std::clamp<int64_t>(dims - start, 0, lanes))) {
        Value o = acc[p * vectors + v];
        write(k.add(firstPair, p), k.add(column, start + piece.first),
              piece.n == lanes ? o : k.slice(o, piece.first, piece.n));
      }
    }
}

} // namespace smelt
