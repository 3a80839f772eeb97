// Facts about values: rows, weights, constants, pointwise functions.
#include "passes/raise/context.h"

#include <cmath>
#include <cstdlib>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

bool Rows::isFlat() const {
  for (size_t i = 0; i + 1 < axes.size(); ++i)
    if (axes[i] > 1)
      return false;
  return !axes.empty() && axes.back() == width();
}

int64_t WeightRef::elements() const {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  return count;
}

ArrayRef<double> pointwiseGrid() {
  static const double grid[] = {-1e6, -100, -20,   -8,    -5, -3,   -2,   -1.5, -1,  -0.7,
                                -0.5, -0.1, -0.01, -1e-3, 0,  1e-3, 0.01, 0.1,  0.5, 0.7,
                                1,    1.5,  2,     3,     5,  8,    20,   100,  1e6};
  return grid;
}

RaiseContext::RaiseContext(func::FuncOp function)
    : function(function), builder(function.getContext()), hasCache(hasCacheInput(function)) {
  for (Binding &binding : smallBindings(hasCache))
    small.emplace_back(function, std::move(binding));
  unsigned last = function.getNumArguments();
  auto type = RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
  if (function.insertArgument(last, type, {}, function.getLoc()).succeeded())
    ids = function.getArgument(last);
}

Samples &RaiseContext::longSample() {
  if (!large)
    large.emplace(function, longBinding(hasCache));
  return *large;
}

int64_t RaiseContext::opset() {
  auto module = function->getParentOfType<ModuleOp>();
  auto opsets = module ? module->getAttrOfType<DictionaryAttr>("onnx.opsets") : DictionaryAttr();
  auto version = opsets ? opsets.getAs<IntegerAttr>("ai.onnx") : IntegerAttr();
  return version ? version.getInt() : 0;
}

// --- rows

std::optional<Rows> RaiseContext::rowsOf(Value value) const {
  auto op = value ? value.getDefiningOp<RowsOp>() : RowsOp();
  if (!op)
    return std::nullopt;
  return Rows{op.getRows(), SmallVector<int64_t, 5>(op.getAxes())};
}

void RaiseContext::setRows(Value value, Value rows, ArrayRef<int64_t> axes) {
  auto view = RowsOp::create(builder, value.getLoc(), value.getType(), rows, axes);
  auto known = pointwise.find(value);
  if (known != pointwise.end()) {
    std::vector<Pointwise> functions = known->second;
    pointwise[view.getResult()] = std::move(functions);
  }
  value.replaceAllUsesWith(view.getResult());
}

// --- constants

std::optional<Tensor> RaiseContext::constant(Value value) {
  if (!value)
    return std::nullopt;
  const Tensor *first = sample(value, 0);
  if (!first || !first->hasData())
    return std::nullopt;
  for (size_t i = 1; i < small.size(); ++i) {
    const Tensor *other = sample(value, i);
    if (!other || !other->hasData() || other->shape != first->shape || *other->data != *first->data)
      return std::nullopt;
  }
  // A value that holds only while the context is short is no constant either.
  const Tensor *late = longSample().get(value);
  if (!late || !late->hasData() || late->shape != first->shape || *late->data != *first->data)
    return std::nullopt;
  return *first;
}

std::optional<double> RaiseContext::scalar(Value value) {
  std::optional<Tensor> tensor = constant(value);
  if (!tensor || tensor->elements() != 1)
    return std::nullopt;
  return tensor->at(0);
}

bool RaiseContext::isPositions(Value value) {
  for (size_t i = 0; i < small.size(); ++i) {
    const Tensor *tensor = sample(value, i);
    if (!tensor || !tensor->hasData() || *tensor->data != binding(i).positions)
      return false;
  }
  return true;
}

bool RaiseContext::isIds(Value value) {
  for (size_t i = 0; i < small.size(); ++i) {
    const Tensor *tensor = sample(value, i);
    if (!tensor || !tensor->hasData() || tensor->shape.size() != 2 ||
        *tensor->data != binding(i).ids)
      return false;
  }
  return true;
}

bool RaiseContext::isTokenTypes(Value value) {
  for (size_t i = 0; i < small.size(); ++i) {
    const Tensor *tensor = sample(value, i);
    if (!tensor || !tensor->hasData() || *tensor->data != binding(i).types)
      return false;
  }
  return true;
}

