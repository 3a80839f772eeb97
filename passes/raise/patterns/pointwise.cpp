// Functions of one element, recognised by their values: however an exporter writes gelu, its graph
// takes the same values on a grid.
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// The activation functions of slm.td; gelu: https://arxiv.org/abs/1606.08415, silu: x sigmoid(x).
struct Known {
  slm::Activation kind;
  double (*function)(double);
};
constexpr Known knownActivations[] = {
    {slm::Activation::Relu, [](double x) { return std::max(x, 0.0); }},
    {slm::Activation::Relu2, [](double x) { return x > 0 ? x * x : 0.0; }},
    {slm::Activation::Silu, [](double x) { return x * sigmoid(x); }},
    {slm::Activation::GeluTanh,
     [](double x) {
       return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
     }},
    {slm::Activation::GeluErf,
     [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
};

/// Largest distance of the values from a function's, relative to 1 + its magnitude.
template <typename Function>
double distanceOnGrid(const std::vector<double> &values, Function function) {
  double largest = 0;
  for (auto [x, y] : llvm::zip(pointwiseGrid(), values)) {
    double expected = function(x);
    double distance = std::fabs(y - expected) / (1 + std::fabs(expected));
    largest = distance <= largest ? largest : std::isnan(distance) ? INFINITY : distance;
  }
  return largest;
}
template <typename Function>
bool equalsOnGrid(const std::vector<double> &values, Function function) {
  return distanceOnGrid(values, function) <= 2e-6;
}

/// How far a node's values may be from a function for the constants being rounded to its type.
double slackOf(NodeOp node) {
  auto type = dyn_cast<ShapedType>(node->getResult(0).getType());
  bool isHalf =
      type && isa<FloatType>(type.getElementType()) && type.getElementTypeBitWidth() == 16;
  return isHalf ? (type.getElementType().isF16() ? 0x1p-11 : 0x1p-8) : 2e-6;
}

/// Gelu as one op: the standard one and onnxruntime's.
std::optional<Tensor> evaluateGelu(NodeOp node, const Tensor &input) {
  bool isTanh = node.getType() == "FastGelu" || stringOf(node, "approximate", "none") == "tanh";
  bool isQuick = node.getType() == "QuickGelu";
  double alpha = floatOf(node, "alpha", 1.702);
  std::vector<double> values;
  for (double x : *input.data)
    values.push_back(isQuick ? x * sigmoid(alpha * x)
                             : knownActivations[isTanh ? 3 : 4].function(x));
  return Tensor::make(TensorKind::Float, input.shape, std::move(values));
}

/// The node's function of `base`, if every operand is one or a constant.
std::optional<Pointwise> compose(RaiseContext &context, NodeOp node, Value base) {
  std::optional<Pointwise> result;
  SmallVector<Tensor> inputs(node.getInputs().size());
  SmallVector<const Tensor *> pointers;
  for (auto [index, input] : llvm::enumerate(node.getInputs())) {
    bool found = false;
    for (Pointwise &function : context.pointwiseOf(strip(input))) {
      if (function.base != base || (result && result->axes != function.axes))
        continue;
      inputs[index] =
          Tensor::make(TensorKind::Float, {int64_t(function.values.size())}, function.values);
      result = Pointwise{base, function.axes, {}};
      found = true;
      break;
    }
    if (!found) {
      std::optional<double> constant = context.scalar(input);
      if (!constant)
        return std::nullopt;
      inputs[index] = Tensor::scalar(TensorKind::Float, *constant);
    }
    pointers.push_back(&inputs[index]);
  }
  if (!result)
    return std::nullopt;
  std::optional<Tensor> value;
  if (node.getType().contains("Gelu") && node.getInputs().size() == 1)
    value = evaluateGelu(node, inputs[0]);
  else if (node.getDomain().empty())
    if (auto results = evaluateNode(node.getType(), node.getNodeAttributes(), pointers, 1))
      value = results->front();
  if (!value || !value->hasData() || value->elements() != int64_t(pointwiseGrid().size()))
    return std::nullopt;
  result->values = *value->data;
  return result;
}

/// Raises `function` if it is one of the model dialect's.
Value raiseFunction(RaiseContext &context, NodeOp node, const Pointwise &function) {
  OpBuilder &builder = context.builder;
  Type type = function.base.getType();
  Location location = node.getLoc();
  // y = factor * x
  double factor = function.values.back() / pointwiseGrid().back();
  if (equalsOnGrid(function.values, [&](double x) { return x; }))
    return function.base;
  if (std::isfinite(factor) && factor != 0 &&
      equalsOnGrid(function.values, [&](double x) { return factor * x; })) {
    if (auto embedding = function.base.getDefiningOp<slm::EmbeddingOp>()) {
      APFloat scale(embedding.getScale().convertToDouble() * factor);
      return slm::EmbeddingOp::create(
          builder, location, type, embedding.getIds(), embedding.getTable(), scale,
          embedding.getNameAttr(), StringAttr(), IntegerAttr(), embedding.getPositionOffsetAttr(),
          embedding.getTokenTypesAttr());
    }
    return slm::ScaleOp::create(builder, location, type, function.base, APFloat(factor));
  }
  // y = kind(x)
  const Known *nearest = nullptr;
  double least = slackOf(node);
  for (const Known &known : knownActivations)
    if (double distance = distanceOnGrid(function.values, known.function); distance <= least) {
      nearest = &known;
      least = distance;
    }
  if (nearest)
    return slm::ActivationOp::create(builder, location, type, function.base, nearest->kind);
  // y = cap * tanh(x / cap): the last grid point is far in the flat part
  double cap = function.values.back();
  if (cap > 0 && equalsOnGrid(function.values, [&](double x) { return cap * std::tanh(x / cap); }))
    return slm::SoftcapOp::create(builder, location, type, function.base, APFloat(cap));
  return {};
}

} // namespace

Match raisePointwise(RaiseContext &context, NodeOp node) {
  std::vector<Pointwise> composed;
  for (Value input : node.getInputs())
    for (const Pointwise &candidate : context.pointwiseOf(strip(input))) {
      bool isSeen = llvm::any_of(
          composed, [&](const Pointwise &other) { return other.base == candidate.base; });
      if (isSeen)
        continue;
      if (std::optional<Pointwise> function = compose(context, node, candidate.base))
        composed.push_back(std::move(*function));
    }
  if (composed.empty())
    return Match::no();
  // The newest few bases suffice: an activation is written within a dozen nodes of its input.
  constexpr size_t kept = 4;
  if (composed.size() > kept)
    composed.erase(composed.begin(), composed.end() - kept);
  context.pointwise[node->getResult(0)] = composed;
  for (const Pointwise &function : composed)
    if (Value rows = raiseFunction(context, node, function)) {
      context.setRows(node->getResult(0), rows, function.axes);
      return Match::yes();
    }
  return Match::near("as a function of one element it is no known activation yet");
}

} // namespace smelt
