// Root mean square norm: y = x / sqrt(mean(x^2) + epsilon) * w (https://arxiv.org/abs/1910.07467),
// over the row or over each head.
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// Makes the norm over the last axis of `rows`, whose length is `width`.
Match finish(RaiseContext &context, NodeOp node, const Rows &rows, Value weight, double epsilon) {
  int64_t width = rows.axes.back();
  if (width < 2)
    return Match::near("the norm is not over a column axis");
  Value vector = context.makeVector(weight, width);
  if (!vector)
    return Match::near("the weight is not an initializer of " + std::to_string(width) +
                       " elements");
  APFloat exact(exactDecimal(epsilon));
  Value result;
  if (width == rows.width())
    result = slm::RmsNormOp::create(context.builder, node.getLoc(), rows.value.getType(),
                                    rows.value, vector, exact);
  else
    result = slm::HeadNormOp::create(context.builder, node.getLoc(), rows.value.getType(),
                                     rows.value, vector, uint64_t(width), exact);
  context.setRows(node->getResult(0), result, rows.axes);
  return Match::yes();
}

bool isLastAxis(int64_t axis, const Rows &rows) {
  return axis == -1 || axis == int64_t(rows.axes.size()) - 1;
}

/// x^2 of rows, in whichever form: true and `rows` set if `value` is it.
bool isSquare(RaiseContext &context, Value value, Value base) {
  for (const Pointwise &function : context.pointwiseOf(strip(value))) {
    if (function.base != base)
      continue;
    bool same = true;
    for (auto [x, y] : llvm::zip(pointwiseGrid(), function.values))
      same &= std::fabs(y - x * x) <= 1e-9 * (1 + x * x);
    if (same)
      return true;
  }
  return false;
}

/// sqrt(mean(x^2) + epsilon) or its inverse.
struct Root {
  Rows rows;
  double epsilon;
};

/// mean(x^2) + epsilon
std::optional<Root> matchMean(RaiseContext &context, Value value, Value x) {
  NodeOp add = nodeOf(value, "Add");
  std::optional<Rows> rows = context.rowsOf(strip(x));
  if (!add || !rows)
    return std::nullopt;
  for (unsigned side = 0; side < 2; ++side) {
    std::optional<double> epsilon = context.scalar(add.getInputs()[side]);
    NodeOp mean = nodeOf(add.getInputs()[1 - side], "ReduceMean");
    if (!epsilon || !mean || integerOf(mean, "keepdims", 1) != 1)
      continue;
    // ReduceMean's axes: an attribute below opset 18, an input from then on.
    int64_t axis = 0;
    if (auto list = mean.getNodeAttributes().getAs<DenseI64ArrayAttr>("axes")) {
      if (list.size() != 1)
        continue;
      axis = list[0];
    } else {
      std::optional<double> given = context.scalar(inputOf(mean, 1));
      if (!given)
        continue;
      axis = int64_t(*given);
    }
    if (isLastAxis(axis, *rows) && isSquare(context, mean.getInputs()[0], rows->value))
      return Root{*rows, *epsilon};
  }
  return std::nullopt;
}

/// x * 1/sqrt(v) or x / sqrt(v), v = mean(x^2) + epsilon
std::optional<Root> matchNormalized(RaiseContext &context, Value value) {
  if (NodeOp div = nodeOf(value, "Div")) {
    NodeOp root = nodeOf(div.getInputs()[1], "Sqrt");
    return root ? matchMean(context, root.getInputs()[0], div.getInputs()[0]) : std::nullopt;
  }
  NodeOp mul = nodeOf(value, "Mul");
  if (!mul)
    return std::nullopt;
  for (unsigned side = 0; side < 2; ++side) {
    Value x = mul.getInputs()[side], inverse = mul.getInputs()[1 - side];
    Value squared = inverseRootOf(context, inverse);
    if (!squared)
      continue;
    if (std::optional<Root> root = matchMean(context, squared, x))
      return root;
  }
  return std::nullopt;
}

} // namespace

