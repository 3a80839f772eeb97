// RopeAppend on a GPU: a workgroup takes one query, key or value head of a row. Operands, formulas
// and roundings: kernels/rope_append.cpp.
#include "passes/lower/gpu_kernels/cache_words.h"
#include "passes/lower/rotary_table.h"

using namespace mlir;

namespace smelt {

namespace {

class HeadKernel {
public:
  explicit HeadKernel(GpuBuilder &k)
      : k(k), dims(k.spec.headDim), places(k, 7), row(k.rowGroup()), position(places.position(row)),
        given(k.shared(dims)), turned(k.shared(dims)) {
    isQuery = k.less(k.group(), k.idx(k.spec.heads));
    isValue = k.lessEqual(k.idx(k.spec.heads + k.spec.kvHeads), k.group());
    isKey = k.is(arith::CmpIPredicate::eq, isQuery, isValue);
  }

  void emit() {
    stage();
    k.barrier();
    if (k.spec.queryNorm || k.spec.keyNorm)
      scale = normScale();
    k.forItems(dims, [&](Value d) { k.setNumber(turned, d, result(d)); });
    k.barrier();
    k.ifThen(isQuery, [&] {
      k.forItems(dims, [&](Value d) {
        k.setNumber(k.operand(0), k.add(sourceOf(k.spec.inStride, 0), d), k.number(turned, d));
      });
    });
    k.ifThen(isKey, [&] { storeKey(headOfCache(k.spec.heads)); });
    k.ifThen(isValue, [&] { storeValue(headOfCache(k.spec.heads + k.spec.kvHeads)); });
  }

private:
  GpuBuilder &k;
  const int64_t dims;
  PlaceWords places;
  Value row, position;
  Words given, turned; ///< the head before and after
  Value isQuery, isKey, isValue, scale;

  Value headOfCache(int64_t before) {
    return CacheWords::head(k, places.slot(row), k.sub(k.group(), k.idx(before)));
  }
  /// The head's first float in its operand; `before`: workgroups before those of its kind.
  Value sourceOf(int64_t stride, int64_t before) {
    return k.add(k.mul(row, stride), k.mul(k.sub(k.group(), k.idx(before)), dims));
  }

  void stage() {
    auto copy = [&](Value condition, int operand, int64_t stride, int64_t before) {
      k.ifThen(condition, [&] {
        Value first = sourceOf(stride, before);
        k.forItems(dims, [&](Value d) {
          k.setNumber(given, d, k.number(k.operand(operand), k.add(first, d)));
        });
      });
    };
    copy(isQuery, 0, k.spec.inStride, 0);
    copy(isKey, 1, k.spec.keyStride, k.spec.heads);
    copy(isValue, 2, k.spec.valueStride, k.spec.heads + k.spec.kvHeads);
  }

  Value normScale() {
    Value mine = k.loop(k.thread(), k.idx(dims), k.launch.threads, {k.f32Const(0)},
                        [&](Value d, ValueRange carried) -> Values {
                          Value x = k.number(given, d);
                          return {k.fma(x, x, carried[0])};
                        })[0];
    Value mean = k.fdiv(k.reduceSum(mine), k.f32Const(double(dims)));
    return k.fdiv(k.f32Const(1), k.fsqrt(k.fadd(mean, k.f32Const(k.spec.epsilon))));
  }

  /// Element d after the head norm, if this kind of head has one.
  Value normed(Value d) {
    Value x = k.number(given, d);
    auto with = [&](Value condition, int64_t weights) {
      Value w = k.number(k.operand(4), k.add(d, weights));
      x = k.select(condition, k.fmul(k.fmul(k.number(given, d), scale), w), x);
    };
    if (k.spec.queryNorm)
      with(isQuery, 0);
    if (k.spec.keyNorm)
      with(isKey, dims);
    return x;
  }

  std::pair<Value, Value> cosSin(Value pair) {
    const int64_t half = k.spec.rotaryDim / 2;
    Words table = k.operand(3);
    auto load = [&](Value tableRow) -> std::pair<Value, Value> {
      Value at = k.add(k.mul(tableRow, k.spec.rotaryDim), pair);
      return {k.number(table, at), k.number(table, k.add(at, half))};
    };
    if (!k.spec.compactRotary)
      return load(position);
    auto [cos, sin] = load(k.add(k.div(position, rotaryStep), rotaryStep));
    auto [fineCos, fineSin] = load(k.rem(position, rotaryStep));
    return {k.fma(cos, fineCos, k.fneg(k.fmul(sin, fineSin))),
            k.fma(sin, fineCos, k.fmul(cos, fineSin))};
  }

  /// Element d after norm and rotation.
  Value result(Value d) {
    const int64_t rotary = k.spec.rotaryDim, half = rotary / 2;
    Value plain = normed(d);
    if (!rotary)
      return plain;
    // Places of d's pair (a, c), of which it is one; any, where d is not rotated.
    Value inside = k.min(d, k.idx(rotary - 1)), pair, first, second, isFirst;
    if (k.spec.interleaved) {
      pair = k.div(inside, 2);
      first = k.mul(pair, 2);
      second = k.add(first, 1);
      isFirst = k.isEqual(inside, first);
    } else {
      isFirst = k.less(inside, k.idx(half));
      pair = first = k.select(isFirst, inside, k.sub(inside, k.idx(half)));
      second = k.add(first, half);
    }
    auto [cos, sin] = cosSin(pair);
    Value a = normed(first), c = normed(second);
    Value x = k.fma(a, cos, k.fneg(k.fmul(c, sin))), y = k.fma(c, cos, k.fmul(a, sin));
    Value isTurned = k.both(k.less(d, k.idx(rotary)), k.ixor(isValue, one()));
    return k.select(isTurned, k.select(isFirst, x, y), plain);
  }
  Value one() { return arith::ConstantIntOp::create(k.b, 1, 1); }

