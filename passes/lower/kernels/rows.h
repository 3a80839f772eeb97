// Dealing rows to threads, and writing one row as activations: shared by Norm and Quantize.
#pragma once

#include "passes/lower/kernels/builder.h"

namespace smelt {

/// Calls `body(row, begin, end)` for this thread's work on `rows` rows (or blocks of them) of
/// `units` column units each: all columns of some rows or, of fewer rows than threads, some columns
/// of all. What a unit needs of the whole row is then computed by every thread.
inline void forRows(KernelBuilder &k, Value rows, int64_t units,
                    const std::function<void(Value, Value, Value)> &body) {
  auto [firstUnit, endUnit] = k.threadShare(k.idx(units));
  if (k.spec.one) {
    body(k.idx(0), firstUnit, endUnit);
    return;
  }
  auto [firstRow, endRow] = k.threadShare(rows);
  Value few = k.less(rows, k.field(format::FieldThreads));
  Value begin = k.select(few, firstUnit, k.idx(0)), end = k.select(few, endUnit, k.idx(units));
  k.loop(k.select(few, k.idx(0), firstRow), k.select(few, rows, endRow), 1,
         [&](Value row) { body(row, begin, end); });
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

/// Writes columns from `column` on of the only row of `out`, activations of `cols` columns (a
/// multiple of 64) of spec.result, of which no scale is of the whole row: vectors of 16 that share
/// a scale.
void writeResults(KernelBuilder &k, Buffer out, int64_t cols, Value column,
                  llvm::ArrayRef<Value> x);

/// This thread's copy of one row of activations (KernelSpec::ownCopy), counted in rows.
inline Value copyOfThread(KernelBuilder &k) {
  return k.spec.ownCopy ? k.rem(k.field(format::FieldThread), threadCopies) : k.idx(0);
}

} // namespace smelt
