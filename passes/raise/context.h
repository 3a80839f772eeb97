// What the patterns of the raise pass see of a graph, and how they say what they found.
#pragma once

#include "passes/raise/samples.h"

#include "compiler/dialect/slm.h"
#include "runtime/artifact/format.h"

#include "mlir/IR/Builders.h"

#include <map>
#include <string>

namespace smelt {

/// The outcome of trying one pattern on one node. `Near`: the op fits but something else does not,
/// and `why` says what. `Blocked`: it would fit, but an input was not raised.
struct Match {
  enum Kind { No, Blocked, Near, Yes } kind = No;
  std::string why;

  static Match no() { return {}; }
  static Match yes() { return {Yes, {}}; }
  static Match blocked() { return {Blocked, {}}; }
  static Match near(std::string why) { return {Near, std::move(why)}; }
};

/// A view of rows (onnx.rows): `value` is tensor<?xWxf32>, axes as in onnx.td.
struct Rows {
  mlir::Value value;
  llvm::SmallVector<int64_t, 5> axes;

  int64_t width() const { return slm::widthOf(value); }
  /// True if the columns are one whole last axis: [..., W].
  bool isFlat() const;
};

/// A strided view of an initializer.
struct WeightRef {
  int64_t id = 0;
  mlir::StringAttr name;
  int64_t offset = 0;
  llvm::SmallVector<int64_t, 4> shape, strides;

  int64_t elements() const;
};

/// Keys or values of an attention layer: rows appended to a cache argument. As a tensor [batch,
/// heads, total, dim].
struct Cached {
  Rows rows; ///< the appended ones, axes [batch, heads, sequence, dim]
  int64_t heads, dim;
  unsigned argument; ///< of the graph
};

/// Where each element of a value comes from, if it only moves elements (perhaps negated or scaled)
/// of one source. `tags` holds, for each element, scale * (1 + index of the source element).
struct Movement {
  mlir::Value
      source; ///< rows (tensor<?xWxf32>: index is token * W + column) or the value of a Cached
  Tensor tags;
};

/// A value as a function of one element of rows: `values[i]` is the function at
/// `pointwiseGrid()[i]`.
struct Pointwise {
  mlir::Value base;
  llvm::SmallVector<int64_t, 5> axes;
  std::vector<double> values;
};
/// Points that tell the activation functions of language models apart.
llvm::ArrayRef<double> pointwiseGrid();

class RaiseContext {
public:
  explicit RaiseContext(mlir::func::FuncOp function);

  mlir::func::FuncOp function;
  mlir::OpBuilder builder; ///< stands before the node being raised
  mlir::Value ids;         ///< the tokens of the step, tensor<?xi32>
  const bool hasCache;     ///< a decoder with a cache; else texts come whole

  /// Version of the standard operators that the graph was written for.
  int64_t opset();

  // --- rows
  std::optional<Rows> rowsOf(mlir::Value value) const;
  /// Says that `value` (a node's result) is `rows` seen through `axes`; its users read that from
  /// now on.
  void setRows(mlir::Value value, mlir::Value rows, llvm::ArrayRef<int64_t> axes);

  // --- samples
  size_t bindings() const { return small.size(); }
  const Tensor *sample(mlir::Value value, size_t binding) { return small[binding].get(value); }
  const Binding &binding(size_t index) const { return small[index].inputs(); }
  Samples &samplesAt(size_t binding) { return small[binding]; }
  Samples &longSample();
  /// The value of a tensor that is the same at every binding.
  std::optional<Tensor> constant(mlir::Value value);
  /// The same for one element.
  std::optional<double> scalar(mlir::Value value);
  /// True if `value` holds the tokens' positions, the ids, ... at every binding.
  bool isPositions(mlir::Value value);
  bool isIds(mlir::Value value);
  bool isTokenTypes(mlir::Value value);
  /// The constant c if `value`, [batch or 1, sequence] or [sequence], is position + c at every
  /// token, whether it follows the graph's position_ids, past + index or the tokens counted in the
  /// mask.
  std::optional<int64_t> positionOffset(mlir::Value value);

  // --- weights
  /// An initializer, seen through transposes, reshapes that keep its elements' order, and slices.
  std::optional<WeightRef> weightOf(mlir::Value value, int depth = 0);
  /// slm.weight of a matrix.
  mlir::Value makeWeight(const WeightRef &weight, int64_t offset, int64_t rows, int64_t cols,
                         int64_t rowStride, int64_t colStride);
  /// slm.weight [1, width] of an initializer whose only axis longer than 1 is its last; null
  /// otherwise.
  mlir::Value makeVector(mlir::Value value, int64_t width);
  /// slm.weight [rows, cols] of a matrix initializer as it stands; null if it is none.
  mlir::Value makeMatrix(mlir::Value value);

  // --- movement
  /// `isDeep` looks through slm.slice and slm.scale too, to the rows that are neither.
  std::optional<Movement> movementOf(mlir::Value value, size_t binding, bool isDeep = false);
  llvm::DenseMap<mlir::Value, Cached> cached;
  /// Values that only carry the cache to the next step: graph outputs that the runtime keeps
  /// itself.
  llvm::DenseSet<mlir::Value> states;
  /// Embeddings of texts: what the runtime makes of rows, should the value be the graph's result.
  struct Pooled {
    Rows rows;
    format::Pooling pooling;
    bool isNormalized;
  };
  llvm::DenseMap<mlir::Value, Pooled> pooled;

  // --- pointwise functions; `value` itself is one of them if it is rows
  std::vector<Pointwise> pointwiseOf(mlir::Value value) const;
  llvm::DenseMap<mlir::Value, std::vector<Pointwise>> pointwise;

  // --- naming and reporting
  /// A readable name for a linear, unique in the model.
  std::string uniqueName(llvm::StringRef name);
  int64_t layers = 0; ///< attention layers raised so far

private:
  struct Trace {
    size_t binding;
    bool isDeep;
    int budget;
    mlir::Value source;
  };
  bool trace(Trace &state, mlir::Value value, int depth, Tensor &tags);
  bool traceRows(Trace &state, const Rows &rows, Tensor &tags);

  std::vector<Samples> small;
  std::optional<Samples> large;
  std::map<std::string, int> names;
};

// --- helpers that matchers share

/// The node that defines `value`, through Identity and casts between float types.
onnx_ir::NodeOp nodeOf(mlir::Value value);
/// The same if it has type `type` in the default domain.
onnx_ir::NodeOp nodeOf(mlir::Value value, llvm::StringRef type);
/// `value` behind Identity and casts between float types.
mlir::Value strip(mlir::Value value);
/// Input `index` of a node, null if it is not given.
mlir::Value inputOf(onnx_ir::NodeOp node, unsigned index);
int64_t integerOf(onnx_ir::NodeOp node, llvm::StringRef name, int64_t otherwise);
double floatOf(onnx_ir::NodeOp node, llvm::StringRef name, double otherwise);
llvm::StringRef stringOf(onnx_ir::NodeOp node, llvm::StringRef name, llvm::StringRef otherwise);
/// The shortest decimal of a float constant, as a double: 1e-6 stored as a float is meant as 1e-6.
double exactDecimal(double value);

} // namespace smelt