Value inverseRootOf(RaiseContext &context, Value value) {
  NodeOp node = nodeOf(value);
  if (!node || !node.getDomain().empty())
    return {};
  NodeOp root;
  if (node.getType() == "Reciprocal")
    root = nodeOf(node.getInputs()[0], "Sqrt");
  else if (node.getType() == "Div" && context.scalar(node.getInputs()[0]) == 1.0)
    root = nodeOf(node.getInputs()[1], "Sqrt");
  else if (node.getType() == "Pow" && context.scalar(node.getInputs()[1]) == -0.5)
    return node.getInputs()[0];
  return root ? root.getInputs()[0] : Value();
}

/// Reshape(norm(Reshape(x, [.., head dim])), shape of x): each head's norm, written with heads and
/// tokens as one axis.
static Match raiseFlatHeads(RaiseContext &context, NodeOp node) {
  NodeOp norm = nodeOf(node.getInputs()[0]);
  bool isNorm = norm && (norm.getType() == "SimplifiedLayerNormalization" ||
                         norm.getType() == "RMSNormalization");
  NodeOp before = isNorm ? nodeOf(norm.getInputs()[0], "Reshape") : NodeOp();
  std::optional<Rows> rows = before ? context.rowsOf(strip(before.getInputs()[0])) : std::nullopt;
  if (!rows || !rows->isFlat() || integerOf(norm, "stash_type", 1) != 1)
    return Match::no();
  const Tensor *heads = context.sample(norm->getResult(0), 0);
  if (!heads || heads->shape.empty())
    return Match::no();
  int64_t dim = heads->shape.back(), axis = integerOf(norm, "axis", -1);
  if ((axis != -1 && axis != int64_t(heads->shape.size()) - 1) || dim < 2 || rows->width() % dim)
    return Match::near("the norm between the reshapes is not over whole heads");
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *inner = context.sample(before->getResult(0), i),
                 *outer = context.sample(node->getResult(0), i);
    if (!inner || !outer || inner->shape.empty() || inner->shape.back() != dim ||
        outer->shape != context.samplesAt(i).shapeOf(rows->axes))
      return Match::near("the norm between the reshapes is not over whole heads");
  }
  for (unsigned i = 1; i < norm->getNumResults(); ++i)
    if (!norm->getResult(i).use_empty())
      return Match::near("its second output, the inverse deviation, is used");
  Value vector = context.makeVector(norm.getInputs()[1], dim);
  if (!vector)
    return Match::near("the weight is not an initializer of " + std::to_string(dim) + " elements");
  APFloat epsilon(exactDecimal(floatOf(norm, "epsilon", 1e-5)));
  Value result;
  if (dim == rows->width())
    result = slm::RmsNormOp::create(context.builder, norm.getLoc(), rows->value.getType(),
                                    rows->value, vector, epsilon);
  else
    result = slm::HeadNormOp::create(context.builder, norm.getLoc(), rows->value.getType(),
                                     rows->value, vector, uint64_t(dim), epsilon);
  context.setRows(node->getResult(0), result, rows->axes);
  return Match::yes();
}

Match raiseRmsNorm(RaiseContext &context, NodeOp node) {
  if (node.getType() == "Reshape")
    return raiseFlatHeads(context, node);
  // w * normalized(x), w on either side
  if (node.getType() == "Mul") {
    for (unsigned side = 0; side < 2; ++side) {
      if (!context.weightOf(node.getInputs()[side]))
        continue;
      if (std::optional<Root> root = matchNormalized(context, node.getInputs()[1 - side]))
        return finish(context, node, root->rows, node.getInputs()[side], root->epsilon);
    }
    return Match::no();
  }
  // The op itself: axis -1, computed in float (stash_type 1).
  std::optional<Rows> rows = context.rowsOf(node.getInputs()[0]);
  if (!rows)
    return Match::blocked();
  if (!isLastAxis(integerOf(node, "axis", -1), *rows) || integerOf(node, "stash_type", 1) != 1)
    return Match::near("only axis -1 and stash_type 1 are known");
  for (unsigned i = 1; i < node->getNumResults(); ++i)
    if (!node->getResult(i).use_empty())
      return Match::near("its second output, the inverse deviation, is used");
  return finish(context, node, *rows, node.getInputs()[1], floatOf(node, "epsilon", 1e-5));
}

} // namespace smelt
