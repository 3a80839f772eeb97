// RopeAppend: head norm and rotary embedding on queries and keys; keys and values into the cache.
//
// Operands: p0 float q [.][inStride] (heads * headDim columns, changed in place), p1 float k
// [.][keyStride] (not changed), p2 float v [.][valueStride], p3 float table
// [maxContext][rotaryDim]: cos (rotaryDim / 2), then sin, or the compact one of rotary_table.h,
// null without rotation, p4 float head norm
// weights: query [headDim], key [headDim], null without, p5 key cache, p6 value cache, p7 int32
// positions[maxTokens], slots[maxTokens].
//
// Quantized caches (runtime/formats/caches.h), h(x) = x rounded to float16, x limited to float16's
// range. 8 bits, of a group of keys or the values of a head: scale = h(max |x| / 127), q =
// roundEven(x * (1 / scale)) within +-127. 4 bits, of each group of values: minimum = h(min x),
// scale = h((max x - min x) / 15), u = roundEven((x - minimum) * (1 / scale)) within 0..15. 1 / 0
// counts as 0. Codes are made of the rounded scale and minimum.
#include "passes/lower/kernels/rope_append.h"

#include "passes/lower/kernels/columns.h"
#include "passes/lower/rotary_table.h"

#include <memory>

using namespace mlir;

namespace smelt {

namespace {

class HeadKernel {
public:
  HeadKernel(KernelBuilder &k)
      : k(k), cache(k, 5, 6), places(k, 7), table(k.operand(3, k.f32)),
        normWeights(k.operand(4, k.f32)), normed(k.scratch(k.spec.headDim, k.f32)),
        turned(k.scratch(k.spec.headDim, k.f32)) {}

  void emit() {
    // Heads of a kv head follow each other, and rows within it: lines of the cache hold several
    // positions of one head, which different threads would take from each other.
    const bool changesQueries = k.spec.queryNorm || k.spec.rotaryDim;
    const int64_t group = k.spec.heads / k.spec.kvHeads, members = changesQueries ? group + 1 : 1;
    Value rows = k.rowCount();
    auto [begin, end] = k.threadShare(k.mul(rows, k.spec.kvHeads * members));
    k.loop(begin, end, 1, [&](Value item) {
      Value place = k.div(item, members), member = k.rem(item, members);
      Value kvHead = k.div(place, rows), row = k.rem(place, rows);
      if (!changesQueries)
        return emitKeyValue(row, kvHead);
      k.ifElse(
          k.less(member, k.idx(group)), {},
          [&]() -> Values {
            Value head = k.add(k.mul(kvHead, group), member);
            emitQuery(row, head, k.operand(0, k.f32), queryAt(row, head));
            return {};
          },
          [&]() -> Values {
            emitKeyValue(row, kvHead);
            return {};
          });
    });
  }

  /// Head norm and rotation of a query head into `out`, which may be where it lies.
  void emitQuery(Value row, Value head, Buffer out, Value to) {
    Buffer queries = k.operand(0, k.f32);
    Value first = queryAt(row, head);
    if (!k.spec.queryNorm) {
      rotate(queries, first, row, out, to);
      return;
    }
    normalize(queries, first, 0);
    rotate(normed, k.idx(0), row, out, to);
  }

  void emitKeyValue(Value row, Value kvHead) {
    Buffer in = k.operand(1, k.f32);
    Value first = k.add(k.mul(row, k.spec.keyStride), k.mul(kvHead, k.spec.headDim));
    if (k.spec.keyNorm) {
      normalize(in, first, k.spec.headDim);
      rotate(normed, k.idx(0), row, turned, k.idx(0));
    } else {
      rotate(in, first, row, turned, k.idx(0));
    }
    Value position = places.position(row);
    Value cacheHead = cache.head(places.slot(row), kvHead);
    if (cache.hasIntegerKeys())
      storeIntegerKey(cacheHead, position);
    else
      storeKey(cacheHead, position);
    Buffer values = k.operand(k.spec.appends ? 1 : 2, k.f32);
    Value from = k.add(k.mul(row, k.spec.valueStride), k.mul(kvHead, k.spec.headDim));
    if (k.spec.appends)
      from = k.add(from, k.spec.firstIndex);
    if (cache.packsValues())
      storePackedValue(values, from, cacheHead, position);
    else if (cache.hasIntegerValues())
      storeIntegerValue(values, from, cacheHead, position);
    else
      storeValue(values, from, cacheHead, position);
  }

private:
  KernelBuilder &k;
  CacheView cache;
  RowPlaces places;
  Buffer table, normWeights, normed, turned;

