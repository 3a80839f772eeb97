// Quantized or float activations (kernels/layout.h) on a GPU.
#pragma once

#include "passes/lower/gpu_kernels/builder.h"

namespace smelt {

/// The block of eight rows (one-row kernels: of one) that a kernel reads or writes.
class ActivationWords {
public:
  /// `block`: which, as index.
  ActivationWords(GpuBuilder &k, Words words, Value block)
      : layout(activationLayout(k.spec.activation, k.spec.cols, k.spec.one)), k(k), words(words) {
    first = k.mul(block, layout.blockBytes / 4);
    if (k.spec.one) {
      rows = width = k.idx(1);
      return;
    }
    rows = k.min(k.sub(k.rowCount(), k.mul(block, layout.interleave)), k.idx(layout.interleave));
    width = k.idx(layout.interleave);
    for (int64_t fits = layout.interleave / 2; fits >= 1; fits /= 2)
      width = k.select(k.lessEqual(rows, k.idx(fits)), k.idx(fits), width);
  }

  const ActivationLayout layout;
  Value rows;  ///< of the block
  Value width; ///< rows side by side

  /// Where the row's item `i` of an array at byte `offset` of the block lies.
  Value place(int64_t offset, Value i, Value lane) {
    return k.add(k.add(first, offset / 4), k.add(k.mul(i, width), lane));
  }
  /// The row's item `i` of an array at byte `offset` of the block; `lane`: row within the block.
  Value word(int64_t offset, Value i, Value lane) { return k.word(words, place(offset, i, lane)); }
  Value number(int64_t offset, Value i, Value lane) { return k.asFloat(word(offset, i, lane)); }
  void setWord(int64_t offset, Value i, Value lane, Value value) {
    k.setWord(words, place(offset, i, lane), value);
  }
  void setNumber(int64_t offset, Value i, Value lane, Value value) {
    setWord(offset, i, lane, k.asBits(value));
  }

private:
  GpuBuilder &k;
  Words words;
  Value first;
};

/// The value of a column below the spec's width, of the row that the workgroup works on.
using ColumnValue = std::function<Value(Value column)>;
/// Writes row `row` as activations of the spec's format, by all threads of the workgroup.
void writeActivations(GpuBuilder &k, Words out, Value row, const ColumnValue &value);

} // namespace smelt
