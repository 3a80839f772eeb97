// The product of one tile of packed weights with a few activation rows held in registers.
#pragma once

#include "passes/lower/kernels/group_dot.h"

namespace smelt {

/// Emits the arithmetic that linear.cpp's head comment defines, up to the epilogue.
class TileProduct {
public:
  explicit TileProduct(KernelBuilder &k);

  /// y[row] (vector of 16 outputs) for rows [firstRow, firstRow + count) of the activation block at
  /// byte `block`, which has `interleave` rows side by side; `tile` is the byte offset of the
  /// packed tile.
  Values emit(Value tile, Value block, Value firstRow, int64_t count, int64_t interleave);

private:
  /// Where the operands of one dot product lie.
  struct Place {
    Value weights; ///< byte of the weight block
    Value rows;    ///< byte of the activation block
    Value firstRow;
    Value group;    ///< of 32 inputs, along the whole row
    Value sumIndex; ///< of the dot product: `group`, or along the row in halves
    Value dot;      ///< within the weight block
    int64_t count;  ///< rows
    int64_t interleave;
  };

  KernelBuilder &k;
  WeightReader weights;
  ActivationLayout layout;
  bool halves;          ///< dot products of 16 inputs
  Buffer words, floats; ///< activations
  bool wholeRows;       ///< the sums of rows are integers: all inputs share their scales

  Values integerDots(const Place &at, const Values &sums);
  Values floatsOf(const Values &integers);
  Values pairTotals(const Place &at, llvm::ArrayRef<std::pair<Value, Value>> runs,
                    llvm::ArrayRef<Value> starts, int64_t plane, Value firstQuad);
  Values floatDots(const Place &at);
  void accumulate(const Place &at, const Values &dots, Values &sums);
  Values finish(Value tile, const Values &sums, int64_t count);
  Value weightColumn(Value quad, int64_t i, Value zero);
  Value load(Buffer buffer, const Place &at, int64_t offset, Value item, int64_t r);
  int64_t sumOffset() const { return halves ? layout.halfSumOffset : layout.sumOffset; }
};

} // namespace smelt
