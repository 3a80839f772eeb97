// AttentionOne and AttentionMerge: attention of a single row, cut into blocks of positions so that
// all threads have a share.
//
// AttentionOne: p0 float q (heads * headDim, already rotated), p1 key cache, p2 value cache, p3
// int32 positions[maxTokens], slots[maxTokens], p4 partials out (layout.h),
// p5 float slopes of the query heads if the spec has them. One item is one block
// of one kv head, for all its query heads.
//
// AttentionOne that appends: p0 float q, p1 float k and, from firstIndex on, v, p2 partials out, p3
// rotary table (without rotation: slopes), p4 head norm weights, p5 key cache, p6 value cache, p7
// positions and slots, as RopeAppend's.
//
// AttentionMerge: p0 partials, p1 positions and slots, p2 float out [heads * headDim], or
// activations of spec.result. Blocks in
// order from the first visible one, starting at m = -inf, l = 0, o = 0 (Milakov and Gimelshein
// 2018):
//   m' = max(m, m_j), a = 2^(m - m'), c = 2^(m_j - m'), l = fma(l, a, l_j c), o = fma(o, a, o_j c)
//   out = (o + 0) / l
#include "passes/lower/kernels/attention_block.h"
#include "passes/lower/kernels/rope_append.h"
#include "passes/lower/kernels/rows.h"

#include <limits>

using namespace mlir;

namespace smelt {

namespace {

/// Which operand is what.
struct Operands {
  int partials, keys, values, places, slopes;
};
constexpr Operands readingOperands{4, 1, 2, 3, 5}, appendingOperands{2, 5, 6, 7, 3};

/// Blocks [first, last] that hold a position of the range.
std::pair<Value, Value> visibleBlocks(KernelBuilder &k, PositionRange range) {
  return {k.div(range.first, attentionBlock), k.div(range.last, attentionBlock)};
}

} // namespace

void emitAttentionOne(KernelBuilder &k) {
  const int64_t group = k.spec.heads / k.spec.kvHeads;
  const Operands at = k.spec.appends ? appendingOperands : readingOperands;
  CacheView cache(k, at.keys, at.values);
  AttentionBlock tile(k, cache, group);
  Buffer queries = k.operand(0, k.f32), partials = k.operand(at.partials, k.f32);
  RowPlaces places(k, at.places);
  std::optional<HeadSteps> steps;
  Buffer turned;
  if (k.spec.appends) {
    steps = headSteps(k);
    turned = k.scratch(k.spec.headDim, k.f32);
  }
  PositionRange range = places.visible(k.idx(0));
  Value slot = places.slot(k.idx(0));
  auto [firstBlock, lastBlock] = visibleBlocks(k, range);
  Value blocks = k.add(k.sub(lastBlock, firstBlock), 1);
  for (int64_t g = 0; g < group; ++g)
    tile.setVisible(k.idx(g), range);

  auto [begin, end] = k.threadShare(k.mul(blocks, k.spec.kvHeads));
  // Blocks of one head follow each other: its queries stay.
  Value none = k.idx(k.spec.kvHeads);
  k.loop(begin, end, 1, {none}, [&](Value item, ValueRange carried) -> Values {
    Value kvHead = k.div(item, blocks), block = k.add(firstBlock, k.rem(item, blocks));
    Value start = k.mul(block, attentionBlock), firstHead = k.mul(kvHead, group);
    Value isNew = arith::CmpIOp::create(k.b, arith::CmpIPredicate::ne, kvHead, carried[0]);
    k.ifThen(isNew, [&] {
      k.loop(k.idx(0), k.idx(group), 1, [&](Value g) {
        Value queryHead = k.add(firstHead, g);
        if (steps) {
          steps->query(queryHead, turned, k.idx(0));
          tile.setQuery(g, turned, k.idx(0));
        } else {
          tile.setQuery(g, queries, k.mul(queryHead, k.spec.headDim));
        }
        if (k.spec.slopes)
          tile.setSlope(g, k.operand(at.slopes, k.f32), queryHead);
      });
    });
    if (steps) // of all blocks only the last needs what is appended
      k.ifThen(k.lessEqual(lastBlock, block), [&] { steps->append(kvHead); });
    Value head = cache.head(slot, kvHead);
    Value count = k.min(k.add(k.sub(range.last, start), 1), k.idx(attentionBlock));
    tile.scores(head, start, count);
    Value isWhole = k.iand(k.lessEqual(range.first, start),
                           k.lessEqual(k.add(start, attentionBlock - 1), range.last));
    tile.softmax(head, start, isWhole);
    for (int64_t g = 0; g < group; ++g) {
      Value to = partialOf(k, k.spec, k.add(firstHead, g), block);
      k.store(partials, to, k.load(tile.maxima, k.idx(g)));
      k.store(partials, k.add(to, 1), k.load(tile.sums, k.idx(g)));
    }
    tile.values(head, start, k.idx(0), count, [&](Value g, Value column, Value o) {
      Value to = k.add(partialOf(k, k.spec, k.add(firstHead, g), block), lanes);
      k.storeVector(partials, k.add(to, column), o);
    });
    return {kvHead};
  });
}

namespace {

/// Merges the partial results of one head for a few vectors of dimensions.
class Merge {
public:
  Merge(KernelBuilder &k)
      : k(k), partials(k.operand(0, k.f32)), before(k.scratch(lanes, k.f32)),
        after(k.scratch(lanes, k.f32)), blockMax(k.scratch(lanes, k.f32)),
        keep(k.scratch(lanes, k.f32)), take(k.scratch(lanes, k.f32)) {
    // Lanes beyond the last block are computed too, never used; they shall not be wild.
    for (Buffer buffer : {before, after, blockMax})
      k.storeVector(buffer, k.idx(0), k.splatF(0));
  }