  Value queryAt(Value row, Value head) {
    return k.add(k.mul(row, k.spec.inStride), k.mul(head, k.spec.headDim));
  }

  /// One element of each of headDim lines.
  void storeKey(Value cacheHead, Value position) {
    Value within = k.rem(position, lanes);
    Value lines = k.add(cache.keyLines(cacheHead, k.sub(position, within)), within);
    auto scatter = [&](Value d, int64_t n) {
      Value v = cache.encode(k.loadVector(turned, d, n));
      for (int64_t i = 0; i < n; ++i)
        k.store(cache.keys, k.add(lines, k.mul(k.add(d, i), lanes)), k.lane(v, i));
    };
    const int64_t whole = k.spec.headDim / lanes * lanes;
    k.loop(k.idx(0), k.idx(whole), lanes, [&](Value d) { scatter(d, lanes); });
    for (Piece piece : pieces(k.spec.headDim - whole))
      scatter(k.idx(whole + piece.first), piece.n);
  }

  /// One word of four dimensions of each line.
  void storeIntegerKey(Value cacheHead, Value position) {
    Value within = k.rem(position, lanes);
    Value first =
        k.add(cache.keyLines(cacheHead, k.sub(position, within)), k.mul(within, dotBytes)); // byte
    auto group = [&](Value d, int64_t n) {
      Value inverse = storeScale(turned, d, n, cache.keyScales,
                                 cache.keyScaleAt(cacheHead, position, k.div(d, keyGroup)));
      for (Piece piece : pieces(n)) {
        Value codes = symmetricCodes(k.loadVector(turned, k.add(d, piece.first), piece.n), inverse);
        Value line = k.add(first, k.mul(k.add(d, piece.first / dotBytes * dotBytes), lanes));
        if (piece.n < dotBytes) {
          for (int64_t i = 0; i < piece.n; ++i)
            k.store(cache.keys, k.add(line, piece.first % dotBytes + i), k.lane(codes, i));
          continue;
        }
        Value words = k.bitcast(codes, k.vec(piece.n / dotBytes, k.i32));
        for (int64_t i = 0; i < piece.n / dotBytes; ++i)
          k.store(cache.keyWords, k.div(k.add(line, i * dotBytes * lanes), dotBytes),
                  k.lane(words, i));
      }
    };
    const int64_t whole = k.spec.headDim / keyGroup * keyGroup;
    k.loop(k.idx(0), k.idx(whole), keyGroup, [&](Value d) { group(d, keyGroup); });
    if (whole != k.spec.headDim)
      group(k.idx(whole), k.spec.headDim - whole);
  }

  void storeValue(Buffer in, Value from, Value cacheHead, Value position) {
    Value to = cache.valueRow(cacheHead, position);
    for (Piece piece : pieces(k.spec.headDim))
      k.storeVector(cache.values, k.add(to, piece.first),
                    cache.encode(k.loadVector(in, k.add(from, piece.first), piece.n)));
  }

  /// Every fourth byte: bytes, because other threads write the positions beside.
  void storeIntegerValue(Buffer in, Value from, Value cacheHead, Value position) {
    Value within = k.rem(position, dotBytes);
    Value to = k.add(cache.valueRow(cacheHead, k.sub(position, within)), within);
    Value inverse = storeScale(in, from, k.spec.headDim, cache.valueScales,
                               cache.valueScaleAt(cacheHead, position, k.idx(0)));
    for (Piece piece : pieces(k.spec.headDim)) {
      Value codes = symmetricCodes(k.loadVector(in, k.add(from, piece.first), piece.n), inverse);
      for (int64_t i = 0; i < piece.n; ++i)
        k.store(cache.values, k.add(to, (piece.first + i) * dotBytes), k.lane(codes, i));
    }
  }

