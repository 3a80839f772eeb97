// Where things lie in the key and value cache (format.h, CacheLayer), and what a row's position and
// slot are.
#pragma once

#include "passes/lower/kernels/builder.h"

namespace smelt {

/// The cache of one attention layer: keys [slot][kv head][capacity / 16][headDim][16], values
/// [slot][kv head][capacity][headDim].
class CacheView {
public:
  CacheView(KernelBuilder &k, int keyOperand, int valueOperand)
      : k(k), element(k.spec.cacheElementBytes == 2 ? k.f16 : k.f32),
        keys(k.operand(keyOperand, element)), values(k.operand(valueOperand, element)),
        capacity(k.field(format::FieldCapacity)) {}

  KernelBuilder &k;
  Type element;
  Buffer keys, values;
  Value capacity;

  /// First element of a slot's kv head, in keys and in values alike.
  Value head(Value slot, Value kvHead) {
    Value heads = k.add(k.mul(slot, k.spec.kvHeads), kvHead);
    return k.mul(k.mul(heads, capacity), k.spec.headDim);
  }
  /// Line of dimension 0 of the 16 positions from `position`, a multiple of 16; the next dimension
  /// is 16 elements on.
  Value keyLines(Value head, Value position) {
    return k.add(head, k.mul(position, k.spec.headDim));
  }
  Value valueRow(Value head, Value position) {
    return k.add(head, k.mul(position, k.spec.headDim));
  }

  Value load(Buffer buffer, Value at, int64_t n = lanes) {
    int64_t bytes = k.spec.cacheElementBytes;
    Value v = k.loadVector(buffer, at, n,
                           n == lanes && k.spec.headDim % lanes == 0 ? lanes * bytes : bytes);
    return element == k.f16 ? k.extend(v) : v;
  }
  /// Float to cache element; what would overflow (or is no number) becomes the largest value, so
  /// that the cache stays finite: positions that a row must not see are read too and multiplied by
  /// zero.
  Value encode(Value v) {
    double most = element == k.f16 ? 65504 : 0x1.fffffep127;
    int64_t n = mlir::cast<mlir::VectorType>(v.getType()).getNumElements();
    v = k.fmax(k.fmin(v, k.splatF(most, n)), k.splatF(-most, n));
    return element == k.f16 ? k.truncate(v) : v;
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

  /// First and last position that attention of a row sees.
  struct Range {
    Value first, last;
  };
  Range visible(Value row) {
    Value at = position(row);
    Range range{k.idx(0), at};
    if (k.spec.bidirectional)
      range.last = end(row);
    if (k.spec.window) {
      range.first = k.max(k.sub(at, k.idx(k.spec.window - 1)), k.idx(0));
      if (k.spec.bidirectional)
        range.last = k.min(range.last, k.add(at, k.spec.window - 1));
    }
    return range;
  }

private:
  KernelBuilder &k;
  Buffer meta;
};

} // namespace smelt
