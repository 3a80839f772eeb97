// The block emitter of attention: register tiles of scores and values, and the softmax between
// them.
#include "passes/lower/kernels/attention_block.h"

#include <cfloat>

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t chunksOfBlock = attentionBlock / lanes;

Value compare(KernelBuilder &k, arith::CmpIPredicate predicate, Value a, Value c) {
  return arith::CmpIOp::create(k.b, predicate, a, c);
}

/// Whether the registers hold `vectors` sums of 16 lanes for each of `pairs` pairs, the vectors
/// they are made of and one factor.
bool fitsRegisters(DotKind kind, int64_t pairs, int64_t vectors) {
  const int64_t perVector = kind == DotKind::Vnni512 ? 1 : kind == DotKind::Maddubs256 ? 2 : 4;
  const int64_t registers = kind == DotKind::Maddubs256 ? 16 : 32;
  return (pairs * vectors + vectors) * perVector + 1 <= registers;
}

} // namespace

AttentionBlock::AttentionBlock(KernelBuilder &k, CacheView &cache, int64_t pairs)
    : pairs(pairs), maxima(k.scratch(roundUp(pairs, lanes), k.f32)),
      sums(k.scratch(roundUp(pairs, lanes), k.f32)), k(k), cache(cache),
      // Rows of a power of two floats would fall on few sets of the first-level cache.
      queryStride(roundUp(k.spec.headDim, lanes) + lanes),
      queries(k.scratch(pairs * queryStride, k.f32)),
      weights(k.scratch(pairs * attentionBlock, k.f32)), firsts(k.scratch(pairs, k.i32)),
      lasts(k.scratch(pairs, k.i32)) {
  if (k.spec.slopes)
    headSlopes = k.scratch(pairs, k.f32);
  int64_t steps = 1;
  while (!fitsRegisters(k.target.dot, (pairs + steps - 1) / steps, 1))
    ++steps;
  pairStep = (pairs + steps - 1) / steps;
}

void AttentionBlock::setQuery(Value pair, Buffer from, Value at) {
  Value to = k.mul(pair, queryStride);
  for (Piece piece : pieces(k.spec.headDim))
    k.storeVector(queries, k.add(to, piece.first),
                  k.loadVector(from, k.add(at, piece.first), piece.n));
}

void AttentionBlock::setVisible(Value pair, RowPlaces::Range range) {
  k.store(firsts, pair, arith::IndexCastOp::create(k.b, k.i32, range.first));
  k.store(lasts, pair, arith::IndexCastOp::create(k.b, k.i32, range.last));
}

void AttentionBlock::setSlope(Value pair, Buffer slopes, Value queryHead) {
  k.store(headSlopes, pair, k.load(slopes, queryHead));
}

// --- Scores: lanes are positions; a key line is loaded once for all pairs of the tile.

void AttentionBlock::scores(Value head, Value start, Value count) {
  Value lines = cache.keyLines(head, start);
  for (int64_t first = 0; first < pairs; first += pairStep) {
    const int64_t held = std::min(pairStep, pairs - first);
    int64_t chunks = chunksOfBlock;
    while (chunks > 1 && !fitsRegisters(k.target.dot, held, chunks))
      chunks /= 2;
    auto tiles = [&](int64_t together) {
      Value needed = k.ceilDiv(count, lanes * together);
      k.loop(k.idx(0), k.mul(needed, together), together,
             [&](Value chunk) { scoreTile(lines, chunk, first, together); });
    };
    if (chunks < chunksOfBlock) {
      tiles(chunks);
      continue;
    }
    // A block that has just begun is common when answers are short: take half of it only.
    k.ifElse(
        k.lessEqual(count, k.idx(attentionBlock / 2)), {},
        [&]() -> Values {
          scoreTile(lines, k.idx(0), first, chunks / 2);
          return {};
        },
        [&]() -> Values {
          tiles(chunks);
          return {};
        });
  }
}

void AttentionBlock::scoreTile(Value lines, Value chunk, int64_t firstPair, int64_t chunks) {
  const int64_t held = std::min(pairStep, pairs - firstPair);
  const int64_t chunkElements = k.spec.headDim * lanes;
  Value first = k.add(lines, k.mul(chunk, chunkElements));
  Values acc(held * chunks, k.splatF(0));
  acc = k.loop(k.idx(0), k.idx(k.spec.headDim), 1, acc, [&](Value d, ValueRange carried) {
    Values key, next;
    for (int64_t c = 0; c < chunks; ++c)
      key.push_back(
          cache.load(cache.keys, k.add(k.add(first, k.mul(d, lanes)), c * chunkElements)));
    for (int64_t p = 0; p < held; ++p) {
      Value q = k.splat(k.load(queries, k.add(d, (firstPair + p) * queryStride)));
      for (int64_t c = 0; c < chunks; ++c)
        next.push_back(k.fma(q, key[c], carried[p * chunks + c]));
    }
    return next;
  });
  for (int64_t p = 0; p < held; ++p)
    for (int64_t c = 0; c < chunks; ++c)
      k.storeVector(weights, k.add(k.mul(k.add(chunk, c), lanes), (firstPair + p) * attentionBlock),
                    acc[p * chunks + c], 64);
}

// --- Softmax.