  /// Element d of what was turned, limited; zero beyond the head.
  Value element(Value d) { return elementOr(d, k.f32Const(0)); }
  Value elementOr(Value d, Value fill) {
    Value x = limited(k, k.number(turned, k.min(d, k.idx(dims - 1))));
    return k.select(k.less(d, k.idx(dims)), x, fill);
  }
  Value largest(Value first, int64_t count) {
    return k.loop(first, k.add(first, count), 1, {k.f32Const(0)},
                  [&](Value d, ValueRange most) -> Values {
                    return {k.fmax(k.fabs(element(d)), most[0])};
                  })[0];
  }
  /// Every thread of a group writes the same scale: parts of words are written by one of them.
  Value rounded(CacheWords &cache, Value isWriter, Value group, Value scale) {
    k.ifThen(isWriter, [&] { cache.setScale(position, group, scale); });
    return k.roundToHalf(scale);
  }
  Value symmetricCode(Value x, Value inverse) {
    Value code = k.roundEven(k.fmul(x, inverse));
    return k.iadd(k.toInt(limited(k, code, 127)), k.i32Const(128));
  }

  void storeKey(Value head) {
    CacheWords cache(k, 5, true, head);
    if (cache.bits != 8) {
      k.forItems(dims, [&](Value d) { cache.setNumber(position, d, k.number(turned, d)); });
      return;
    }
    constexpr int64_t quadsOfGroup = keyGroup / dotBytes;
    k.forItems(roundUp(dims, dotBytes) / dotBytes, [&](Value quad) {
      Value group = k.div(quad, quadsOfGroup), first = k.mul(group, keyGroup);
      Value isWriter = k.isEqual(k.rem(quad, quadsOfGroup), k.idx(0));
      Value scale =
          rounded(cache, isWriter, group, k.fdiv(largest(first, keyGroup), k.f32Const(127)));
      Value inverse = inverseOf(k, scale);
      Values codes;
      for (int64_t i = 0; i < dotBytes; ++i)
        codes.push_back(symmetricCode(element(k.add(k.mul(quad, dotBytes), i)), inverse));
      cache.setKeyWord(position, quad, k.packBytes(codes));
    });
  }

  void storeValue(Value head) {
    CacheWords cache(k, 6, false, head);
    if (cache.bits == 4) {
      storePackedValue(cache);
      return;
    }
    k.forItems(dims, [&](Value d) {
      if (cache.bits != 8) {
        cache.setNumber(position, d, k.number(turned, d));
        return;
      }
      Value scale = k.fdiv(largest(k.idx(0), dims), k.f32Const(127));
      scale = rounded(cache, k.isEqual(d, k.idx(0)), k.idx(0), scale);
      cache.setValueByte(position, d, symmetricCode(element(d), inverseOf(k, scale)));
    });
  }

  /// A word: dimensions i .. i + 3 in the low nibbles, 16 + i .. in the high ones.
  void storePackedValue(CacheWords &cache) {
    constexpr int64_t wordsOfGroup = valueGroup / 8;
    k.forItems(cache.groups() * wordsOfGroup, [&](Value word) {
      Value group = k.div(word, wordsOfGroup), within = k.rem(word, wordsOfGroup);
      Value first = k.mul(group, valueGroup), isWriter = k.isEqual(within, k.idx(0));
      Value start = element(first);
      // Places beyond the head repeat its first number of the group: they must not widen it.
      auto fold = [&](bool isMost) {
        return k.loop(k.idx(0), k.idx(valueGroup), 1, {start},
                      [&](Value i, ValueRange carried) -> Values {
                        Value x = elementOr(k.add(first, i), start);
                        return {isMost ? k.fmax(x, carried[0]) : k.fmin(x, carried[0])};
                      })[0];
      };
      Value least = fold(false), range = k.fsub(fold(true), least);
      Value minimum = rounded(cache, isWriter, k.add(group, cache.groups()), least);
      Value scale = rounded(cache, isWriter, group, k.fdiv(range, k.f32Const(15)));
      Value inverse = inverseOf(k, scale);
      auto code = [&](Value i) {
        Value u = k.roundEven(k.fmul(k.fsub(elementOr(k.add(first, i), start), minimum), inverse));
        return k.toInt(k.fmax(k.fmin(u, k.f32Const(15)), k.f32Const(0)));
      };
      Values bytes;
      for (int64_t i = 0; i < 4; ++i) {
        Value low = k.add(k.mul(within, 4), i);
        bytes.push_back(k.ior(code(low), k.shl(code(k.add(low, valueGroup / 2)), 4)));
      }
      cache.setPackedWord(position, word, k.packBytes(bytes));
    });
  }
};

} // namespace

void emitGpuRopeAppend(GpuBuilder &k) { HeadKernel(k).emit(); }

} // namespace smelt
