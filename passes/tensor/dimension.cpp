// Which dimension of which value a dimension is: what makes lengths that are the same one value, so
// that comparisons of them fold.
#include "passes/tensor/builder.h"

#include "passes/lower/tensor_spec.h"
#include "passes/raise/context.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt::tensor {

namespace {

/// Chains of values longer than this are not followed.
constexpr int deepest = 1500;

bool isOneOf(StringRef type, std::initializer_list<StringRef> names) {
  return llvm::is_contained(names, type);
}

} // namespace

/// The inputs of an elementwise op, or of the batches of a product, that may decide a dimension
/// that lies `fromEnd` axes before the last.
Dimension Builder::broadcastDimension(Value value, ArrayRef<Value> inputs, int64_t fromEnd,
                                      int depth) {
  std::optional<Dimension> found;
  for (Value input : inputs) {
    int64_t axis = rank(input) - 1 - fromEnd;
    if (axis < 0 || dim(input, axis) == 1)
      continue;
    Dimension next = dimension(input, axis, depth + 1);
    if (found && !(*found == next))
      return {value, rank(value) - 1 - fromEnd, dynamic};
    found = next;
  }
  return found ? *found : Dimension{value, rank(value) - 1 - fromEnd, dynamic};
}

Dimension Builder::dimensionOfNode(NodeOp node, Value value, int64_t axis, int depth) {
  Dimension self{value, axis, dynamic};
  StringRef type = node.getType();
  std::optional<TensorOp> op = findTensorOp(type.str());
  if (!op || node->getNumRegions() != 0)
    return self;
  Value first = inputOf(node, 0);
  auto follow = [&](Value next, int64_t at) { return dimension(next, at, depth + 1); };
  auto list = [&](StringRef name) {
    auto given = node.getNodeAttributes().getAs<DenseI64ArrayAttr>(name);
    return given ? given.asArrayRef() : ArrayRef<int64_t>();
  };
  if (tensorOpInfo(*op).isMap)
    return broadcastDimension(value, SmallVector<Value>(node.getInputs()), rank(value) - 1 - axis,
                              depth);
  if (type == "Transpose")
    return follow(first, list("perm")[size_t(axis)]);
  if (type == "Unsqueeze")
    return follow(first, axis - llvm::count_if(list("axes"), [&](int64_t a) { return a < axis; }));
  if (type == "Squeeze") {
    for (int64_t dropped : list("axes")) // ascending
      axis += dropped <= axis;
    return follow(first, axis);
  }
  if (type.starts_with("Reduce")) {
    if (!integerOf(node, "keepdims", 0))
      for (int64_t dropped : list("axes"))
        axis += dropped <= axis;
    return follow(first, axis);
  }
  if (type == "Slice")
    return llvm::is_contained(list("axes"), axis) ? self : follow(first, axis);
  if (type == "Concat")
    return integerOf(node, "axis", 0) == axis ? self : follow(first, axis);
  if (isOneOf(type, {"CumSum", "Trilu", "ScatterElements", "ScatterND"}))
    return follow(first, axis);
  if (type == "Gather") {
    int64_t at = integerOf(node, "axis", 0), count = rank(node.getInputs()[1]);
    if (axis >= at && axis < at + count)
      return follow(node.getInputs()[1], axis - at);
    return follow(first, axis < at ? axis : axis - count + 1);
  }
  if (type == "MatMul") {
    int64_t fromEnd = rank(value) - 1 - axis;
    if (fromEnd < 2)
      return follow(node.getInputs()[fromEnd == 0 ? 1 : 0],
                    rank(node.getInputs()[fromEnd == 0 ? 1 : 0]) - 1 - fromEnd);
    return broadcastDimension(value, SmallVector<Value>(node.getInputs()), fromEnd, depth);
  }
  if (type == "Reshape") {
    Dimension given = element(node.getInputs()[1], axis, depth + 1);
    bool isCopied = given.known == 0 && !integerOf(node, "allowzero", 0) && axis < rank(first);
    if (isCopied)
      return follow(first, axis);
    return given.root || given.known > 0 ? given : self;
  }
  if (type == "ConstantOfShape") {
    Dimension given = element(first, axis, depth + 1);
    return given.root || given.known >= 0 ? given : self;
  }
  if (type == "Expand") {
    Dimension given = element(node.getInputs()[1], axis, depth + 1);
    int64_t at = axis - (rank(value) - rank(first));
    if (given.known == 1 && at >= 0)
      return follow(first, at);
    if (given.root && (at < 0 || dim(first, at) == 1))
      return given;
  }
  return self;
}

