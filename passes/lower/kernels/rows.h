// Dealing rows to threads, and writing one row as activations: shared by Norm and Quantize.
#pragma once

#include "passes/lower/kernels/builder.h"

namespace smelt {

/// Calls `body(row, begin, end)` for this thread's work on rows of `units` column units each: whole
/// rows where there are many; the only row is shared by units, so what a unit needs of the whole
/// row is computed by every thread.
inline void forRows(KernelBuilder &k, int64_t units,
                    const std::function<void(Value, Value, Value)> &body) {
  if (k.spec.one) {
    auto [begin, end] = k.threadShare(k.idx(units));
    body(k.idx(0), begin, end);
    return;
  }
  auto [begin, end] = k.threadShare(k.rowCount());
  k.loop(begin, end, 1, [&](Value row) { body(row, k.idx(0), k.idx(units)); });
}

/// The input row of output row `row`: itself, or LogitRows[row] (operand i) when the kernel
/// gathers.
inline Value sourceRow(KernelBuilder &k, int i, Value row) {
  return k.spec.gatherRows ? k.toIndex(k.load(k.operand(i, k.i32), row)) : row;
}

/// Gives 16 lanes from a column, of which n exist (the others are zero; n <= 0: none).
using ColumnSource = std::function<Value(Value column, int64_t n)>;

/// Writes this thread's share of all rows as activations of the spec's format. `open(row)` prepares
/// a row (may emit code) and returns its columns.
void emitActivations(KernelBuilder &k, Buffer out,
                     const std::function<ColumnSource(Value row)> &open);

} // namespace smelt
