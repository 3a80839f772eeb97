// Attention of many rows by mma.sync, on a cache of bytes: products of queries and keys, and of
// weights and values, are exact integers, and all else is done in the order of attention.cpp, so
// that one row has the same bits. Warps share nothing but what the first-level cache holds.
//
// Fragments (linear_tiles.cpp): with lane = 4 group + i, a thread has the scores of pairs `group`
// and `group` + 8 for positions 2i and 2i + 1 of every eight, and of their results dimensions 2i
// and 2i + 1 of every eight.
#include "passes/lower/gpu_kernels/attention_tiles.h"

#include "passes/lower/gpu_kernels/attention.h"
#include "passes/lower/gpu_kernels/attention_softmax.h"
#include "passes/lower/gpu_kernels/cache_words.h"

#include <array>
#include <cfloat>
#include <limits>

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t rowsOfThread = 2, columnsOfThread = 2, sumsOfThread = 4, laneGroup = 4;
constexpr int64_t tileColumns = 8, positionTiles = attentionBlock / tileColumns;
constexpr int64_t stepInputs = 32, weightSteps = attentionBlock / stepInputs;
constexpr int32_t signBits = int32_t(0x80808080); ///< codes of the cache have an offset of 128

class AttentionTile {
public:
  /// `firstToken`: of the warp, which is there.
  AttentionTile(GpuBuilder &k, Value firstToken)
      : k(k), tiles(k.spec), dims(k.spec.headDim), places(k, 3), firstToken(firstToken) {
    Value lane = k.rem(k.thread(), k.target.subgroup);
    group = k.div(lane, laneGroup), inGroup = k.rem(lane, laneGroup);
    isOdd = k.isEqual(k.rem(inGroup, 2), k.idx(1));
    Value part = k.div(k.group(), tiles.dimParts);
    firstDim = k.mul(k.rem(k.group(), tiles.dimParts), AttentionTiles::mostDims);
    kvHead = k.div(part, tiles.headParts);
    Value headPart = k.rem(part, tiles.headParts);
    for (int64_t r = 0; r < rowsOfThread; ++r)
      rows[size_t(r)] = rowOf(k.add(group, r * tileColumns), headPart);
    readQueries();
  }

  void emit() {
    Values state;
    for (int64_t r = 0; r < rowsOfThread; ++r) {
      state.append({noMaximum(k), k.f32Const(0)});
      state.append(size_t(outs()), k.f32Const(0));
    }
    // Tokens of one slot see the same keys. A slot's blocks are gone through where its first token
    // is met, and change nothing of the others.
    state = k.loop(k.idx(0), k.idx(tiles.tokens), 1, state,
                   [&](Value token, ValueRange carried) { return overSlot(token, carried); });
    for (int64_t r = 0; r < rowsOfThread; ++r)
      store(rows[size_t(r)], ValueRange(state).slice(size_t(r * each()), size_t(each())));
  }

private:
  struct Row {
    Value token, head, slot, position; ///< indices
    Value first, last;                 ///< visible positions
    Value local;                       ///< which token of the tile
    Value isThere;
    Value slope; ///< null: none
  };
  GpuBuilder &k;
  const AttentionTiles tiles;
  const int64_t dims;
  PlaceWords places;
  Value firstToken, group, inGroup, isOdd, firstDim, kvHead;
  std::array<Row, rowsOfThread> rows;
  SmallVector<Values> queryCodes;  ///< of each step: the four words of a fragment
  SmallVector<Values> queryScales; ///< of each step: of the two rows

  int64_t quads() const { return roundUp(dims, dotBytes) / dotBytes; }
  int64_t steps() const { return roundUp(dims, stepInputs) / stepInputs; }
  int64_t dimTiles() const {
    return roundUp(std::min(dims, AttentionTiles::mostDims), tileColumns) / tileColumns;
  }
  int64_t outs() const { return dimTiles() * columnsOfThread; } ///< of a row
  int64_t each() const { return 2 + outs(); } ///< state of a row: maximum, sum, results

  Value toWord(Value index) { return arith::IndexCastOp::create(k.b, k.i32, index); }

