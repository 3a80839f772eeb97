// The product of one tile of packed weights with a few activation rows held in registers.
#pragma once

#include "passes/lower/kernels/group_dot.h"
#include "passes/lower/kernels/matrix_unit.h"

#include <optional>

namespace smelt {

/// Emits the arithmetic that linear.cpp's head comment defines, up to the epilogue.
class TileProduct {
public:
  explicit TileProduct(KernelBuilder &k);

  /// What every thread does before the first product, and after the last.
  void begin() {
    if (unit)
      unit->configure();
  }
  void end() {
    if (unit)
      unit->release();
  }
  /// Whether whole blocks of rows are multiplied by a matrix unit, which takes no fewer.
  bool multipliesBlocks() const { return unit.has_value(); }

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
  bool halves;                    ///< dot products of 16 inputs
  Buffer words, floats;           ///< activations
  bool wholeRows;                 ///< the sums of rows are integers: all inputs share their scales
  Buffer codes, integers;         ///< with a matrix unit: weights for it, and its products
  std::optional<MatrixUnit> unit; ///< where the target and the activations have one

  Values integerDots(const Place &at, const Values &sums);
  Values centred(const Place &at, Values totals, const Values &offsets);
  Values scaledRows(Value block, Value firstRow, int64_t count, int64_t interleave,
                    const Values &totals);
  void prefetchAhead(Value weightBlock);
  Values floatsOf(const Values &integers);
  Values pairTotals(const Place &at, llvm::ArrayRef<std::pair<Value, Value>> runs,
                    llvm::ArrayRef<Value> starts, int64_t plane, Value firstQuad);
  Values floatDots(const Place &at);
  void accumulate(const Place &at, const Values &dots, Values &sums);
  Values finish(Value tile, const Values &sums, int64_t count);
  Value weightColumn(Value quad, int64_t i, Value zero);
  Value load(Buffer buffer, const Place &at, int64_t offset, Value item, int64_t r);

  // With a matrix unit (tile_product_matrix.cpp)
  MatrixUnit matrixUnit();
  int64_t productsOfBlock() const { return blockInputs / weights.dotInputs * layout.planes; }
  void decode(Value weightBlock, Value slot);
  void loadWeights(int matrix, Value weightBlock, Value slot, int64_t input);
  void loadActivations(int matrix, Value activations, Value block, int64_t plane, int64_t input);
  void multiply(Value weightBlock, Value activations, Value block, Value slot);
  Values multiplied(const Place &at, Value slot);
  Values multipliedRows(Value first, Value activations);
  Values emitMatrix(Value tile, Value activations);

  int64_t sumOffset() const { return halves ? layout.halfSumOffset : layout.sumOffset; }
};

} // namespace smelt
