// Attention on a GPU: a workgroup takes some query heads of one kv head of a row, a thread one
// position of a block of 64 (scores), then a few dimensions (values). Operands:
// kernels/attention.cpp, kernels/attention_many.cpp; formulas: kernels/attention_block.h. One row
// and many give the same bits, by tiles (attention_tiles.cpp), too.
#include "passes/lower/gpu_kernels/attention.h"

#include "passes/lower/gpu_kernels/attention_softmax.h"
#include "passes/lower/gpu_kernels/attention_tiles.h"
#include "passes/lower/gpu_kernels/cache_words.h"

#include <cfloat>

using namespace mlir;

namespace smelt {

namespace {

/// The query heads of the workgroup against one block of positions after another.
class HeadTile {
public:
  HeadTile(GpuBuilder &k, Value row)
      : k(k), dims(k.spec.headDim), group(k.spec.heads / k.spec.kvHeads),
        pairs(pairsTogether(k.spec)), slots((dims + attentionBlock - 1) / attentionBlock),
        places(k, 3), kvHead(k.div(k.group(), pairGroups(k.spec))),
        cacheHead(CacheWords::head(k, places.slot(row), kvHead)), keys(k, 1, true, cacheHead),
        values(k, 2, false, cacheHead), position(places.position(row)),
        queries(k.shared(pairs * queryWords())), weights(k.shared(pairs * attentionBlock)) {
    PositionRange range = places.visible(row);
    first = range.first, last = range.last;
    Value before = k.mul(k.rem(k.group(), pairGroups(k.spec)), pairs);
    Value firstHead = k.mul(kvHead, group);
    for (int64_t g = 0; g < pairs; ++g) {
      // Heads that are not there repeat the last one.
      Value within = k.min(k.add(before, g), k.idx(group - 1));
      heads.push_back(k.add(firstHead, within));
      isThere.push_back(k.less(k.add(before, g), k.idx(group)));
    }
    stageQueries(k.mul(row, k.spec.inStride));
    k.barrier();
  }

  GpuBuilder &k;
  const int64_t dims, group, pairs, slots;
  Values heads, isThere; ///< of the pairs
  Value first, last;     ///< visible positions

  struct Block {
    Values most, sum; ///< of the pairs
    Values out;       ///< [pairs][slots]: dimension thread + 64 slot
  };
  /// Of the positions from `start`, a multiple of 64. All threads must take part.
  Block block(Value start) {
    Block result;
    Value t = k.add(start, k.thread());
    Value isVisible = k.both(k.lessEqual(first, t), k.lessEqual(t, last));
    const bool isInteger = values.bits == 8;
    ValueScale scale;
    if (isInteger)
      scale = valueScale(k, values.scale(t, k.idx(0)));
    Values scores = keys.bits == 8 ? integerScores(t) : floatScores(t);
    for (int64_t g = 0; g < pairs; ++g) {
      Value s = finished(scores[size_t(g)], t, heads[size_t(g)]);
      scores[size_t(g)] =
          k.select(isVisible, isInteger ? k.fadd(s, scale.log) : s, k.f32Const(-FLT_MAX));
    }
    result.most = k.reduce(scores, attentionBlock, [&](Value a, Value c) { return k.fmax(a, c); });
    Values sums;
    for (int64_t g = 0; g < pairs; ++g) {
      Value w =
          weightOf(k, scores[size_t(g)], result.most[size_t(g)], isInteger ? &scale : nullptr);
      w = k.select(isVisible, w, k.f32Const(0));
      sums.push_back(isInteger ? k.fmul(w, scale.inverse) : w);
      k.setWord(weights, k.add(k.thread(), g * attentionBlock),
                isInteger ? weightCode(k, w) : k.asBits(w));
    }
    result.sum = k.reduce(sums, attentionBlock, [&](Value a, Value c) { return k.fadd(a, c); });
    k.barrier();
    Value end = k.min(k.add(k.sub(last, start), 1), k.idx(attentionBlock));
    SmallVector<Values> bySlot;
    for (int64_t slot = 0; slot < slots; ++slot)
      bySlot.push_back(outOf(start, end, dimension(slot)));
    k.barrier();
    for (int64_t g = 0; g < pairs; ++g)
      for (int64_t slot = 0; slot < slots; ++slot)
        result.out.push_back(bySlot[size_t(slot)][size_t(g)]);
    return result;
  }

  /// Calls `write(pair, dimension, index in Block::out)` for the dimensions of this thread.
  void forDimensions(const std::function<void(int64_t, Value, size_t)> &write) {
    for (int64_t slot = 0; slot < slots; ++slot) {
      Value d = k.add(k.thread(), slot * attentionBlock);
      k.ifThen(k.less(d, k.idx(dims)), [&] {
        for (int64_t g = 0; g < pairs; ++g)
          k.ifThen(isThere[size_t(g)], [&] { write(g, d, size_t(g * slots + slot)); });
      });
    }
  }

private:
  PlaceWords places;
  Value kvHead, cacheHead;
  CacheWords keys, values;
  Value position;
  /// [pairs]: floats; with 8-bit keys words of four codes, then the scales of groups.
  Words queries, weights;