  /// Writes `scale` (16 equal lanes) as float16 and returns what was written, as one float.
  Value storeRounded(Value scale, Buffer scales, Value at) {
    Value rounded = k.truncate(scale);
    k.store(scales, at, k.lane(rounded, 0));
    return k.lane(k.extend(rounded), 0);
  }
  /// The scale of the `count` numbers from `from`; returns its inverse.
  Value storeScale(Buffer in, Value from, int64_t count, Buffer scales, Value at) {
    Value most = foldColumns(
        k, count,
        [&](Value acc, Value column, int64_t n) {
          return k.fmax(k.fabs(limited(k, loadFirst(k, in, k.add(from, column), n))), acc);
        },
        [&](Value a, Value c) { return k.fmax(a, c); });
    Value scale = k.fdiv(k.reduceMax(most), k.f32Const(127));
    return inverseOf(k, storeRounded(k.splat(scale), scales, at));
  }
  /// q + 128 as bytes.
  Value symmetricCodes(Value x, Value inverse) {
    int64_t n = cast<VectorType>(x.getType()).getNumElements();
    Value code = k.roundEven(k.fmul(limited(k, x), k.splat(inverse, n)));
    return k.narrow(k.iadd(k.toInt(limited(k, code, 127)), k.splatI(128, n)), k.i8);
  }

  void storePackedValue(Buffer in, Value from, Value cacheHead, Value position) {
    Value to = cache.valueRow(cacheHead, position);
    for (int64_t group = 0; group < cache.valueGroups(); ++group) {
      const int64_t n = k.spec.headDim - group * valueGroup;
      Value first = k.add(from, group * valueGroup);
      // Lanes beyond the head repeat its first number: they must not widen the group.
      Value fill = k.splat(k.load(in, first));
      auto half = [&](int64_t column) {
        if (n <= column)
          return limited(k, fill);
        Value x = loadFirst(k, in, k.add(first, column), std::min(lanes, n - column));
        Value inside = arith::CmpIOp::create(k.b, arith::CmpIPredicate::slt, k.laneIds(),
                                             k.splatI(n - column));
        return limited(k, k.select(inside, x, fill));
      };
      Value low = half(0), high = half(lanes);
      Value least = k.fneg(k.reduceMax(k.fneg(k.fmin(low, high))));
      Value range = k.fsub(k.reduceMax(k.fmax(low, high)), least);
      Value minimum = storeRounded(k.splat(least), cache.valueScales,
                                   cache.valueMinimumAt(cacheHead, position, k.idx(group)));
      Value scale = storeRounded(k.splat(k.fdiv(range, k.f32Const(15))), cache.valueScales,
                                 cache.valueScaleAt(cacheHead, position, k.idx(group)));
      Value inverse = k.splat(inverseOf(k, scale));
      auto codes = [&](Value x) {
        Value code = k.roundEven(k.fmul(k.fsub(x, k.splat(minimum)), inverse));
        return k.toInt(k.fmax(k.fmin(code, k.splatF(15)), k.splatF(0)));
      };
      Value bytes = k.narrow(k.ior(codes(low), k.shl(codes(high), 4)), k.i8);
      k.storeVector(cache.values, k.add(to, group * lanes), bytes, lanes);
    }
  }

  /// Head norm of the headDim columns from `first` into `normed`; the weights start at `weights`.
  void normalize(Buffer in, Value first, int64_t weights) {
    Value sums = foldColumns(
        k, k.spec.headDim,
        [&](Value acc, Value column, int64_t n) {
          Value x = loadFirst(k, in, k.add(first, column), n);
          return k.fma(x, x, acc);
        },
        [&](Value a, Value c) { return k.fadd(a, c); });
    Value mean = k.fdiv(k.reduceAdd(sums), k.f32Const(double(k.spec.headDim)));
    Value scale = k.fdiv(k.f32Const(1), k.fsqrt(k.fadd(mean, k.f32Const(k.spec.epsilon))));
    for (Piece piece : pieces(k.spec.headDim)) {
      Value x = k.loadVector(in, k.add(first, piece.first), piece.n);
      Value w = k.loadVector(normWeights, k.idx(weights + piece.first), piece.n);
      k.storeVector(normed, k.idx(piece.first), k.fmul(k.fmul(x, k.splat(scale, piece.n)), w));
    }
  }

