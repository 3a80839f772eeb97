// AttentionMany: whole attention of many rows of any slots and positions.
//
// Operands: p0 float q [.][inStride], p1 key cache, p2 value cache, p3 int32 positions[maxTokens],
// slots[maxTokens], p4 float out [.][outStride], p5 float slopes of the query heads if the spec has
// them. The same bits as AttentionOne and AttentionMerge give row by row.
//
// A few neighbouring rows of one slot form a run, as many as a tile has. A run that fills most of a
// tile is computed together (keys and values are then loaded once for all its rows and heads),
// shorter ones row by row. Threads share (head x length), not rows: slots may be of very different
// lengths.
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
    PositionRange any = places.visible(firstRow);
    Values range =
        k.loop(k.idx(0), k.idx(rows), 1, {any.first, any.last, any.first, any.last},
               [&](Value i, ValueRange carried) -> Values {
                 Value row = k.min(k.add(firstRow, i), lastRow);
                 PositionRange seen = places.visible(row);
                 k.loop(k.idx(0), k.idx(group), 1, [&](Value g) {
                   Value pair = k.add(k.mul(i, group), g);
                   Value column = k.mul(k.add(k.mul(kvHead, group), g), k.spec.headDim);
                   block.setQuery(pair, queries, k.add(k.mul(row, k.inStride()), column));
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
        Value to = k.add(k.mul(k.add(firstRow, i), k.outStride()), column);
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

/// Runs of up to a tile's rows of one slot, with the work that each is: blocks of positions times
/// rows that are computed.
class Runs {
public:
  Runs(KernelBuilder &k, RowPlaces &places, int64_t tileRowCount)
      : k(k), places(places), tileRowCount(tileRowCount), rows(k.rowCount()) {}

  struct Run {
    Value first, count, blocks;
    Value together; ///< whether its rows are computed together
    Value work;
  };
  /// Calls `body(run, work before it)` for every run; returns the work of all, counted from
  /// `start`.
  Value forEach(Value start, const std::function<void(const Run &, Value)> &body) {
    Values state{k.idx(0), start}; // where the next run begins
    return k.loop(k.idx(0), rows, 1, state, [&](Value row, ValueRange next) -> Values {
      Value begins = arith::CmpIOp::create(k.b, arith::CmpIPredicate::eq, row, next[0]);
      return k.ifElse(
          begins, {k.index, k.index},
          [&]() -> Values {
            Run run = runFrom(row, k.min(k.add(row, tileRowCount), rows));
            body(run, next[1]);
            return {k.add(row, run.count), k.add(next[1], run.work)};
          },
          [&]() -> Values { return Values(next); });
    })[1];
  }

private:
  KernelBuilder &k;
  RowPlaces &places;
  const int64_t tileRowCount;
  Value rows;

  Run runFrom(Value row, Value end) {
    Value slot = places.slot(row), going = arith::ConstantOp::create(k.b, k.b.getBoolAttr(true));
    Run run;
    run.first = row;
    run.count = k.add(k.loop(k.add(row, 1), end, 1, {k.idx(0), going},
                             [&](Value i, ValueRange carried) -> Values {
                               Value same = arith::CmpIOp::create(k.b, arith::CmpIPredicate::eq,
                                                                  places.slot(i), slot);
                               Value still = k.iand(carried[1], same);
                               Value more = k.add(carried[0], 1);
                               return {k.select(still, more, carried[0]), still};
                             })[0],
                      1);
    PositionRange low = places.visible(row);
    PositionRange high = places.visible(k.sub(k.add(row, run.count), k.idx(1)));
    Value firstBlock = k.div(low.first, attentionBlock),
          lastBlock = k.div(high.last, attentionBlock);
    run.blocks = k.add(k.sub(lastBlock, firstBlock), 1);
    // By itself a row of g heads takes about (g + 1) / g of its share of a tile.
    const int64_t group = k.spec.heads / k.spec.kvHeads;
    run.together = k.less(k.idx(tileRowCount * group), k.mul(run.count, group + 1));
    run.work = k.mul(run.blocks, k.select(run.together, k.idx(tileRowCount), run.count));
    return run;
  }
};

} // namespace

void emitAttentionMany(KernelBuilder &k) {
  const int64_t group = k.spec.heads / k.spec.kvHeads;
  const int64_t tileRowCount = std::clamp<int64_t>(pairsOfTile / group, 1, 16);
  CacheView cache(k, 1, 2);
  RowPlaces places(k, 3);
  RowTile single(k, cache, places, 1);
  std::optional<RowTile> together;
  if (tileRowCount > 1)
    together.emplace(k, cache, places, tileRowCount);

  // All work lies in a row, head after head, and every thread takes an equal length of it: what
  // has its middle there. Neighbours are of one head, whose keys and values this thread may have
  // written.
  Runs runs(k, places, tileRowCount);
  Value ofHead = runs.forEach(k.idx(0), [](const Runs::Run &, Value) {});
  auto [begin, end] = k.threadShare(k.mul(ofHead, k.spec.kvHeads));
  Value twiceBegin = k.mul(begin, 2), twiceEnd = k.mul(end, 2);
  auto ifMine = [&](Value before, Value work, const std::function<void()> &body) {
    Value middle = k.add(k.mul(before, 2), work);
    k.ifThen(k.iand(k.lessEqual(twiceBegin, middle), k.less(middle, twiceEnd)), body);
  };
  Value endHead = k.add(k.div(k.sub(k.max(end, k.idx(1)), k.idx(1)), ofHead), 1);
  k.loop(k.div(begin, ofHead), endHead, 1, [&](Value kvHead) {
    runs.forEach(k.mul(kvHead, ofHead), [&](const Runs::Run &run, Value before) {
      k.ifElse(
          run.together, {},
          [&]() -> Values {
            ifMine(before, run.work,
                   [&] { (together ? *together : single).emit(run.first, run.count, kvHead); });
            return {};
          },
          [&]() -> Values {
            k.loop(k.idx(0), run.count, 1, [&](Value i) {
              Value row = k.add(run.first, i);
              ifMine(k.add(before, k.mul(i, run.blocks)), run.blocks,
                     [&] { single.emit(row, k.idx(1), kvHead); });
            });
            return {};
          });
    });
  });
}

} // namespace smelt
