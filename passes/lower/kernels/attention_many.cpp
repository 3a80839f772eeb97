// AttentionMany: whole attention of many rows of any slots and positions.
//
// Operands: p0 float q [.][inStride], p1 key cache, p2 value cache, p3 int32 positions[maxTokens],
// slots[maxTokens], p4 float out
// [.][outStride], p5 float slopes of the query heads if the spec has them. The same bits as
// AttentionOne and AttentionMerge give row by row.
//
// Rows are cut into tiles of a few; within a tile, neighbouring rows of one slot form a run. A run
// that fills at least half of a tile is computed together (keys and values are then loaded once for
// all its rows and heads), shorter ones row by row.
#include "passes/lower/kernels/attention_block.h"

#include <limits>

using namespace mlir;

namespace smelt {

namespace {

/// (row, query head) pairs that are computed together: about what the registers of the largest
/// target hold.
constexpr int64_t pairsOfTile = 24;

/// Emits attention of up to `rows` neighbouring rows of one slot, for the query heads of one kv
/// head. Pair = row * group + head.
class RowTile {
public:
  RowTile(KernelBuilder &k, CacheView &cache, RowPlaces &places, int64_t rows)
      : k(k), cache(cache), places(places), group(k.spec.heads / k.spec.kvHeads), rows(rows),
        padded(roundUp(rows * group, lanes)), block(k, cache, rows * group),
        runningMax(k.scratch(padded, k.f32)), runningSum(k.scratch(padded, k.f32)),
        keep(k.scratch(padded, k.f32)), take(k.scratch(padded, k.f32)),
        accumulated(k.scratch(rows * group * stride(), k.f32)) {}

  /// Rows [firstRow, firstRow + count), 1 <= count <= rows; missing rows repeat the last one.
  void emit(Value firstRow, Value count, Value kvHead) {
    const Seen seen = start(firstRow, count, kvHead);
    Value head = cache.head(places.slot(firstRow), kvHead);
    Value end = k.add(seen.last, 1);
    Value firstStart = k.mul(k.div(seen.first, attentionBlock), attentionBlock);
    k.loop(firstStart, end, attentionBlock, [&](Value at) {
      Value first = k.max(k.sub(seen.first, at), k.idx(0));
      Value last = k.min(k.sub(end, at), k.idx(attentionBlock));
      block.scores(head, at, last);
      Value isWhole = k.iand(k.lessEqual(seen.firstOfAll, at),
                             k.lessEqual(k.add(at, attentionBlock - 1), seen.lastOfAll));
      block.softmax(head, at, isWhole);
      weigh();
      block.values(head, at, first, k.sub(last, first),
                   [&](Value pair, Value column, Value o) { accumulate(pair, column, o); });
    });
    finish(firstRow, count, kvHead);
  }

private:
  KernelBuilder &k;
  CacheView &cache;
  RowPlaces &places;
  const int64_t group, rows, padded;
  AttentionBlock block;
  Buffer runningMax, runningSum, keep, take, accumulated;

  int64_t stride() const { return roundUp(k.spec.headDim, lanes) + lanes; }

  /// Positions that some row sees, and those that all rows see (none: first > last).
  struct Seen {
    Value first, last, firstOfAll, lastOfAll;
  };

  /// Queries, ranges and the empty state.
  Seen start(Value firstRow, Value count, Value kvHead) {
    Buffer queries = k.operand(0, k.f32);
    Value lastRow = k.sub(k.add(firstRow, count), k.idx(1));
    RowPlaces::Range any = places.visible(firstRow);
    Values range =
        k.loop(k.idx(0), k.idx(rows), 1, {any.first, any.last, any.first, any.last},
               [&](Value i, ValueRange carried) -> Values {
                 Value row = k.min(k.add(firstRow, i), lastRow);
                 RowPlaces::Range seen = places.visible(row);
                 k.loop(k.idx(0), k.idx(group), 1, [&](Value g) {
                   Value pair = k.add(k.mul(i, group), g);
                   Value column = k.mul(k.add(k.mul(kvHead, group), g), k.spec.headDim);
                   block.setQuery(pair, queries, k.add(k.mul(row, k.spec.inStride), column));
                   block.setVisible(pair, seen);
                   if (k.spec.slopes)
                     block.setSlope(pair, k.operand(5, k.f32), k.add(k.mul(kvHead, group), g));
                 });
                 return {k.min(carried[0], seen.first), k.max(carried[1], seen.last),
                         k.max(carried[2], seen.first), k.min(carried[3], seen.last)};
               });
    for (int64_t i = 0; i < padded; i += lanes) {
      Value none = k.splatF(-std::numeric_limits<double>::infinity());
      k.storeVector(runningMax, k.idx(i), none);
      k.storeVector(runningSum, k.idx(i), k.splatF(0));
    }
    k.loop(k.idx(0), k.idx(rows * group * stride()), lanes,
           [&](Value i) { k.storeVector(accumulated, i, k.splatF(0)); });
    return {range[0], range[1], range[2], range[3]};
  }