  /// l, then the vectors of o of the columns in `columns`, over blocks [first, end).
  Values emit(Value head, Value first, Value end, ArrayRef<Piece> columns, Value column) {
    Values state{k.f32Const(-std::numeric_limits<double>::infinity()), k.f32Const(0)};
    for (Piece piece : columns)
      state.push_back(k.splatF(0, piece.n));
    state = k.loop(first, end, lanes, state, [&](Value block, ValueRange carried) {
      Value count = k.min(k.sub(end, block), k.idx(lanes));
      Value from = partialOf(k, k.spec, head, block);
      Value most = weigh(from, count, carried[0]);
      Values sums(carried.drop_front());
      sums = k.loop(k.idx(0), count, 1, sums, [&](Value j, ValueRange running) {
        return step(k.add(from, k.mul(j, partialStride(k.spec.headDim))), j, columns, column,
                    running);
      });
      sums.insert(sums.begin(), most);
      return sums;
    });
    return Values(llvm::drop_begin(state));
  }

private:
  KernelBuilder &k;
  Buffer partials, before, after, blockMax, keep, take;

  /// The factors of up to 16 blocks: the running maximum is a short chain, the exponentials go 16
  /// at a time.
  Value weigh(Value from, Value count, Value most) {
    most = k.loop(k.idx(0), count, 1, most, [&](Value j, ValueRange carried) -> Values {
      Value m = k.load(partials, k.add(from, k.mul(j, partialStride(k.spec.headDim))));
      Value next = k.fmax(carried[0], m);
      k.store(before, j, carried[0]);
      k.store(after, j, next);
      k.store(blockMax, j, m);
      return {next};
    })[0];
    Value zero = k.idx(0), to = k.loadVector(after, zero);
    k.storeVector(keep, zero, k.exp2OfNegative(k.fsub(k.loadVector(before, zero), to)));
    k.storeVector(take, zero, k.exp2OfNegative(k.fsub(k.loadVector(blockMax, zero), to)));
    return most;
  }

  Values step(Value from, Value j, ArrayRef<Piece> columns, Value column, ValueRange running) {
    Value a = k.load(keep, j), c = k.load(take, j);
    Values next{k.fma(running[0], a, k.fmul(k.load(partials, k.add(from, 1)), c))};
    for (auto [i, piece] : llvm::enumerate(columns)) {
      Value at = k.add(k.add(from, lanes + piece.first), column);
      Value o = k.loadVector(partials, at, piece.n);
      next.push_back(k.fma(running[1 + i], k.splat(a, piece.n), k.fmul(o, k.splat(c, piece.n))));
    }
    return next;
  }
};

} // namespace

void emitAttentionMerge(KernelBuilder &k) {
  const int64_t headDim = k.spec.headDim;
  Merge merge(k);
  Buffer out = k.operand(2, k.spec.result ? k.i8 : k.f32);
  RowPlaces places(k, 1);
  auto [firstBlock, lastBlock] = visibleBlocks(k, places.visible(k.idx(0)));
  Value endBlock = k.add(lastBlock, 1);
  Value zero = k.f32Const(0);
  auto columnsOf = [&](Value head, ArrayRef<Piece> columns, Value column) {
    Values merged = merge.emit(head, firstBlock, endBlock, columns, column);
    Values results;
    for (auto [i, piece] : llvm::enumerate(columns)) {
      Value o = k.fadd(merged[1 + i], k.splat(zero, piece.n));
      results.push_back(k.fdiv(o, k.splat(merged[0], piece.n)));
    }
    Value first = k.add(k.mul(head, headDim), column);
    if (!k.spec.result) {
      for (auto [i, piece] : llvm::enumerate(columns))
        k.storeVector(out, k.add(first, piece.first), results[i]);
      return;
    }
    const auto together = size_t(inputsWrittenTogether(*k.spec.result) / lanes);
    for (size_t i = 0; i < results.size(); i += together)
      writeResults(k, out, k.spec.heads * headDim, k.add(first, columns[i].first),
                   ArrayRef(results).slice(i, together));
  };
  // One item is 64 dimensions of one head, so that few large heads still fill the threads.
  constexpr int64_t unit = 4 * lanes;
  const int64_t whole = headDim / unit, units = roundUp(headDim, unit) / unit;
  auto [begin, end] = k.threadShare(k.idx(k.spec.heads * units));
  k.loop(begin, end, 1, [&](Value item) {
    Value head = k.div(item, units), u = k.rem(item, units);
    k.ifThen(k.less(u, k.idx(whole)), [&] { columnsOf(head, pieces(unit), k.mul(u, unit)); });
    if (whole != units)
      k.ifThen(k.lessEqual(k.idx(whole), u),
               [&] { columnsOf(head, pieces(headDim - whole * unit), k.idx(whole * unit)); });
  });
}

} // namespace smelt
