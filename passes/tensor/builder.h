// What decompositions are written with: one call a primitive op, types inferred, constants folded.
//
// A failure sticks: once fail() was called, every call returns a null value until the next node, so
// that formulas need no checks between their steps.
#pragma once

#include "passes/raise/tensor.h"
#include "passes/tensor/tensor.h"

#include "compiler/dialect/onnx.h"
#include "compiler/dialect/slm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include "llvm/ADT/StringMap.h"

#include <map>
#include <optional>
#include <string>
#include <variant>

namespace smelt::tensor {

using llvm::ArrayRef;
using llvm::SmallVector;
using llvm::StringRef;
using mlir::Type;
using mlir::Value;

constexpr int64_t dynamic = mlir::ShapedType::kDynamic;

/// The element type that values of a stored or declared type have here: half precision is computed
/// in float, unsigned and 16-bit whole numbers in the next wider type; null if there is none.
Type computedType(Type element);
/// The same for a TensorProto.DataType, and one that gives `element`.
Type computedTypeOf(int64_t onnxType, mlir::MLIRContext *context);
int64_t onnxTypeOf(Type element);

/// A view of an initializer: element i... lies at offset + sum(i * strides).
struct WeightView {
  int64_t id = 0;
  mlir::StringAttr name;
  int64_t offset = 0;
  Type element; ///< as stored
  SmallVector<int64_t, 4> shape, strides;
};

/// A number: dimension `axis` of `root`, or `known`; neither: not known.
struct Dimension {
  Value root;
  int64_t axis = 0;
  int64_t known = dynamic;
  bool operator==(const Dimension &other) const {
    return root == other.root && axis == other.axis && known == other.known;
  }
};

/// Attributes of a node being made.
class Attributes {
public:
  Attributes &ints(StringRef name, ArrayRef<int64_t> values) {
    return put(name, SmallVector<int64_t>(values));
  }
  Attributes &integer(StringRef name, int64_t value) { return put(name, value); }
  Attributes &attribute(StringRef name, mlir::Attribute value) { return put(name, value); }
  mlir::DictionaryAttr get(mlir::MLIRContext *context) const;

private:
  using Entry = std::variant<int64_t, SmallVector<int64_t>, mlir::Attribute>;
  Attributes &put(StringRef name, Entry entry) {
    entries.emplace_back(name.str(), std::move(entry));
    return *this;
  }
  std::vector<std::pair<std::string, Entry>> entries;
};

class Builder {
public:
  Builder(mlir::func::FuncOp function, TensorWeights *weights);

  // --- the node being taken apart
  void start(onnx_ir::NodeOp node);
  onnx_ir::NodeOp node() const { return current; }
  int64_t opset() const { return standardOpset; }
  Value input(unsigned index) const; ///< null if omitted
  unsigned inputs() const { return unsigned(current.getInputs().size()); }
  bool uses(unsigned result) const; ///< somebody reads result `result` of the node
  int64_t integer(StringRef name, int64_t otherwise) const;
  double real(StringRef name, double otherwise) const;
  std::string string(StringRef name, StringRef otherwise) const;
  std::optional<SmallVector<int64_t>> ints(StringRef name) const;
  bool has(StringRef name) const { return bool(current.getNodeAttributes().get(name)); }
  /// A list of whole numbers given as attribute `name` (old opsets) or as constant input `index`;
  /// nothing if neither is there. Fails if the input is no constant.
  std::optional<SmallVector<int64_t>> list(StringRef name, unsigned index);

  // --- failure
  std::nullptr_t fail(const llvm::Twine &why);
  bool failed() const { return !why.empty(); }
  const std::string &reason() const { return why; }

  // --- facts
  int64_t rank(Value value) const;
  int64_t dim(Value value, int64_t axis) const; ///< `dynamic` if not known; axis may be negative
  Type element(Value value) const;              ///< computed
  bool isFloat(Value value) const { return value && mlir::isa<mlir::FloatType>(element(value)); }
  int64_t axis(int64_t axis, int64_t rank); ///< from the front; fails if out of range
  std::optional<Tensor> constant(Value value) const;
  std::optional<int64_t> constantInteger(Value value) const;
  std::optional<WeightView> weightView(Value value) const;
  TensorWeights *store() const { return weights; }
  /// The value that a dimension goes back to.
  Dimension dimension(Value value, int64_t axis, int depth = 0);
  Dimension element(Value value, int64_t index, int depth);

  // --- making
  mlir::OpBuilder at; ///< stands where the next op goes
  /// A primitive op with one result.
  Value make(StringRef type, ArrayRef<Value> inputs, const Attributes &attributes = {});
  /// The same with results whose rank the caller knows better than inference does.
  SmallVector<Value> makeAll(StringRef type, ArrayRef<Value> inputs, const Attributes &attributes,
                             unsigned results, int64_t rankHint = -1);
  Value constant(Type element, ArrayRef<int64_t> shape, const std::vector<double> &values);
  Value i64(ArrayRef<int64_t> values);    ///< rank 1
  Value i64(int64_t value);               ///< rank 0
  Value like(Value value, double scalar); ///< rank 0, of value's element type
  Value floatScalar(double value);
  /// A stored row of floats, as onnx.weight.
  Value addWeight(const llvm::Twine &name, std::vector<float> values, ArrayRef<int64_t> shape);