  Row rowOf(Value pair, Value headPart) {
    Row row;
    const int64_t headsOfKv = k.spec.heads / k.spec.kvHeads;
    row.local = k.min(k.div(pair, tiles.heads), k.idx(tiles.tokens - 1));
    Value token = k.add(firstToken, row.local);
    Value within = k.add(k.mul(headPart, tiles.heads), k.rem(pair, tiles.heads));
    row.isThere = k.both(
        k.both(k.less(pair, k.idx(tiles.tokens * tiles.heads)), k.less(within, k.idx(headsOfKv))),
        k.less(token, k.rowCount()));
    // Pairs that are not there repeat others.
    row.token = k.min(token, k.sub(k.rowCount(), k.idx(1)));
    row.head = k.add(k.mul(kvHead, headsOfKv), k.min(within, k.idx(headsOfKv - 1)));
    row.slot = places.slot(row.token), row.position = places.position(row.token);
    const PositionRange range = places.visible(row.token);
    row.first = range.first, row.last = range.last;
    if (k.spec.slopes)
      row.slope = k.number(k.operand(5), row.head);
    return row;
  }

  /// A thread takes eight dimensions of each step, for both of its rows.
  void readQueries() {
    for (int64_t step = 0; step < steps(); ++step) {
      SmallVector<Values> words;
      Values scales;
      for (const Row &row : rows) {
        Value start = k.add(k.mul(row.token, k.spec.inStride), k.mul(row.head, dims));
        Values x;
        Value most = k.f32Const(0);
        for (int64_t i = 0; i < 2 * dotBytes; ++i) {
          Value d = k.add(k.mul(inGroup, 2 * dotBytes), step * stepInputs + i);
          x.push_back(dims % stepInputs ? elementBelow(start, d)
                                        : k.number(k.operand(0), k.add(start, d)));
          most = k.fmax(k.fabs(x.back()), most);
        }
        most = k.reduceOne(most, laneGroup, [&](Value a, Value c) { return k.fmax(a, c); });
        const QueryScale scale = queryScale(k, most);
        Values codes;
        for (Value v : x)
          codes.push_back(scale.codeOf(k, v));
        words.push_back({k.packBytes(ValueRange(codes).take_front(dotBytes)),
                         k.packBytes(ValueRange(codes).drop_front(dotBytes))});
        scales.push_back(scale.scale);
      }
      queryCodes.push_back({words[0][0], words[1][0], words[0][1], words[1][1]});
      queryScales.push_back(scales);
    }
  }
  Value elementBelow(Value start, Value d) {
    Value x = k.number(k.operand(0), k.add(start, k.min(d, k.idx(dims - 1))));
    return k.select(k.less(d, k.idx(dims)), x, k.f32Const(0));
  }

  /// All blocks of the slot of token `token` of the tile, if it is the slot's first there.
  Values overSlot(Value token, ValueRange state) {
    constexpr int64_t none = std::numeric_limits<int32_t>::max();
    Value own = k.min(k.add(firstToken, token), k.sub(k.rowCount(), k.idx(1)));
    Value slot = places.slot(own);
    Value first = k.i32Const(none), last = k.i32Const(-1), local = k.i32Const(none);
    auto lower = [&](Value a, Value c) {
      return k.select(k.is(arith::CmpIPredicate::slt, a, c), a, c);
    };
    auto higher = [&](Value a, Value c) {
      return k.select(k.is(arith::CmpIPredicate::sgt, a, c), a, c);
    };
    SmallVector<PositionRange, rowsOfThread> seen;
    for (const Row &row : rows) {
      Value isOf = k.isEqual(row.slot, slot);
      first = k.select(isOf, lower(first, toWord(row.first)), first);
      last = k.select(isOf, higher(last, toWord(row.last)), last);
      local = k.select(isOf, lower(local, toWord(row.local)), local);
      seen.push_back({k.select(isOf, row.first, k.idx(1)), k.select(isOf, row.last, k.idx(0))});
    }
    first = k.reduceOne(first, k.target.subgroup, lower);
    last = k.reduceOne(last, k.target.subgroup, higher);
    local = k.reduceOne(local, k.target.subgroup, lower);
    Value isMet = k.isEqual(k.toIndex(local), token);
    Value begin = k.div(k.toIndex(first), attentionBlock);
    Value end = k.select(isMet, k.add(k.div(k.toIndex(last), attentionBlock), 1), k.idx(0));
    Value head = CacheWords::head(k, slot, kvHead);
    CacheWords keys(k, 1, true, head), values(k, 2, false, head);
    return k.loop(k.min(begin, end), end, 1, state, [&](Value block, ValueRange carried) {
      return overBlock(keys, values, seen, k.mul(block, attentionBlock), carried);
    });
  }

