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

/// Rows made of columns of `source`: `tags` of bindings 0 and 1 as in Movement. Made before the
/// node being raised; nothing if the columns are not the same for every token, or in an order that
/// only a linear's weights could take while `source` is none.
std::optional<Rows> rowsOfTags(RaiseContext &context, mlir::Value source,
                               llvm::ArrayRef<Tensor> tags);

/// The rows that `value` is a view of. Where its columns are a linear's in another order, or some
/// of them, a linear of those columns is made and `value` becomes its rows; nothing if it is
/// neither.
std::optional<Rows> rowsOrPermuted(RaiseContext &context, mlir::Value value);

/// Keys or values as attention reads them: scale * source[b, h / repeat, t, d], or [.., d, t] if
/// `isTransposed`. Without a cache input the rows of the text are all there is.
struct HeadView {
  Rows rows; ///< the appended ones
  int64_t heads, repeat, dim;
  double scale;
};
std::optional<HeadView> headView(RaiseContext &context, mlir::Value value, bool isTransposed,
                                 std::string &why);

} // namespace smelt
