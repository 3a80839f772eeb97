// Reading of movement tags: which columns, heads or repeats a value that only moves elements is
// made of.
#pragma once

#include "passes/raise/context.h"

namespace smelt {

/// A contiguous range of columns of the source's rows, seen through axes.
struct ColumnView {
  llvm::SmallVector<int64_t, 5> axes;
  int64_t first = 0, width = 0;
};
/// `value` as such a view, or nothing if its elements are permuted, repeated, scaled or mixed.
std::optional<ColumnView> columnView(RaiseContext &context, mlir::Value value, mlir::Value &source);

/// Keys or values as attention reads them: scale * source[b, h / repeat, t, d], or [.., d, t] if
/// `isTransposed`.
struct HeadView {
  Rows rows; ///< the appended ones
  int64_t heads, repeat, dim;
  double scale;
};
std::optional<HeadView> headView(RaiseContext &context, mlir::Value value, bool isTransposed,
                                 std::string &why);

} // namespace smelt