Value AttentionBlock::masked(Value score, Value start, RowPlaces::Range range, int64_t chunk) {
  // Lane i is position start + 16 chunk + i.
  auto fromStart = [&](Value position) {
    return k.splat(arith::IndexCastOp::create(k.b, k.i32, k.sub(position, start)));
  };
  Value last = fromStart(range.last);
  Value ids = k.iadd(k.laneIds(), k.splatI(chunk * lanes));
  Value visible = compare(k, arith::CmpIPredicate::sle, ids, last);
  if (k.spec.window)
    visible = k.iand(visible, compare(k, arith::CmpIPredicate::sge, ids, fromStart(range.first)));
  return k.select(visible, score, k.splatF(-FLT_MAX));
}

void AttentionBlock::softmax(Value start) {
  // A few pairs step by step together: each step alone is one long chain of dependent operations.
  const int64_t together = std::min(pairs, std::max<int64_t>(1, k.target.rowBlock / 2));
  const int64_t whole = pairs / together * together;
  k.loop(k.idx(0), k.idx(whole), together, [&](Value pair) { softmaxOf(start, pair, together); });
  if (whole != pairs)
    softmaxOf(start, k.idx(whole), pairs - whole);
}

void AttentionBlock::softmaxOf(Value start, Value firstPair, int64_t count) {
  auto pairAt = [&](int64_t p) { return k.add(firstPair, p); };
  auto vectorAt = [&](int64_t p, int64_t c) {
    return k.add(k.mul(pairAt(p), attentionBlock), c * lanes);
  };
  SmallVector<Values> s(count);
  for (int64_t p = 0; p < count; ++p) {
    RowPlaces::Range range{k.toIndex(k.load(firsts, pairAt(p))),
                           k.toIndex(k.load(lasts, pairAt(p)))};
    for (int64_t c = 0; c < chunksOfBlock; ++c) {
      Value v = k.loadVector(weights, vectorAt(p, c), lanes, 64);
      v = k.fmul(v, k.splatF(k.spec.scalar));
      if (k.spec.softcap != 0)
        v = k.fmul(k.tanh(k.fmul(v, k.splatF(1 / k.spec.softcap))), k.splatF(k.spec.softcap));
      if (k.spec.slopes) {
        Value offset = arith::IndexCastOp::create(k.b, k.i32, k.sub(start, range.last));
        Value ids = k.iadd(k.laneIds(), k.splatI(c * lanes));
        Value distance = k.toFloat(k.iadd(ids, k.splat(offset)));
        v = k.fma(k.splat(k.load(headSlopes, pairAt(p))), distance, v);
      }
      s[p].push_back(masked(v, start, range, c));
    }
  }
  Values shifts;
  for (int64_t p = 0; p < count; ++p) {
    Value most = k.reduceMax(k.fmax(k.fmax(s[p][0], s[p][1]), k.fmax(s[p][2], s[p][3])));
    Value any = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, most, k.f32Const(-FLT_MAX));
    shifts.push_back(k.splat(k.select(any, most, k.f32Const(0))));
    k.store(maxima, pairAt(p), most);
  }
  Values totals(count);
  for (int64_t c = 0; c < chunksOfBlock; ++c)
    for (int64_t p = 0; p < count; ++p) {
      Value weight = k.exp(k.fsub(s[p][c], shifts[p]));
      k.storeVector(weights, vectorAt(p, c), weight, 64);
      totals[p] = totals[p] ? k.fadd(totals[p], weight) : weight;
    }
  for (int64_t p = 0; p < count; ++p)
    k.store(sums, pairAt(p), k.reduceAdd(totals[p]));
}

// --- Values: lanes are dimensions; a value vector is loaded once for all pairs of the tile.

void AttentionBlock::values(Value head, Value start, Value first, Value count,
                            const std::function<void(int64_t, Value, Value)> &write) {
  const int64_t headDim = k.spec.headDim;
  Value row = cache.valueRow(head, start);
  for (int64_t firstPair = 0; firstPair < pairs; firstPair += pairStep) {
    const int64_t held = std::min(pairStep, pairs - firstPair);
    int64_t together = std::max<int64_t>(1, std::min<int64_t>(4, headDim / lanes));
    while (together > 1 && !fitsRegisters(k.target.dot, held, together))
      --together;
    const int64_t whole = headDim / (lanes * together) * (lanes * together);
    k.loop(k.idx(0), k.idx(whole), lanes * together, [&](Value column) {
      valueTile(row, first, count, firstPair, column, together, lanes, write);
    });
    for (Piece piece : pieces(headDim - whole))
      valueTile(row, first, count, firstPair, k.idx(whole + piece.first), 1, piece.n, write);
  }
}

void AttentionBlock::valueTile(Value row, Value first, Value count, int64_t firstPair, Value column,
                               int64_t vectors, int64_t width,
                               const std::function<void(int64_t, Value, Value)> &write) {
  const int64_t held = std::min(pairStep, pairs - firstPair);
  Value from = k.add(row, column);
  Values acc(held * vectors, k.splatF(0, width));
  acc = k.loop(first, k.add(first, count), 1, acc, [&](Value t, ValueRange carried) {
    Values value, next;
    Value at = k.add(from, k.mul(t, k.spec.headDim));
    for (int64_t v = 0; v < vectors; ++v)
      value.push_back(cache.load(cache.values, k.add(at, v * lanes), width));
    for (int64_t p = 0; p < held; ++p) {
      Value weight = k.splat(k.load(weights, k.add(t, (firstPair + p) * attentionBlock)), width);
      for (int64_t v = 0; v < vectors; ++v)
        next.push_back(k.fma(weight, value[v], carried[p * vectors + v]));
    }
    return next;
  });
  for (int64_t p = 0; p < held; ++p)
    for (int64_t v = 0; v < vectors; ++v)
      write(firstPair + p, k.add(column, v * lanes), acc[p * vectors + v]);
}

} // namespace smelt
