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

  /// Whether a block of `width` rows, more than the registers hold, is computed by sumBlock() and
  /// then summed(), so that its weights are decoded once.
  bool decodesOnce(int64_t width) const {
    return layout.quantized && !unit && width > k.target.rowBlock && !cheapToDecode();
  }
  /// Sums of rows [0, inBlock) over all inputs, into memory of which there are `setsOfSums`.
  void sumBlock(Value tile, Value block, Value inBlock, int64_t interleave, int set);
  /// y like emit() of rows of those sums.
  Values summed(Value tile, Value block, Value firstRow, int64_t count, int64_t interleave,
                int set);

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
    bool decoded = false; ///< the codes of the weight block are in `codes`
  };

  KernelBuilder &k;
  WeightReader weights;
  ActivationLayout layout;
  bool halves;          ///< dot products of 16 inputs
  Buffer words, floats; ///< activations
  bool wholeRows;       ///< the sums of rows are integers: all inputs share their scales
  bool sharesScale;     ///< the inputs of a block share the activations' scale
  /// A shift and a mask for two rows cost less than reading codes again, where these rows have one
  /// sum each to read too (s4g32 on AVX2: 9 %).
  bool cheapToDecode() const {
    return weights.info.bits == 4 && weights.info.grid != Grid::Table && !weights.asymmetric &&
           k.target.rowBlock > 1;
  }
  static constexpr int setsOfSums = 2; ///< of gate and up
  Buffer codes;                        ///< decoded weights, where rows share them
  Buffer integers;                     ///< products of the matrix unit
  Buffer sumsOf[setsOfSums];           ///< of the rows of a block, where registers hold fewer
  std::optional<MatrixUnit> unit;      ///< where the target and the activations have one

  Place placeOf(Value weightBlock, Value block, Value firstRow, Value inputBlock, Value dot,
                int64_t count, int64_t interleave);
  /// Where dot product `dot` of a block is.
  using PlaceOfDot = llvm::function_ref<Place(Value dot)>;
  /// The integers of a dot product, added to those before, if there are any.
  using IntegerDots = llvm::function_ref<Values(const Place &at, const Values &before)>;
  Values overDots(bool asLoop, PlaceOfDot placeOf, Values state,
                  llvm::function_ref<Values(const Place &at, Values before)> step);
  Values addBlock(bool asLoop, PlaceOfDot placeOf, IntegerDots integers, Values sums);
  Values addShared(bool asLoop, PlaceOfDot placeOf, IntegerDots integers, Values sums);
  void addMinimums(const Place &at, llvm::MutableArrayRef<Value> sums);
  int64_t sumsOfRow() const { return weights.asymmetric ? 2 : 1; }
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

  // With more rows than registers (tile_product_decoded.cpp)
  std::pair<Value, Value> decodedRun(Value run);
  Values loadSums(Value firstRow, int64_t count, int set);
  void storeSums(Value firstRow, const Values &sums, int64_t count, int set);
  void decodeBlock(Value weightBlock, Value to);

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