std::optional<int64_t> RaiseContext::positionOffset(Value value) {
  enum class Meaning { Given, Index, Counted };
  for (Meaning meaning : {Meaning::Given, Meaning::Index, Meaning::Counted}) {
    std::optional<double> offset;
    bool isPosition = true;
    for (size_t i = 0; i < small.size() && isPosition; ++i) {
      const Binding &at = binding(i);
      const Tensor *tensor = sample(value, i);
      bool isShared = tensor && tensor->elements() == at.sequence && meaning == Meaning::Index;
      isPosition = tensor && tensor->hasData() && tensor->kind == TensorKind::Integer &&
                   !tensor->shape.empty() && tensor->shape.back() == at.sequence &&
                   (isShared || tensor->elements() == at.batch * at.sequence);
      for (int64_t b = 0; isPosition && b < (isShared ? 1 : at.batch); ++b) {
        double counted = 0;
        for (int64_t t = 0; t < at.total(); ++t) {
          counted += at.mask[size_t(b * at.total() + t)];
          int64_t s = t - at.past;
          if (s < 0 || (!isShared && !at.isToken(b, t)))
            continue;
          double position = meaning == Meaning::Given   ? at.positions[size_t(b * at.sequence + s)]
                            : meaning == Meaning::Index ? double(t)
                                                        : counted - 1;
          double difference = tensor->at(b * at.sequence + s) - position;
          isPosition &= !offset || *offset == difference;
          offset = difference;
        }
      }
    }
    if (isPosition && offset && *offset >= 0 && *offset < 1e6)
      return int64_t(*offset);
  }
  return std::nullopt;
}

// --- weights

/// Applies a transpose to a weight view.
static bool transposeWeight(WeightRef &weight, NodeOp node) {
  auto order = node.getNodeAttributes().getAs<DenseI64ArrayAttr>("perm");
  WeightRef before = weight;
  size_t rank = weight.shape.size();
  for (size_t i = 0; i < rank; ++i) {
    int64_t from =
        order ? (size_t(order.size()) == rank ? order[int64_t(i)] : -1) : int64_t(rank - 1 - i);
    if (from < 0 || from >= int64_t(rank))
      return false;
    weight.shape[i] = before.shape[size_t(from)];
    weight.strides[i] = before.strides[size_t(from)];
  }
  return true;
}

std::optional<WeightRef> RaiseContext::weightOf(Value value, int depth) {
  constexpr int deepest = 16;
  if (depth > deepest)
    return std::nullopt;
  value = strip(value);
  Operation *op = value ? value.getDefiningOp() : nullptr;
  WeightRef weight;
  auto start = [&](int64_t id, StringAttr name, Type type) {
    weight.id = id;
    weight.name = name;
    ArrayRef<int64_t> shape = cast<RankedTensorType>(type).getShape();
    weight.shape.assign(shape.begin(), shape.end());
    weight.strides.assign(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;)
      weight.strides[i - 1] = weight.strides[i] * shape[i];
  };
  if (auto stored = dyn_cast_or_null<WeightOp>(op)) {
    if (!isa<FloatType>(cast<RankedTensorType>(stored.getType()).getElementType()))
      return std::nullopt;
    start(stored.getId(), stored.getNameAttr(), stored.getType());
    return weight;
  }
  if (auto constant = dyn_cast_or_null<ConstantOp>(op)) {
    if (!constant.getId() ||
        !isa<FloatType>(cast<RankedTensorType>(constant.getType()).getElementType()))
      return std::nullopt;
    start(*constant.getId(), constant.getNameAttr(), constant.getType());
    return weight;
  }
  auto node = dyn_cast_or_null<NodeOp>(op);
  if (!node || !node.getDomain().empty())
    return std::nullopt;
  StringRef type = node.getType();
  if (type != "Transpose" && type != "Reshape" && type != "Squeeze" && type != "Unsqueeze")
    return std::nullopt;
  std::optional<WeightRef> inner = weightOf(node.getInputs()[0], depth + 1);
  if (!inner)
    return std::nullopt;
  weight = *inner;
  if (type == "Transpose")
    return transposeWeight(weight, node) ? std::optional(weight) : std::nullopt;
  // A reshape keeps a view only if the elements lie in order.
  int64_t expected = 1;
  for (size_t i = weight.shape.size(); i-- > 0; expected *= weight.shape[i])
    if (weight.shape[i] != 1 && weight.strides[i] != expected)
      return std::nullopt;
  const Tensor *shaped = sample(value, 0);
  if (!shaped || shaped->elements() != weight.elements())
    return std::nullopt;
  weight.shape.assign(shaped->shape.begin(), shaped->shape.end());
  weight.strides.assign(weight.shape.size(), 1);
  for (size_t i = weight.shape.size(); i-- > 1;)
    weight.strides[i - 1] = weight.strides[i] * weight.shape[i];
  return weight;
}