  /// Rotates (or copies, without rotation) one head; source and destination may be the same.
  void rotate(Buffer in, Value from, Value row, Buffer out, Value to) {
    if (k.spec.rotaryDim) {
      Angles angles = anglesOf(places.position(row));
      if (k.spec.interleaved)
        rotateInterleaved(in, from, angles, out, to);
      else
        rotateHalves(in, from, angles, out, to);
    }
    for (Piece piece : pieces(k.spec.headDim - k.spec.rotaryDim)) {
      int64_t first = k.spec.rotaryDim + piece.first;
      k.storeVector(out, k.add(to, first), k.loadVector(in, k.add(from, first), piece.n));
    }
  }

  /// Rows of the table; `fine` only of a compact one.
  struct Angles {
    Value row, fine;
  };
  Angles anglesOf(Value position) {
    if (!k.spec.compactRotary)
      return {k.mul(position, k.spec.rotaryDim), {}};
    Value coarse = k.add(k.div(position, rotaryStep), rotaryStep);
    return {k.mul(coarse, k.spec.rotaryDim), k.mul(k.rem(position, rotaryStep), k.spec.rotaryDim)};
  }

  /// Cosines and sines of a piece of the row's pairs.
  std::pair<Value, Value> cosSin(Angles angles, Piece piece) {
    auto load = [&](Value row, int64_t first) {
      return k.loadVector(table, k.add(row, first + piece.first), piece.n);
    };
    const int64_t half = k.spec.rotaryDim / 2;
    Value cos = load(angles.row, 0), sin = load(angles.row, half);
    if (!angles.fine)
      return {cos, sin};
    Value fineCos = load(angles.fine, 0), fineSin = load(angles.fine, half);
    return {k.fma(cos, fineCos, k.fneg(k.fmul(sin, fineSin))),
            k.fma(sin, fineCos, k.fmul(cos, fineSin))};
  }

  std::pair<Value, Value> turn(Value a, Value c, Angles angles, Piece piece) {
    auto [cos, sin] = cosSin(angles, piece);
    return {k.fma(a, cos, k.fneg(k.fmul(c, sin))), k.fma(c, cos, k.fmul(a, sin))};
  }

  void rotateHalves(Buffer in, Value from, Angles angles, Buffer out, Value to) {
    const int64_t half = k.spec.rotaryDim / 2;
    for (Piece piece : pieces(half)) {
      Value a = k.loadVector(in, k.add(from, piece.first), piece.n);
      Value c = k.loadVector(in, k.add(from, half + piece.first), piece.n);
      auto [x, y] = turn(a, c, angles, piece);
      k.storeVector(out, k.add(to, piece.first), x);
      k.storeVector(out, k.add(to, half + piece.first), y);
    }
  }

  void rotateInterleaved(Buffer in, Value from, Angles angles, Buffer out, Value to) {
    for (Piece piece : pieces(k.spec.rotaryDim / 2, lanes / 2)) {
      Value pairs = k.loadVector(in, k.add(from, 2 * piece.first), 2 * piece.n);
      SmallVector<int64_t> even, odd, joined;
      for (int64_t i = 0; i < piece.n; ++i) {
        even.push_back(2 * i);
        odd.push_back(2 * i + 1);
        joined.append({i, piece.n + i});
      }
      Value a = vector::ShuffleOp::create(k.b, pairs, pairs, even);
      Value c = vector::ShuffleOp::create(k.b, pairs, pairs, odd);
      auto [x, y] = turn(a, c, angles, piece);
      k.storeVector(out, k.add(to, 2 * piece.first), vector::ShuffleOp::create(k.b, x, y, joined));
    }
  }
};

} // namespace

void emitRopeAppend(KernelBuilder &k) { HeadKernel(k).emit(); }

HeadSteps headSteps(KernelBuilder &k) {
  auto heads = std::make_shared<HeadKernel>(k);
  Value row = k.idx(0);
  return {
      [=](Value head, Buffer out, Value to) { heads->emitQuery(row, head, out, to); },
      [=](Value kvHead) { heads->emitKeyValue(row, kvHead); },
  };
}

} // namespace smelt