  int64_t quads() const { return roundUp(dims, dotBytes) / dotBytes; }
  int64_t queryGroups() const { return roundUp(dims, keyGroup) / keyGroup; }
  int64_t queryWords() const {
    return cacheInfo(k.spec.cache).keyBits == 8 ? quads() + queryGroups() : dims;
  }
  Value dimension(int64_t slot) {
    return k.min(k.add(k.thread(), slot * attentionBlock), k.idx(dims - 1));
  }

  void stageQueries(Value rowStart) {
    Words in = k.operand(0);
    for (int64_t g = 0; g < pairs; ++g) {
      Value start = k.add(rowStart, k.mul(heads[size_t(g)], dims));
      auto element = [&](Value d) {
        Value x = k.number(in, k.add(start, k.min(d, k.idx(dims - 1))));
        return k.select(k.less(d, k.idx(dims)), x, k.f32Const(0));
      };
      const int64_t to = g * queryWords();
      if (keys.bits != 8) {
        k.forItems(dims, [&](Value d) {
          k.setNumber(queries, k.add(d, to), k.number(in, k.add(start, d)));
        });
        continue;
      }
      constexpr int64_t quadsOfGroup = keyGroup / dotBytes;
      k.forItems(quads(), [&](Value quad) {
        Value within = k.div(quad, quadsOfGroup), firstOf = k.mul(within, keyGroup);
        Value most = k.loop(firstOf, k.add(firstOf, keyGroup), 1, {k.f32Const(0)},
                            [&](Value d, ValueRange carried) -> Values {
                              return {k.fmax(k.fabs(element(d)), carried[0])};
                            })[0];
        const QueryScale scale = queryScale(k, most);
        Values codes;
        for (int64_t i = 0; i < dotBytes; ++i)
          codes.push_back(scale.codeOf(k, element(k.add(k.mul(quad, dotBytes), i))));
        k.setWord(queries, k.add(quad, to), k.packBytes(codes));
        k.setNumber(queries, k.add(within, to + quads()),
                    scale.scale); // the same from all of the group
      });
    }
  }

  Values zeros() { return Values(size_t(pairs), k.f32Const(0)); }

  Values floatScores(Value t) {
    return k.loop(k.idx(0), k.idx(dims), 1, zeros(), [&](Value d, ValueRange carried) {
      Values next(carried);
      Value key = keys.number(t, d);
      for (int64_t g = 0; g < pairs; ++g)
        next[size_t(g)] =
            k.fma(k.number(queries, k.add(d, g * queryWords())), key, next[size_t(g)]);
      return next;
    });
  }

  Values integerScores(Value t) {
    constexpr int64_t quadsOfGroup = keyGroup / dotBytes;
    return k.loop(
        k.idx(0), k.idx(queryGroups()), 1, zeros(), [&](Value within, ValueRange carried) {
          Value firstQuad = k.mul(within, quadsOfGroup);
          Value endQuad = k.min(k.add(firstQuad, quadsOfGroup), k.idx(quads()));
          Values start(size_t(pairs), k.i32Const(0));
          Values dots = k.loop(firstQuad, endQuad, 1, start, [&](Value quad, ValueRange sums) {
            Values next(sums);
            Value codes = k.ixor(keys.keyWord(t, quad), k.i32Const(int32_t(0x80808080)));
            for (int64_t g = 0; g < pairs; ++g) {
              Value query = k.word(queries, k.add(quad, g * queryWords()));
              next[size_t(g)] = k.addProducts(next[size_t(g)], codes, true, query);
            }
            return next;
          });
          Values next(carried);
          Value scale = keys.scale(t, within);
          for (int64_t g = 0; g < pairs; ++g) {
            Value own = k.number(queries, k.add(within, g * queryWords() + quads()));
            next[size_t(g)] =
                k.fma(k.toFloat(dots[size_t(g)]), k.fmul(scale, own), next[size_t(g)]);
          }
          return next;
        });
  }

  Value finished(Value score, Value t, Value head) {
    Value slope = k.spec.slopes ? k.number(k.operand(5), head) : Value();
    return finishedScore(k, score, t, position, slope);
  }

  /// Dimension d of all pairs, over positions start .. start + end - 1.
  Values outOf(Value start, Value end, Value d) {
    auto weightAt = [&](int64_t g, Value t) { return k.add(t, g * attentionBlock); };
    if (values.bits == 8) { // positions beyond the end have weight zero
      Values none(size_t(pairs), k.i32Const(0));
      Values sums =
          k.loop(k.idx(0), k.ceilDiv(end, dotBytes), 1, none, [&](Value quad, ValueRange carried) {
            Values next(carried);
            Value codes = k.ixor(values.valueWord(k.add(k.div(start, dotBytes), quad), d),
                                 k.i32Const(int32_t(0x80808080)));
            for (int64_t i = 0; i < dotBytes; ++i)
              for (int64_t g = 0; g < pairs; ++g) {
                Value weight = k.word(weights, weightAt(g, k.add(k.mul(quad, dotBytes), i)));
                next[size_t(g)] = k.iadd(next[size_t(g)], k.imul(weight, k.signedByte(codes, i)));
              }
            return next;
          });
      for (Value &sum : sums)
        sum = k.toFloat(sum);
      return sums;
    }
    return k.loop(k.idx(0), end, 1, zeros(), [&](Value t, ValueRange carried) {
      Values next(carried);
      Value at = k.add(start, t), v = values.bits == 4 ? packedValue(at, d) : values.number(at, d);
      for (int64_t g = 0; g < pairs; ++g)
        next[size_t(g)] = k.fma(k.number(weights, weightAt(g, t)), v, next[size_t(g)]);
      return next;
    });
  }

