// Activations of a workgroup's token rows in its memory, block of inputs after block: what warps
// that multiply tiles read.
#pragma once

#include "passes/lower/gpu_kernels/activation_words.h"
#include "passes/lower/gpu_kernels/linear_dots.h"

#include <deque>

namespace smelt {

/// Two blocks of 64 inputs at a time: while one is multiplied, the next one comes. Of a row's
/// sixteen words of codes those that a thread multiplies stand together, and where the four of a
/// row stand depends on the row: threads that read or write together want words of all banks.
class StagedActivations {
public:
  /// `firstBlock`: of the workgroup's `rowBlocks` blocks of rows.
  StagedActivations(GpuBuilder &k, const DotFormulas &dots, int64_t dotInputs, Value firstBlock,
                    int64_t rowBlocks);

  /// What this thread brings of input block `block`, from global memory.
  Values load(Value block);
  /// Keeps it as block `stage` (0, 1).
  void store(const Values &loaded, Value stage);

  /// For a thread with `group` and `inGroup` (linear_tiles.cpp), of block `rowBlock` of rows: the
  /// words of codes of a plane, those of the first dot product first.
  Values codes(Value stage, int64_t plane, int64_t rowBlock, Value group, Value inGroup);
  /// Numbers of the two rows of the thread: of each those of the input block's dot products.
  struct OfRows {
    Values words; ///< [rows][count]
    int64_t count = 0;
    /// `dot` of `dots`.
    Value at(int64_t row, int64_t dot, int64_t dots) const {
      return words[size_t(row * count + dot * count / dots)];
    }
  };
  OfRows scales(Value stage, int64_t rowBlock, Value inGroup) {
    return read(0, stage, rowBlock, inGroup);
  }
  OfRows scaledSums(Value stage, int64_t rowBlock, Value inGroup) {
    return read(size_t(scaledSumArray), stage, rowBlock, inGroup);
  }
  /// Of codes, times -128.
  OfRows sums(Value stage, int64_t rowBlock, Value inGroup) {
    return read(size_t(sumArray), stage, rowBlock, inGroup);
  }

private:
  /// Numbers beside the codes: of each row `count` an input block.
  struct Array {
    int64_t offset, count; ///< byte within the block of rows
    Words staged;          ///< [2][rows][count]
  };
  /// What a thread brings in a round: words at start + `stride` times the block of inputs.
  struct Source {
    Values starts;
    Value stride;
  };
  GpuBuilder &k;
  const ActivationLayout layout;
  const int64_t dotInputs, rowBlocks;
  llvm::SmallVector<Source, 4> sources; ///< of each round of codes, then of each array
  llvm::SmallVector<Array, 3> arrays;
  int64_t scaledSumArray = -1, sumArray = -1;
  Words staged; ///< int32 [2][planes][rows][16]

  int64_t rows() const { return rowBlocks * manyInterleave; }
  int64_t codeItems() const;
  int64_t rounds(int64_t items) const;
  Value item(int64_t round, int64_t items);
  Value firstQuad(Value item);
  void storeCodes(Value item, ValueRange words, Value stage);
  void addSources(Value firstBlock);
  Value slot(Value row, Value thread);
  OfRows read(size_t array, Value stage, int64_t rowBlock, Value inGroup);
};

} // namespace smelt