  /// m' = max(m, m_j), a = 2^(m - m'), c = 2^(m_j - m'), l = fma(l, a, l_j c): lanes are pairs.
  void weigh() {
    for (int64_t i = 0; i < padded; i += lanes) {
      Value at = k.idx(i);
      Value m = k.loadVector(runningMax, at), mj = k.loadVector(block.maxima, at);
      Value next = k.fmax(m, mj);
      Value a = k.exp2OfNegative(k.fsub(m, next)), c = k.exp2OfNegative(k.fsub(mj, next));
      Value l = k.fma(k.loadVector(runningSum, at), a, k.fmul(k.loadVector(block.sums, at), c));
      k.storeVector(runningMax, at, next);
      k.storeVector(runningSum, at, l);
      k.storeVector(keep, at, a);
      k.storeVector(take, at, c);
    }
  }

  /// o = fma(o, a, o_j c)
  void accumulate(Value pair, Value column, Value o) {
    int64_t n = cast<VectorType>(o.getType()).getNumElements();
    Value at = k.add(column, k.mul(pair, stride()));
    Value a = k.splat(k.load(keep, pair), n), c = k.splat(k.load(take, pair), n);
    k.storeVector(accumulated, at, k.fma(k.loadVector(accumulated, at, n), a, k.fmul(o, c)));
  }

  void finish(Value firstRow, Value count, Value kvHead) {
    Buffer out = k.operand(4, k.f32);
    k.loop(k.idx(0), count, 1, [&](Value i) {
      k.loop(k.idx(0), k.idx(group), 1, [&](Value g) {
        Value pair = k.add(k.mul(i, group), g);
        Value sum = k.load(runningSum, pair);
        Value column = k.mul(k.add(k.mul(kvHead, group), g), k.spec.headDim);
        Value to = k.add(k.mul(k.add(firstRow, i), k.spec.outStride), column);
        Value from = k.mul(pair, stride());
        for (Piece piece : pieces(k.spec.headDim)) {
          Value o = k.loadVector(accumulated, k.add(from, piece.first), piece.n);
          o = k.fadd(o, k.splatF(0, piece.n));
          k.storeVector(out, k.add(to, piece.first), k.fdiv(o, k.splat(sum, piece.n)));
        }
      });
    });
  }
};

/// How the run of equal slots around a row lies within its tile.
struct Run {
  Value first, count;
};

Run runAround(KernelBuilder &k, RowPlaces &places, Value row, Value tileFirst, Value tileEnd) {
  Value slot = places.slot(row);
  auto extend = [&](Value begin, Value end, auto rowOf) {
    Value going = arith::ConstantOp::create(k.b, k.b.getBoolAttr(true));
    return k.loop(begin, end, 1, {k.idx(0), going}, [&](Value i, ValueRange carried) -> Values {
      Value same =
          arith::CmpIOp::create(k.b, arith::CmpIPredicate::eq, places.slot(rowOf(i)), slot);
      Value still = k.iand(carried[1], same);
      return {k.select(still, k.add(carried[0], 1), carried[0]), still};
    })[0];
  };
  Value before = extend(tileFirst, row, [&](Value i) { // downwards from row - 1
    return k.sub(k.add(tileFirst, k.sub(row, i)), k.idx(1));
  });
  Value after = extend(k.add(row, 1), tileEnd, [&](Value i) { return i; });
  return {k.sub(row, before), k.add(k.add(before, after), 1)};
}

} // namespace

void emitAttentionMany(KernelBuilder &k) {
  const int64_t group = k.spec.heads / k.spec.kvHeads;
  const int64_t tileRowCount = std::clamp<int64_t>(pairsOfTile / group, 1, 16);
  CacheView cache(k, 1, 2);
  RowPlaces places(k, 3);
  RowTile single(k, cache, places, 1);
  Value rows = k.rowCount(), tiles = k.ceilDiv(rows, tileRowCount);
  Value thread = k.field(format::FieldThread), threads = k.field(format::FieldThreads);

  auto mineOnly = [&](Value turn, const std::function<void()> &body) {
    Value mine = arith::CmpIOp::create(k.b, arith::CmpIPredicate::eq, k.rem(turn, threads), thread);
    k.ifThen(mine, body);
  };
  if (tileRowCount == 1) {
    k.loop(k.idx(0), k.mul(rows, k.spec.kvHeads), 1, [&](Value item) {
      mineOnly(item, [&] { single.emit(k.rem(item, rows), k.idx(1), k.div(item, rows)); });
    });
    return;
  }
  RowTile together(k, cache, places, tileRowCount);
  // Turn = tile + row within the tile: runs and single rows alike go round the threads.
  k.loop(k.idx(0), k.mul(tiles, k.spec.kvHeads), 1, [&](Value item) {
    Value kvHead = k.div(item, tiles), first = k.mul(k.rem(item, tiles), tileRowCount);
    Value end = k.min(k.add(first, tileRowCount), rows);
    k.loop(first, end, 1, [&](Value row) {
      mineOnly(k.add(item, k.sub(row, first)), [&] {
        Run run = runAround(k, places, row, first, end);
        k.ifElse(
            k.less(k.mul(run.count, 2), k.idx(tileRowCount)), {},
            [&]() -> Values {
              single.emit(row, k.idx(1), kvHead);
              return {};
            },
            [&]() -> Values {
              Value leads = arith::CmpIOp::create(k.b, arith::CmpIPredicate::eq, row, run.first);
              k.ifThen(leads, [&] { together.emit(row, run.count, kvHead); });
              return {};
            });
      });
    });
  });
}

} // namespace smelt
