// Where things lie in the key and value cache (runtime/formats/caches.h), and what a row's position
// and slot are.
#pragma once

#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/formulas.h"

namespace smelt {

/// The cache of one attention layer.
class CacheView {
public:
  CacheView(KernelBuilder &k, int keyOperand, int valueOperand)
      : k(k), info(cacheInfo(k.spec.cache)), keys(k.operand(keyOperand, codeType(info.keyBits))),
        values(k.operand(valueOperand, codeType(info.valueBits))),
        keyWords(k.operand(keyOperand, k.i32)), keyScales(k.operand(keyOperand, k.f16)),
        valueScales(k.operand(valueOperand, k.f16)), capacity(k.field(format::FieldCapacity)) {}

  KernelBuilder &k;
  const CacheInfo &info;
  Buffer keys, values;           ///< codes: floats, or bytes
  Buffer keyWords;               ///< keys of 8 bits, four dimensions of a position at a time
  Buffer keyScales, valueScales; ///< the same memory as float16

  bool hasIntegerKeys() const { return info.keyBits == 8; }
  bool hasIntegerValues() const { return info.valueBits == 8; }
  bool packsValues() const { return info.valueBits == 4; }
  /// Groups of packed values.
  int64_t valueGroups() const { return roundUp(k.spec.headDim, valueGroup) / valueGroup; }

  /// The first position of a slot's kv head, counted over all heads.
  Value head(Value slot, Value kvHead) {
    return k.mul(k.add(k.mul(slot, k.spec.kvHeads), kvHead), capacity);
  }

  // --- Codes
  /// Line of dimension 0 of the 16 positions from `position`, a multiple of 16; the next dimension
  /// is 16 elements on, of 8 bits the next four of them 64.
  Value keyLines(Value head, Value position) {
    return k.add(bytesBefore(head, keyBytes(k.spec.cache, k.spec.headDim), info.keyBits),
                 k.mul(position, keyStride()));
  }
  /// Elements of keys to a position.
  int64_t keyStride() const {
    return hasIntegerKeys() ? roundUp(k.spec.headDim, dotBytes) : k.spec.headDim;
  }
  /// Of 8 bits, `position` is a multiple of 4, whose dimensions 0 start there.
  Value valueRow(Value head, Value position) {
    return k.add(bytesBefore(head, valueBytes(k.spec.cache, k.spec.headDim), info.valueBits),
                 k.mul(position, valueStride()));
  }
  /// Elements between rows of values.
  int64_t valueStride() const {
    return packsValues() ? roundUp(k.spec.headDim, valueGroup) / 2 : k.spec.headDim;
  }
  Value loadKeys(Value at) { return asFloat(load(keys, at, lanes, info.keyBits)); }
  /// n of a row of values of 16 bits or more.
  Value loadValues(Value at, int64_t n) { return asFloat(load(values, at, n, info.valueBits)); }
  /// Dimensions [0, 16) or [16, 32) of a packed group of values.
  Value loadPacked(Value at, bool high) {
    Value bytes = k.zeroExtend(k.loadVector(values, at, lanes, lanes), k.i32);
    return k.toFloat(high ? k.shrLogic(bytes, 4) : k.iand(bytes, k.splatI(15)));
  }

  /// Float to cache element of 16 bits or more; what would overflow (or is no number) becomes the
  /// largest value, so that the cache stays finite: positions that a row must not see are read too
  /// and multiplied by zero.
  Value encode(Value v) {
    const bool isHalf = info.keyBits == 16;
    v = limited(k, v, isHalf ? mostHalf : 0x1.fffffep127);
    return isHalf ? k.truncate(v) : v;
  }

  // --- Scales, of 16 positions from `position`, a multiple of 16
  Value keyScaleAt(Value head, Value position, Value group) {
    return scaleAt(head, k.add(position, k.mul(group, capacity)),
                   keyBytes(k.spec.cache, k.spec.headDim), keyStride());
  }
  Value valueScaleAt(Value head, Value position, Value group) {
    return scaleAt(head, k.add(position, k.mul(group, capacity)),
                   valueBytes(k.spec.cache, k.spec.headDim), valueStride());
  }
  Value valueMinimumAt(Value head, Value position, Value group) {
    return valueScaleAt(head, position, k.add(group, valueGroups()));
  }
  Value loadScales(Buffer scales, Value at) {
    return k.extend(k.loadVector(scales, at, lanes, 2 * lanes));
  }

private:
  Value capacity;

  Type codeType(int bits) { return bits == 32 ? k.f32 : bits == 16 ? k.f16 : k.i8; }
  /// Elements of `bits` bits (packed ones: bytes) before the head, whose positions have `each`
  /// bytes.
  Value bytesBefore(Value head, int64_t each, int bits) {
    return k.mul(head, each / std::max(1, bits / 8));
  }
  /// After the codes, `codes` bytes of each position; head and capacity are even.
  Value scaleAt(Value head, Value position, int64_t each, int64_t codes) {
    Value before = k.mul(k.div(head, 2), each), start = k.mul(k.div(capacity, 2), codes);
    return k.add(k.add(before, start), position);
  }
  Value load(Buffer buffer, Value at, int64_t n, int bits) {
    const int64_t bytes = std::max(1, bits / 8);
    return k.loadVector(buffer, at, n,
                        n == lanes && k.spec.headDim % lanes == 0 ? lanes * bytes : bytes);
  }
  Value asFloat(Value v) {
    return mlir::cast<mlir::VectorType>(v.getType()).getElementType() == k.f32 ? v : k.extend(v);
  }
};

/// Places of the step's rows (format.h, OperandKind::Positions): int32 [4][maxTokens].
class RowPlaces {
public:
  RowPlaces(KernelBuilder &k, int operand) : k(k), meta(k.operand(operand, k.i32)) {}
  Value position(Value row) { return k.toIndex(k.load(meta, row)); }
  Value slot(Value row) { return k.toIndex(k.load(meta, k.add(row, k.spec.maxTokens))); }
  /// The last position of the row's slot in this step.
  Value end(Value row) { return k.toIndex(k.load(meta, k.add(row, 2 * k.spec.maxTokens))); }

  PositionRange visible(Value row) {
    return visiblePositions(k, k.spec, position(row), [&] { return end(row); });
  }

private:
  KernelBuilder &k;
  Buffer meta;
};

} // namespace smelt
