// What the two halves of the evaluator share.
#pragma once

#include "passes/raise/evaluate.h"

#include <functional>

namespace smelt::evaluation {

using Results = std::optional<llvm::SmallVector<Tensor>>;

/// A node being evaluated.
struct Call {
  llvm::StringRef type;
  mlir::DictionaryAttr attributes;
  llvm::ArrayRef<const Tensor *> inputs;
  size_t resultCount;

  const Tensor *input(size_t index) const {
    return index < inputs.size() ? inputs[index] : nullptr;
  }
  int64_t integer(llvm::StringRef name, int64_t otherwise) const;
  /// A list given as an attribute (old opsets) or as input `index` (new ones).
  std::optional<llvm::SmallVector<int64_t>> list(llvm::StringRef name, size_t index) const;
};

Results one(Tensor tensor);
/// Row-major strides.
llvm::SmallVector<int64_t> stridesOf(llvm::ArrayRef<int64_t> shape);
/// The shape both broadcast to, or nothing.
std::optional<llvm::SmallVector<int64_t, 5>> broadcast(llvm::ArrayRef<int64_t> a,
                                                       llvm::ArrayRef<int64_t> b);
/// `axis` counted from the front, or nothing if out of range.
std::optional<int64_t> axisOf(int64_t axis, size_t rank);
/// A tensor of `shape` whose element i comes from `source` element index(i); value dropped if
/// unknown or too large.
Tensor gatherElements(const Tensor &source, llvm::ArrayRef<int64_t> shape,
                      llvm::function_ref<int64_t(llvm::ArrayRef<int64_t>)> index);
/// Calls `visit` with every index of `shape`, in row-major order.
void forEachIndex(llvm::ArrayRef<int64_t> shape,
                  llvm::function_ref<void(llvm::ArrayRef<int64_t>)> visit);

/// Elementwise, comparison, reduction and generator ops; nothing if `call` is none of them.
Results evaluateArithmetic(const Call &call);
/// Ops that move elements without changing them.
Results evaluateMovement(const Call &call);

} // namespace smelt::evaluation