  Values overBlock(CacheWords &keys, CacheWords &values, ArrayRef<PositionRange> seen, Value start,
                   ValueRange state) {
    Values scores; // [positionTiles][sumsOfThread]
    for (int64_t tile = 0; tile < positionTiles; ++tile)
      scores.append(scoresOf(keys, k.add(start, tile * tileColumns)));
    SmallVector<ValueScale> scales; // of every position of this thread
    for (int64_t tile = 0; tile < positionTiles; ++tile) {
      auto both = values.scalePair(positionAt(start, tile * columnsOfThread), k.idx(0));
      for (Value scale : {both.first, both.second})
        scales.push_back(valueScale(k, scale));
    }
    std::array<Running, rowsOfThread> parts;
    SmallVector<Values> codes; // of both rows: of every position of this thread
    for (size_t r = 0; r < rowsOfThread; ++r)
      codes.push_back(weigh(r, seen[r], start, scores, scales, parts[r]));
    multiply(values, start, fragmentsOf(codes), parts);
    Values next;
    for (size_t r = 0; r < rowsOfThread; ++r) {
      ValueRange mine = state.slice(r * size_t(each()), size_t(each()));
      const Running after = merged(k, {mine[0], mine[1], Values(mine.drop_front(2))}, parts[r]);
      next.append({after.most, after.sum});
      next.append(after.out);
    }
    return next;
  }

  /// Of the eight positions from `start`, before scaling.
  Values scoresOf(CacheWords &keys, Value start) {
    Values sums(sumsOfThread, k.f32Const(0));
    for (int64_t step = 0; step < steps(); ++step) {
      Values words;
      for (int64_t i = 0; i < 2; ++i) {
        // Queries are zero beyond the dimensions.
        Value quad = k.add(k.mul(inGroup, 2), step * stepInputs / dotBytes + i);
        if (quads() % (stepInputs / dotBytes))
          quad = k.min(quad, k.idx(quads() - 1));
        words.push_back(k.ixor(keys.keyWord(k.add(start, group), quad), k.i32Const(signBits)));
      }
      const Values dots = k.addTileProduct(Values(sumsOfThread, k.i32Const(0)),
                                           queryCodes[size_t(step)], true, words);
      auto scales = keys.scalePair(k.add(start, k.mul(inGroup, columnsOfThread)), k.idx(step));
      for (size_t i = 0; i < sumsOfThread; ++i) {
        Value scale = i % columnsOfThread ? scales.second : scales.first;
        Value own = queryScales[size_t(step)][i / columnsOfThread];
        sums[i] = k.fma(k.toFloat(dots[i]), k.fmul(scale, own), sums[i]);
      }
    }
    return sums;
  }

  /// Maximum and sum of row `r`, and the codes of its weights.
  Values weigh(size_t r, const PositionRange &seen, Value start, const Values &scores,
               ArrayRef<ValueScale> scales, Running &part) {
    const Row &row = rows[r];
    Values s, isVisible, sums, codes;
    for (size_t i = 0; i < scales.size(); ++i) {
      Value t = positionAt(start, int64_t(i));
      isVisible.push_back(k.both(k.lessEqual(seen.first, t), k.lessEqual(t, seen.last)));
      Value raw =
          scores[i / columnsOfThread * sumsOfThread + r * columnsOfThread + i % columnsOfThread];
      Value score = finishedScore(k, raw, t, row.position, row.slope);
      s.push_back(k.select(isVisible.back(), k.fadd(score, scales[i].log), k.f32Const(-FLT_MAX)));
      part.most = i ? k.fmax(part.most, s.back()) : s.back();
    }
    part.most = k.reduceOne(part.most, laneGroup, [&](Value a, Value c) { return k.fmax(a, c); });
    for (size_t i = 0; i < s.size(); ++i) {
      Value w = weightOf(k, s[i], part.most, &scales[i]);
      w = k.select(isVisible[i], w, k.f32Const(0));
      sums.push_back(k.fmul(w, scales[i].inverse));
      codes.push_back(weightCode(k, w));
    }
    part.sum = sumOf(sums);
    return codes;
  }
  Value positionAt(Value start, int64_t i) {
    Value within = k.add(k.mul(inGroup, columnsOfThread),
                         i / columnsOfThread * tileColumns + i % columnsOfThread);
    return k.add(start, within);
  }

