// Decoding of packed weights (formats.h) on a GPU: what one thread, that is one row of a tile,
// reads.
#pragma once

#include "passes/lower/gpu_kernels/builder.h"

namespace smelt {

/// Words that are loaded in one place and decoded in another: one run through the code that decodes
/// them records what it loads, and another one replays it.
class WordTape {
public:
  void record() { words.clear(), isReplay = false; }
  void replay(ValueRange loaded) { words.assign(loaded.begin(), loaded.end()), isReplay = true; }
  const Values &recorded() const { return words; }

  /// What `load` gives, or gave.
  Value word(const std::function<Value()> &load) {
    if (isReplay)
      return words[next++ % words.size()];
    words.push_back(load());
    return words.back();
  }

private:
  Values words;
  size_t next = 0; ///< to be replayed
  bool isReplay = false;
};

/// One row of the tiles of a packed linear. Tiles and blocks are given by their first word.
class WeightWords {
public:
  /// `row`: 0 .. 15, as index.
  WeightWords(GpuBuilder &k, Words weights, Value row, WordTape *tape = nullptr);

  /// Keeps the table in registers, where `zero` is 0 but the compilers do not see it: left alone,
  /// ptxas brings the constants anew for each use.
  void holdTable(Value zero);

  const FormatInfo &info;
  bool signedBytes; ///< codes are two's complement values: 8-bit grids (code - 128) and the table
  bool asymmetric, given;
  int64_t dotInputs; ///< inputs summed before a scale: 16 in groups of 16, else 32

  /// The codes of inputs 8 run .. 8 run + 3 of a block, a byte each, and those of the next four.
  /// Not for f32.
  std::pair<Value, Value> run(Value block, Value run);
  /// Input `input` of an f32 block.
  Value number(Value block, Value input) { return k.asFloat(line(block, 0, input)); }
  /// The value of code `i` of a word of codes before scales, as float; `zero`: zeroPoint() or null.
  Value codeValue(Value codes, int64_t i, Value zero);

  /// Of dot product `dot` (of 64 / dotInputs): the scale, none in f32 and s8c; the minimum of
  /// asymmetric formats; the zero point (int32) of those that the model file gives, less 128 where
  /// bytes are signed.
  Value scale(Value block, Value dot);
  Value minimum(Value block, Value dot);
  Value zeroPoint(Value block, Value dot);
  /// Of the row: the scale of s8c, or ds; none in the others. dm of asymmetric formats.
  Value rowScale(Value tile);
  Value rowMinimum(Value tile) { return rowFactor(tile, 1); }

private:
  GpuBuilder &k;
  Words words;
  Value row;
  WordTape *tape;
  Values table; ///< its words; none in other formats

  Value word(Value at);
  Value line(Value block, int64_t firstLine, Value index);
  Value wordOf(Value code, llvm::ArrayRef<Value> words, int64_t first);
  Value lookUp(Value codes);
  std::pair<Value, Value> permuted(Value nibbles, llvm::ArrayRef<Value> words);
  Value headerByte(Value block, int64_t offset, Value group);
  Value groupOf(Value dot);
  Value rowFactor(Value tile, int64_t i);
  int64_t groups() const { return blockInputs / info.group; }
};

} // namespace smelt