  Value packedValue(Value t, Value d) {
    constexpr int64_t half = valueGroup / 2;
    Value within = k.div(d, valueGroup), i = k.rem(d, valueGroup);
    Value byte = k.rem(i, half), quad = k.add(k.mul(within, half / 4), k.div(byte, 4));
    Value shift = k.add(k.mul(k.rem(byte, 4), 8), k.mul(k.div(i, half), 4));
    Value bits = arith::IndexCastOp::create(k.b, k.i32, shift);
    Value code = k.iand(k.shrLogicBy(values.packedWord(t, quad), bits), k.i32Const(15));
    Value minimum = values.scale(t, k.add(within, values.groups()));
    return k.fma(values.scale(t, within), k.toFloat(code), minimum);
  }
};

} // namespace

void emitGpuAttentionOne(GpuBuilder &k) {
  HeadTile tile(k, k.idx(0));
  Value block = k.positionBlock();
  Value isVisible = k.both(k.lessEqual(k.div(tile.first, attentionBlock), block),
                           k.lessEqual(block, k.div(tile.last, attentionBlock)));
  k.ifThen(isVisible, [&] {
    HeadTile::Block result = tile.block(k.mul(block, attentionBlock));
    Words partials = k.operand(4);
    tile.forDimensions([&](int64_t g, Value d, size_t i) {
      Value to = partialOf(k, k.spec, tile.heads[size_t(g)], block);
      k.setNumber(partials, k.add(k.add(to, lanes), d), result.out[i]);
      k.ifThen(k.isEqual(d, k.idx(0)), [&] {
        k.setNumber(partials, to, result.most[size_t(g)]);
        k.setNumber(partials, k.add(to, 1), result.sum[size_t(g)]);
      });
    });
  });
}

void emitGpuAttentionMerge(GpuBuilder &k) {
  auto [first, last] = PlaceWords(k, 1).visible(k.idx(0));
  Value end = k.add(k.div(last, attentionBlock), 1);
  Words partials = k.operand(0);
  k.forItems(k.spec.headDim, [&](Value d) {
    Values result =
        k.loop(k.div(first, attentionBlock), end, 1, {noMaximum(k), k.f32Const(0), k.f32Const(0)},
               [&](Value block, ValueRange carried) -> Values {
                 Value from = partialOf(k, k.spec, k.group(), block);
                 Running part{k.number(partials, from),
                              k.number(partials, k.add(from, 1)),
                              {k.number(partials, k.add(k.add(from, lanes), d))}};
                 Running after = merged(k, {carried[0], carried[1], {carried[2]}}, part);
                 return {after.most, after.sum, after.out[0]};
               });
    k.setNumber(k.operand(2), k.add(k.mul(k.group(), k.spec.headDim), d),
                k.fdiv(result[2], result[1]));
  });
}

void emitGpuAttentionMany(GpuBuilder &k) {
  if (attentionByTiles(k.spec, k.target))
    return emitGpuAttentionTiles(k);
  Value row = k.rowGroup();
  HeadTile tile(k, row);
  const size_t slots = size_t(tile.slots), each = 2 + slots;
  Values state;
  for (int64_t g = 0; g < tile.pairs; ++g) {
    state.push_back(noMaximum(k));
    state.append(1 + slots, k.f32Const(0));
  }
  Value end = k.add(k.div(tile.last, attentionBlock), 1);
  state = k.loop(k.div(tile.first, attentionBlock), end, 1, state,
                 [&](Value block, ValueRange carried) {
                   HeadTile::Block part = tile.block(k.mul(block, attentionBlock));
                   Values next;
                   for (size_t g = 0; g < size_t(tile.pairs); ++g) {
                     ValueRange mine = carried.slice(g * each, each);
                     ArrayRef<Value> out = ArrayRef(part.out).slice(g * slots, slots);
                     Running after = merged(k, {mine[0], mine[1], Values(mine.drop_front(2))},
                                            {part.most[g], part.sum[g], Values(out)});
                     next.append({after.most, after.sum});
                     next.append(after.out);
                   }
                   return next;
                 });
  Value start = k.mul(row, k.spec.outStride);
  tile.forDimensions([&](int64_t g, Value d, size_t i) {
    Value at = k.add(k.add(start, k.mul(tile.heads[size_t(g)], k.spec.headDim)), d);
    const size_t first = size_t(g) * each, slot = i - size_t(g) * slots;
    k.setNumber(k.operand(4), at, k.fdiv(state[first + 2 + slot], state[first + 1]));
  });
}

} // namespace smelt
