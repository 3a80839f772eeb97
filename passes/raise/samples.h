// Sample runs of a graph's shape, mask and angle arithmetic: what stands in for symbolic
// propagation.
//
// A graph is evaluated at several sizes with prime-like, distinct dimensions and random padding.
// Whatever holds at all of them (this dimension is the batch, this tensor is a causal mask, these
// are the angles of position p) is what the graph computes.
#pragma once

#include "passes/raise/evaluate.h"

#include "compiler/dialect/onnx.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace smelt {

/// Axes of an onnx.rows op that are not column factors (onnx.td).
constexpr int64_t axisBatch = -1, axisSequence = -2, axisTokens = -3;

/// What an argument of the graph is, found by type, rank and interface name.
enum class Role { Ids, Mask, Positions, TokenTypes, Cache, Unknown };
Role roleOf(mlir::func::FuncOp function, unsigned argument);

/// One size and one content of the graph's inputs.
struct Binding {
  int64_t batch, sequence, past;
  std::vector<double> ids;       ///< [batch, sequence]
  std::vector<double> mask;      ///< [batch, past + sequence], 1 for tokens, 0 for padding
  std::vector<double> positions; ///< [batch, sequence]
  std::vector<double> types;     ///< [batch, sequence], 0 or 1

  int64_t total() const { return past + sequence; }
  bool isToken(int64_t b, int64_t t) const { return mask[size_t(b * total() + t)] != 0; }
};

/// True if the graph has a cache input: a decoder that goes on where the last step ended.
bool hasCacheInput(mlir::func::FuncOp function);

/// The sizes every value is evaluated at. 0 and 1 have batch and sequence over 1; 2 starts at
/// position 0 with an empty cache. Without a cache input nothing is past at any of them.
std::vector<Binding> smallBindings(bool hasCache);
/// One token after many others, or as long a text as a mask of [sequence, sequence] allows: shows
/// windows that are longer than any small binding.
Binding longBinding(bool hasCache);

/// Values of one binding, worked out when asked for.
class Samples {
public:
  Samples(mlir::func::FuncOp function, Binding binding)
      : function(function), binding(std::move(binding)) {}

  /// Shape and, if it follows from the inputs' contents alone, value; null if not even the shape is
  /// known.
  const Tensor *get(mlir::Value value);
  const Binding &inputs() const { return binding; }
  /// The tensor shape of axes as in onnx.rows.
  llvm::SmallVector<int64_t, 5> shapeOf(llvm::ArrayRef<int64_t> axes) const;

private:
  std::optional<Tensor> argument(mlir::BlockArgument argument);
  std::optional<Tensor> evaluate(mlir::Value value);

  mlir::func::FuncOp function;
  Binding binding;
  llvm::DenseMap<mlir::Value, std::shared_ptr<const Tensor>> known; ///< null: not known
};

} // namespace smelt