Value RaiseContext::makeWeight(const WeightRef &weight, int64_t offset, int64_t rows, int64_t cols,
                               int64_t rowStride, int64_t colStride) {
  auto type = RankedTensorType::get({rows, cols}, builder.getF32Type());
  return slm::WeightOp::create(
      builder, builder.getUnknownLoc(), type, builder.getI64IntegerAttr(weight.id), weight.name,
      builder.getI64IntegerAttr(weight.offset + offset), builder.getI64IntegerAttr(rowStride),
      builder.getI64IntegerAttr(colStride));
}

Value RaiseContext::makeVector(Value value, int64_t width) {
  std::optional<WeightRef> weight = value ? weightOf(value) : std::nullopt;
  if (!weight || weight->shape.empty() || weight->elements() != width ||
      weight->shape.back() != width)
    return {};
  return makeWeight(*weight, 0, 1, width, width * weight->strides.back(), weight->strides.back());
}

Value RaiseContext::makeMatrix(Value value) {
  std::optional<WeightRef> weight = value ? weightOf(value) : std::nullopt;
  if (!weight || weight->shape.size() != 2)
    return {};
  return makeWeight(*weight, 0, weight->shape[0], weight->shape[1], weight->strides[0],
                    weight->strides[1]);
}

// --- pointwise

std::vector<Pointwise> RaiseContext::pointwiseOf(Value value) const {
  std::vector<Pointwise> functions;
  auto known = pointwise.find(value);
  if (known != pointwise.end())
    functions = known->second;
  if (std::optional<Rows> rows = rowsOf(value)) {
    ArrayRef<double> grid = pointwiseGrid();
    functions.push_back({rows->value, rows->axes, std::vector<double>(grid.begin(), grid.end())});
  }
  return functions;
}

std::string RaiseContext::uniqueName(StringRef name) {
  int &count = names[name.str()];
  ++count;
  if (count == 1)
    return name.str();
  return uniqueName((name + "#" + Twine(count)).str());
}

// --- helpers

Value strip(Value value) {
  while (auto node = value ? value.getDefiningOp<NodeOp>() : NodeOp()) {
    bool isIdentity = node.getDomain().empty() && node.getType() == "Identity";
    bool isFloatCast = false;
    if (node.getDomain().empty() && node.getType() == "Cast") {
      auto from = dyn_cast<TensorType>(node.getInputs()[0].getType());
      auto to = dyn_cast<TensorType>(node.getResult(0).getType());
      isFloatCast = from && to && isa<FloatType>(from.getElementType()) &&
                    isa<FloatType>(to.getElementType());
    }
    if (!isIdentity && !isFloatCast)
      return value;
    value = node.getInputs()[0];
  }
  return value;
}

NodeOp nodeOf(Value value) {
  value = strip(value);
  return value ? value.getDefiningOp<NodeOp>() : NodeOp();
}

NodeOp nodeOf(Value value, StringRef type) {
  NodeOp node = nodeOf(value);
  return node && node.getDomain().empty() && node.getType() == type ? node : NodeOp();
}

Value inputOf(NodeOp node, unsigned index) {
  if (index >= node.getInputs().size() || node.getInputs()[index].getDefiningOp<NoneOp>())
    return {};
  return node.getInputs()[index];
}

int64_t integerOf(NodeOp node, StringRef name, int64_t otherwise) {
  auto value = node.getNodeAttributes().getAs<IntegerAttr>(name);
  return value ? value.getInt() : otherwise;
}

double floatOf(NodeOp node, StringRef name, double otherwise) {
  auto value = node.getNodeAttributes().getAs<FloatAttr>(name);
  return value ? value.getValueAsDouble() : otherwise;
}

StringRef stringOf(NodeOp node, StringRef name, StringRef otherwise) {
  auto value = node.getNodeAttributes().getAs<StringAttr>(name);
  return value ? value.getValue() : otherwise;
}

double exactDecimal(double value) {
  char text[32];
  for (int digits = 1; digits <= 9; ++digits) {
    std::snprintf(text, sizeof text, "%.*e", digits - 1, value);
    double decimal = std::strtod(text, nullptr);
    if (float(decimal) == float(value))
      return decimal;
  }
  return value;
}

} // namespace smelt