  // --- formulas
  Value add(Value a, Value b) { return make("Add", {a, b}); }
  Value sub(Value a, Value b) { return make("Sub", {a, b}); }
  Value mul(Value a, Value b) { return make("Mul", {a, b}); }
  Value div(Value a, Value b) { return make("Div", {a, b}); }
  Value add(Value a, double b) { return make("Add", {a, like(a, b)}); }
  Value sub(Value a, double b) { return make("Sub", {a, like(a, b)}); }
  Value mul(Value a, double b) { return b == 1 ? a : make("Mul", {a, like(a, b)}); }
  Value div(Value a, double b) { return make("Div", {a, like(a, b)}); }
  Value unary(StringRef type, Value a) { return make(type, {a}); }
  Value where(Value condition, Value a, Value b) { return make("Where", {condition, a, b}); }
  Value cast(Value value, Type element);
  Value toFloat(Value value) { return cast(value, at.getF32Type()); }
  Value toI64(Value value) { return cast(value, at.getI64Type()); }
  Value matmul(Value a, Value b) { return make("MatMul", {a, b}); }
  Value reduce(StringRef type, Value value, ArrayRef<int64_t> axes, bool keep = true);
  Value transpose(Value value, ArrayRef<int64_t> order);
  Value reshape(Value value, ArrayRef<int64_t> shape); ///< 0 copies a dimension, -1 infers one
  Value reshape(Value value, Value shape, bool allowZero = false, int64_t rankHint = -1);
  Value squeeze(Value value, ArrayRef<int64_t> axes);
  Value unsqueeze(Value value, ArrayRef<int64_t> axes);
  Value expand(Value value, Value shape);
  Value concat(ArrayRef<Value> values, int64_t axis);
  Value gather(Value value, Value indices, int64_t axis);
  Value shapeOf(Value value);                              ///< i64 [rank]
  Value dimOf(Value value, int64_t axis);                  ///< i64 scalar
  Value dimsOf(Value value, int64_t first, int64_t count); ///< i64 [count]
  /// value[first : end : step] along one axis; `end` INT64_MAX: to the end.
  Value slice(Value value, int64_t axis, int64_t first, int64_t end, int64_t step = 1);
  Value slice(Value value, int64_t axis, Value first, Value end); ///< bounds rank 0 or 1
  Value range(Value count) { return make("Range", {i64(0), count, i64(1)}); }
  /// `value` (rank 0) as rank 1.
  Value asVector(Value value) { return rank(value) == 0 ? unsqueeze(value, {0}) : value; }
  /// softmax over `axis`; rows of nothing but -inf give NaN, as the formula says.
  Value softmax(Value value, int64_t axis);

  std::string uniqueName(StringRef name);
  /// Stored tensors made so far, by what they were made of.
  llvm::StringMap<Value> made;

  /// Values made inside a region may not be reused outside of it.
  class Scope {
  public:
    explicit Scope(Builder &builder) : builder(builder), saved(builder.known) {}
    ~Scope() { builder.known = std::move(saved); }

  private:
    Builder &builder;
    std::map<std::vector<const void *>, SmallVector<Value>> saved;
  };

private:
  friend class Scope;
  std::optional<SmallVector<Value>> fold(StringRef type, ArrayRef<Value> inputs,
                                         mlir::DictionaryAttr attributes,
                                         ArrayRef<mlir::RankedTensorType> results);
  Value simplify(StringRef type, ArrayRef<Value> inputs, mlir::DictionaryAttr attributes,
                 mlir::RankedTensorType result);
  Value simplifyLength(StringRef type, ArrayRef<Value> inputs, mlir::DictionaryAttr attributes,
                       mlir::RankedTensorType result);
  Dimension dimensionOfNode(onnx_ir::NodeOp node, Value value, int64_t axis, int depth);
  Dimension broadcastDimension(Value value, ArrayRef<Value> inputs, int64_t fromEnd, int depth);
  Value asValue(const Dimension &dimension);

  mlir::func::FuncOp function;
  TensorWeights *weights;
  mutable onnx_ir::NodeOp current;
  std::string why;
  int64_t standardOpset = 0;
  std::map<std::vector<const void *>, SmallVector<Value>> known; ///< by op, inputs and attributes
  llvm::DenseMap<mlir::Attribute, Value> constants;
  llvm::StringMap<int> names;
  llvm::DenseMap<std::pair<Value, int64_t>, Dimension> dimensions;
};

/// The types of a primitive's results, or nothing and `why`.
std::optional<SmallVector<mlir::RankedTensorType>>
inferTypes(Builder &builder, StringRef type, ArrayRef<Value> inputs,
           mlir::DictionaryAttr attributes, unsigned results, int64_t rankHint, std::string &why);
/// True if `type` is a primitive.
bool isPrimitive(StringRef type);

/// Attribute of a node that cannot run: the reason; empty if only its inputs are to blame.
constexpr llvm::StringLiteral tensorWhyAttribute = "tensor.why";

} // namespace smelt::tensor
