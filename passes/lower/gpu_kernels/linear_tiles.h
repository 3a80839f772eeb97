// Products of tiles of weights by the matrix unit of NVIDIA's devices.
#pragma once

#include "passes/lower/gpu_kernels/linear_dots.h"

#include <deque>

namespace smelt {

/// A warp's fragments of a tile of weights: which thread holds what is said in linear_tiles.cpp.
class TileRows {
public:
  static constexpr int64_t rowsOfThread = 2;

  explicit TileRows(GpuBuilder &k, WordTape *tape = nullptr);

  Value inGroup, group; ///< of the thread: a warp is eight groups of four threads
  WeightWords low, high;

  /// The output row `i` (0, 1) of this thread within the tile.
  Value row(int64_t i) const { return k.add(k.mul(group, rowsOfThread), i); }
  WeightWords &weights(int64_t i) { return i == 0 ? low : high; }
  /// The words of codes of dot product `dot` of a block.
  Values codes(Value block, Value dot);

private:
  GpuBuilder &k;
};

/// The part of a tile's products with blocks of eight activation rows that a warp computes, its
/// slice of the inputs. The integers of a dot product are exact, and floats are added as by threads
/// that compute a row each: the same bits.
class TileProduct {
public:
  /// `slice`: which the warp computes.
  TileProduct(GpuBuilder &k, std::deque<ActivationWords> &blocks, Value slice);

  /// Sums A of a block of rows, then of asymmetric formats B: rows of activations.
  int64_t sums() const { return (rows.low.asymmetric ? 2 : 1) * manyInterleave; }

  /// Sums of all blocks, in terms of this thread; `tile`: its first word.
  Values emit(Value tile);
  /// Calls `write(sum, row, value)` for those of block `block` that this thread has: sum 0 ..
  /// sums() - 1 and row of the tile.
  void forSums(const Values &all, int64_t block,
               const std::function<void(Value sum, Value row, Value value)> &write);

private:
  GpuBuilder &k;
  std::deque<ActivationWords> &blocks;
  Value slice;
  TileRows rows;
  llvm::SmallVector<Value, 2> tokens; ///< the two activation rows whose sums it has
  const int64_t each;                 ///< values of a block that a thread has

  void addDot(Value block, Value dot, Value item, Values &totals);
  void integerDots(ActivationWords &x, ValueRange codes, Value item,
                   llvm::SmallVector<Values> &planes);
};

} // namespace smelt