  /// Neighbours first, as 64 threads with a position each add (GpuBuilder::reduce).
  Value sumOf(const Values &p) {
    auto add = [&](Value a, Value c) { return k.fadd(a, c); };
    Values sums;
    for (size_t i = 0; i < p.size(); i += columnsOfThread)
      sums.push_back(k.fadd(p[i], p[i + 1]));
    sums = k.reduce(sums, laneGroup, add);
    for (size_t n = sums.size(); n > 1; n /= 2)
      for (size_t i = 0; i < n / 2; ++i)
        sums[i] = k.fadd(sums[2 * i], sums[2 * i + 1]);
    return sums[0];
  }

  /// Fragments of the weights for each step of 32 positions. Of two tiles, threads with even
  /// `inGroup` take the four positions of their pair of threads in the first, the others in the
  /// second.
  std::array<Values, weightSteps> fragmentsOf(ArrayRef<Values> codes) {
    std::array<Values, weightSteps> fragments;
    // Two positions of both rows: a word.
    auto together = [&](size_t tile) {
      Values pairs;
      for (const Values &row : codes)
        pairs.push_back(k.permuteBytes(row[2 * tile], row[2 * tile + 1], k.i32Const(0x0040)));
      return k.permuteBytes(pairs[0], pairs[1], k.i32Const(0x5410));
    };
    for (size_t step = 0; step < weightSteps; ++step)
      for (size_t tile = 4 * step; tile < 4 * step + 4; tile += 2) {
        Value even = together(tile), odd = together(tile + 1);
        Value given = k.exchanged({k.select(isOdd, even, odd)}, 1)[0];
        Value first = k.select(isOdd, given, even), second = k.select(isOdd, odd, given);
        for (int64_t places : {0x5410, 0x7632})
          fragments[step].push_back(k.permuteBytes(first, second, k.i32Const(places)));
      }
    return fragments;
  }

  /// The results of the block.
  void multiply(CacheWords &values, Value start, ArrayRef<Values> fragments,
                std::array<Running, rowsOfThread> &parts) {
    Value firstQuad =
        k.add(k.div(start, dotBytes), k.add(k.mul(k.rem(inGroup, 2), 2), k.div(inGroup, 2)));
    for (int64_t tile = 0; tile < dimTiles(); ++tile) {
      Value d = k.add(k.add(firstDim, group), tile * tileColumns);
      if (dims % (dimTiles() * tileColumns))
        d = k.min(d, k.idx(dims - 1));
      Values sums(sumsOfThread, k.i32Const(0));
      for (int64_t step = 0; step < weightSteps; ++step) {
        Values words;
        for (int64_t i = 0; i < 2; ++i) {
          Value quad = k.add(firstQuad, (2 * step + i) * 2 * tileColumns / dotBytes);
          words.push_back(k.ixor(values.valueWord(quad, d), k.i32Const(signBits)));
        }
        sums = k.addTileProduct(sums, fragments[size_t(step)], false, words);
      }
      for (size_t i = 0; i < sumsOfThread; ++i)
        parts[i / columnsOfThread].out.push_back(k.toFloat(sums[i]));
    }
  }

  void store(const Row &row, ValueRange state) {
    k.ifThen(row.isThere, [&] {
      Value start = k.add(k.mul(row.token, k.spec.outStride), k.mul(row.head, dims));
      for (int64_t i = 0; i < outs(); ++i) {
        Value within = k.add(k.mul(inGroup, columnsOfThread),
                             i / columnsOfThread * tileColumns + i % columnsOfThread);
        Value d = k.add(firstDim, within);
        auto write = [&] {
          k.setNumber(k.operand(4), k.add(start, d), k.fdiv(state[size_t(2 + i)], state[1]));
        };
        if (dims % (dimTiles() * tileColumns))
          k.ifThen(k.less(d, k.idx(dims)), write);
        else
          write();
      }
    });
  }
};

} // namespace

void emitGpuAttentionTiles(GpuBuilder &k) {
  const AttentionTiles tiles(k.spec);
  Value warp = k.div(k.thread(), k.target.subgroup);
  Value firstToken = k.add(k.mul(k.rowGroup(), k.launch.rowsPerGroup), k.mul(warp, tiles.tokens));
  k.ifThen(k.less(firstToken, k.rowCount()), [&] { AttentionTile(k, firstToken).emit(); });
}

} // namespace smelt
