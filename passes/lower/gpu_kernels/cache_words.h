// The key and value cache (runtime/formats/caches.h) on a GPU, and what a row's position and slot
// are.
#pragma once

#include "passes/lower/gpu_kernels/builder.h"
#include "passes/lower/kernels/formulas.h"

namespace smelt {

/// Keys or values of one kv head of one slot.
class CacheWords {
public:
  /// `head`: counted over the heads of all slots.
  CacheWords(GpuBuilder &k, int operand, bool holdsKeys, Value head)
      : k(k), words(k.operand(operand)), holdsKeys(holdsKeys),
        capacity(k.field(format::FieldCapacity)) {
    const CacheInfo &info = cacheInfo(k.spec.cache);
    bits = holdsKeys ? info.keyBits : info.valueBits;
    const int64_t each = holdsKeys ? keyBytes(k.spec.cache, k.spec.headDim)
                                   : valueBytes(k.spec.cache, k.spec.headDim);
    const CacheSizes sizes = cacheSizes(k.spec.cache, k.spec.headDim);
    // Capacity is a multiple of 64, so that both are whole words.
    Value quarters = k.div(capacity, 4);
    first = k.mul(k.mul(head, quarters), each);
    scales = k.mul(
        k.add(first, k.mul(quarters, int64_t(holdsKeys ? sizes.keyCodes : sizes.valueCodes))), 2);
  }

  int bits; ///< of a code
  static Value head(GpuBuilder &k, Value slot, Value kvHead) {
    return k.add(k.mul(slot, k.spec.kvHeads), kvHead);
  }

  /// Element d of a position, of 16 or 32 bits.
  Value number(Value position, Value d) {
    Value at = element(position, d);
    return bits == 32 ? k.number(words, at) : k.half(words, at);
  }
  void setNumber(Value position, Value d, Value value) {
    Value at = element(position, d);
    if (bits == 32)
      k.setNumber(words, at, limited(k, value, 0x1.fffffep127));
    else
      k.setHalf(words, at, limited(k, value));
  }

  /// Word of 8-bit keys: dimensions 4 quad .. of a position; of 8-bit values: positions 4 quad ..
  /// of dimension d; of 4-bit values: bytes 4 quad .. of a position.
  Value keyWord(Value position, Value quad) { return k.word(words, keyWordAt(position, quad)); }
  void setKeyWord(Value position, Value quad, Value codes) {
    k.setWord(words, keyWordAt(position, quad), codes);
  }
  Value valueWord(Value quad, Value d) {
    return k.word(words, k.add(first, k.add(k.mul(quad, k.spec.headDim), d)));
  }
  void setValueByte(Value position, Value d, Value code) {
    Value word = k.add(k.mul(k.div(position, dotBytes), k.spec.headDim), d);
    Value at = k.add(k.mul(k.add(first, word), 4), k.rem(position, dotBytes));
    k.setByte(words, at, code);
  }
  Value packedWord(Value position, Value quad) {
    return k.word(words, packedWordAt(position, quad));
  }
  void setPackedWord(Value position, Value quad, Value codes) {
    k.setWord(words, packedWordAt(position, quad), codes);
  }
  int64_t groups() const { return roundUp(k.spec.headDim, valueGroup) / valueGroup; }

  /// Scale of a group of a position; the minimums of 4-bit values are groups() on.
  Value scale(Value position, Value group) { return k.half(words, scaleAt(position, group)); }
  /// Of an even position and the next one.
  std::pair<Value, Value> scalePair(Value position, Value group) {
    return k.halves(words, scaleAt(position, group));
  }
  void setScale(Value position, Value group, Value scale) {
    k.setHalf(words, scaleAt(position, group), scale);
  }

private:
  GpuBuilder &k;
  Words words;
  bool holdsKeys;
  Value capacity;
  Value first;  ///< word of the codes
  Value scales; ///< float16 of the scales

  /// Keys: 16 positions side by side. Values: the dimensions of a position.
  Value element(Value position, Value d) {
    Value start = bits == 32 ? first : k.mul(first, 2);
    if (!holdsKeys)
      return k.add(start, k.add(k.mul(position, k.spec.headDim), d));
    Value lines = k.mul(k.div(position, cachedTogether), k.spec.headDim);
    Value line = k.mul(k.add(lines, d), cachedTogether);
    return k.add(start, k.add(line, k.rem(position, cachedTogether)));
  }
  Value keyWordAt(Value position, Value quad) {
    const int64_t quads = roundUp(k.spec.headDim, dotBytes) / dotBytes;
    Value line = k.add(k.mul(k.div(position, cachedTogether), quads), quad);
    return k.add(first, k.add(k.mul(line, cachedTogether), k.rem(position, cachedTogether)));
  }
  Value packedWordAt(Value position, Value quad) {
    return k.add(first, k.add(k.mul(position, groups() * valueGroup / 8), quad));
  }
  Value scaleAt(Value position, Value group) {
    return k.add(scales, k.add(k.mul(group, capacity), position));
  }
};

/// Places of the step's rows (format.h, OperandKind::Positions): int32 [4][maxTokens].
class PlaceWords {
public:
  PlaceWords(GpuBuilder &k, int operand) : k(k), words(k.operand(operand)) {}
  Value position(Value row) { return at(0, row); }
  Value slot(Value row) { return at(1, row); }

  PositionRange visible(Value row) {
    return visiblePositions(k, k.spec, position(row), [&] { return at(2, row); });
  }

private:
  GpuBuilder &k;
  Words words;
  Value at(int64_t array, Value row) {
    return k.toIndex(k.word(words, k.add(row, array * k.spec.maxTokens)));
  }
};

} // namespace smelt