Dimension Builder::dimension(Value value, int64_t axis, int depth) {
  Dimension self{value, axis, dynamic};
  if (!value || axis < 0 || axis >= rank(value))
    return self;
  if (dim(value, axis) != dynamic)
    return {Value(), 0, dim(value, axis)};
  if (depth > deepest)
    return self;
  auto key = std::make_pair(value, axis);
  if (auto found = dimensions.find(key); found != dimensions.end())
    return found->second;
  Dimension result = self;
  if (auto node = value.getDefiningOp<NodeOp>())
    result = dimensionOfNode(node, value, axis, depth);
  else if (auto linear = value.getDefiningOp<slm::LinearOp>(); linear && axis == 0)
    result = dimension(linear.getInput(), 0, depth + 1);
  else if (auto table = value.getDefiningOp<slm::EmbeddingOp>(); table && axis == 0)
    result = dimension(table.getIds(), 0, depth + 1);
  return dimensions[key] = result;
}

/// Element `index` of a value of rank 0 or 1: a known number, a dimension, or nothing.
Dimension Builder::element(Value value, int64_t index, int depth) {
  Dimension none;
  if (!value || depth > deepest)
    return none;
  if (std::optional<Tensor> tensor = constant(value))
    return index < tensor->elements() && tensor->shape.size() <= 1
               ? Dimension{Value(), 0, tensor->integer(index)}
               : none;
  auto node = value.getDefiningOp<NodeOp>();
  if (!node || rank(value) > 1 || node->getNumResults() != 1)
    return none;
  StringRef type = node.getType();
  Value first = inputOf(node, 0);
  if (type == "Shape")
    return dimension(first, integerOf(node, "start", 0) + index, depth + 1);
  bool isWhole = isa<IntegerType>(element(value)) && !element(value).isInteger(1);
  if (isWhole && isOneOf(type, {"Cast", "Unsqueeze", "Squeeze"}) && rank(first) <= 1 &&
      isa<IntegerType>(element(first)))
    return element(first, index, depth + 1);
  if (type == "Reshape" && rank(first) <= 1)
    return element(first, index, depth + 1);
  if (type == "Concat") {
    int64_t length = dim(first, 0);
    if (length == dynamic)
      return none;
    return index < length ? element(first, index, depth + 1)
                          : element(node.getInputs()[1], index - length, depth + 1);
  }
  std::optional<Tensor> where =
      node.getInputs().size() > 1 ? constant(node.getInputs()[1]) : std::nullopt;
  if (rank(first) != 1 || !where || dim(first, 0) == dynamic)
    return none;
  auto fromFront = [&](int64_t at) { return at < 0 ? at + dim(first, 0) : at; };
  if (type == "Gather" && index < where->elements())
    return element(first, fromFront(where->integer(index)), depth + 1);
  if (type == "Slice" && where->elements() == 1 && !inputOf(node, 3))
    return element(first, std::max<int64_t>(0, fromFront(where->integer(0))) + index, depth + 1);
  return none;
}

/// The dimension as a value of rank 1; null for none.
Value Builder::asValue(const Dimension &dimension) {
  if (!dimension.root)
    return dimension.known == dynamic ? Value() : i64(ArrayRef<int64_t>(dimension.known));
  return dimsOf(dimension.root, dimension.axis, 1);
}

} // namespace smelt::tensor
