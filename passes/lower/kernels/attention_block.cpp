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

} // namespace

AttentionBlock::AttentionBlock(KernelBuilder &k, CacheView &cache, int64_t pairs)
    : pairs(pairs), maxima(k.scratch(roundUp(pairs, lanes), k.f32)),
      sums(k.scratch(roundUp(pairs, lanes), k.f32)), k(k), cache(cache),
      // Rows of a power of two floats would fall on few sets of the first-level cache.
      queryStride(roundUp(k.spec.headDim, lanes) + lanes), registers(3 * k.target.rowBlock),
      queries(k.scratch(pairs * queryStride, k.f32)),
      weights(k.scratch(pairs * attentionBlock, k.f32)), positions(k.scratch(pairs, k.i32)) {
  const int64_t steps = (pairs + registers - 1) / registers;
  pairStep = (pairs + steps - 1) / steps;
}

void AttentionBlock::setQuery(Value pair, Buffer from, Value at) {
  Value to = k.mul(pair, queryStride);
  for (Piece piece : pieces(k.spec.headDim))
    k.storeVector(queries, k.add(to, piece.first),
                  k.loadVector(from, k.add(at, piece.first), piece.n));
}

void AttentionBlock::setPosition(Value pair, Value position) {
  k.store(positions, pair, arith::IndexCastOp::create(k.b, k.i32, position));
}

// --- Scores: lanes are positions; a key line is loaded once for all pairs of the tile.

void AttentionBlock::scores(Value head, Value start, Value count) {
  Value lines = cache.keyLines(head, start);
  for (int64_t first = 0; first < pairs; first += pairStep) {
    const int64_t held = std::min(pairStep, pairs - first);
    int64_t chunks = chunksOfBlock;
    while (chunks > 1 && chunks * held > registers)
      chunks /= 2;
    Value needed = k.ceilDiv(count, lanes * chunks);
    k.loop(k.idx(0), k.mul(needed, chunks), chunks,
           [&](Value chunk) { scoreTile(lines, chunk, first, chunks); });
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

// --- Softmax: one pair at a time.

Value AttentionBlock::masked(Value score, Value start, Value position, int64_t chunk) {
  // Lane i is position start + 16 chunk + i: visible where it is <= position and > position -
  // window.
  Value offset = k.sub(position, start);
  Value last = k.splat(arith::IndexCastOp::create(k.b, k.i32, offset));
  Value ids = k.iadd(k.laneIds(), k.splatI(chunk * lanes));
  Value visible = compare(k, arith::CmpIPredicate::sle, ids, last);
  if (k.spec.window) {
    Value before = k.isub(last, k.splatI(k.spec.window));
    visible = k.iand(visible, compare(k, arith::CmpIPredicate::sgt, ids, before));
  }
  return k.select(visible, score, k.splatF(-FLT_MAX));
}

void AttentionBlock::softmax(Value start) {
  k.loop(k.idx(0), k.idx(pairs), 1, [&](Value pair) {
    Value position = k.toIndex(k.load(positions, pair));
    Value first = k.mul(pair, attentionBlock);
    Values s;
    for (int64_t c = 0; c < chunksOfBlock; ++c) {
      Value v = k.loadVector(weights, k.add(first, c * lanes), lanes, 64);
      v = k.fmul(v, k.splatF(k.spec.scalar));
      if (k.spec.softcap != 0)
        v = k.fmul(k.tanh(k.fmul(v, k.splatF(1 / k.spec.softcap))), k.splatF(k.spec.softcap));
      s.push_back(masked(v, start, position, c));
    }
    Value most = k.reduceMax(k.fmax(k.fmax(s[0], s[1]), k.fmax(s[2], s[3])));
    Value lowest = k.f32Const(-FLT_MAX);
    Value any = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, most, lowest);
    Value shift = k.splat(k.select(any, most, k.f32Const(0)));
    Value sum;
    for (int64_t c = 0; c < chunksOfBlock; ++c) {
      Value p = k.exp(k.fsub(s[c], shift));
      k.storeVector(weights, k.add(first, c * lanes), p, 64);
      sum = sum ? k.fadd(sum, p) : p;
    }
    k.store(maxima, pair, most);
    k.store(sums, pair, k.reduceAdd(sum));
  });
}

// --- Values: lanes are dimensions; a value vector is loaded once for all pairs of the tile.

void AttentionBlock::values(Value head, Value start, Value first, Value count,
                            const std::function<void(int64_t, Value, Value)> &write) {
  const int64_t headDim = k.spec.headDim;
  Value row = cache.valueRow(head, start);
  for (int64_t firstPair = 0; firstPair < pairs; firstPair += pairStep) {
    const int64_t held = std::min(pairStep, pairs - firstPair);
    const int64_t together = std::max<int64_t>(1, std::min(registers / held, headDim / lanes));
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
