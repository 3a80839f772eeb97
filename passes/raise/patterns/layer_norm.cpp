// Layer norm: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * w + b
// (https://arxiv.org/abs/1607.06450).
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// True if `value` is ReduceMean over the last axis, kept.
bool isLastMean(RaiseContext &context, NodeOp mean, size_t rank) {
  if (!mean || integerOf(mean, "keepdims", 1) != 1)
    return false;
  if (auto list = mean.getNodeAttributes().getAs<DenseI64ArrayAttr>("axes"))
    return list.size() == 1 && (list[0] == -1 || list[0] == int64_t(rank) - 1);
  std::optional<double> axis = context.scalar(inputOf(mean, 1));
  return axis && (*axis == -1 || *axis == double(rank) - 1);
}

struct Centered {
  Rows rows;
  double epsilon;
};

/// d / sqrt(v) or d * (1 / sqrt(v)): d and v, null if `value` is neither.
std::pair<Value, Value> rootQuotient(RaiseContext &context, Value value) {
  if (NodeOp div = nodeOf(value, "Div")) {
    NodeOp root = nodeOf(div.getInputs()[1], "Sqrt");
    return {div.getInputs()[0], root ? root.getInputs()[0] : Value()};
  }
  if (NodeOp mul = nodeOf(value, "Mul"))
    for (unsigned side = 0; side < 2; ++side)
      if (Value root = inverseRootOf(context, mul.getInputs()[1 - side]))
        return {mul.getInputs()[side], root};
  return {};
}

/// d / sqrt(mean(d^2) + epsilon) with d = x - mean(x)
std::optional<Centered> matchCentered(RaiseContext &context, Value value) {
  auto [numerator, variance] = rootQuotient(context, value);
  NodeOp difference = numerator ? nodeOf(numerator, "Sub") : NodeOp();
  NodeOp add = variance ? nodeOf(variance, "Add") : NodeOp();
  if (!difference || !add)
    return std::nullopt;
  // d = x - mean(x)
  std::optional<Rows> rows = context.rowsOf(strip(difference.getInputs()[0]));
  NodeOp mean = nodeOf(difference.getInputs()[1], "ReduceMean");
  if (!rows || !isLastMean(context, mean, rows->axes.size()) ||
      strip(mean.getInputs()[0]) != strip(difference.getInputs()[0]))
    return std::nullopt;
  for (unsigned side = 0; side < 2; ++side) {
    // mean(d^2) + epsilon
    std::optional<double> epsilon = context.scalar(add.getInputs()[side]);
    NodeOp squares = nodeOf(add.getInputs()[1 - side], "ReduceMean");
    if (!epsilon || !isLastMean(context, squares, rows->axes.size()))
      continue;
    NodeOp square = nodeOf(squares.getInputs()[0]);
    bool isSquare = square && square.getDomain().empty() &&
                    ((square.getType() == "Pow" && context.scalar(square.getInputs()[1]) == 2.0) ||
                     (square.getType() == "Mul" &&
                      strip(square.getInputs()[0]) == strip(square.getInputs()[1])));
    if (isSquare && nodeOf(square.getInputs()[0]) == difference)
      return Centered{*rows, *epsilon};
  }
  return std::nullopt;
}

Match finish(RaiseContext &context, NodeOp node, const Rows &rows, Value weight, Value bias,
             double epsilon) {
  if (!rows.isFlat())
    return Match::near("the norm is not over the whole row");
  Value w = context.makeVector(weight, rows.width()),
        b = bias ? context.makeVector(bias, rows.width()) : Value();
  if (!w || (bias && !b))
    return Match::near("its weight or bias is not an initializer of " +
                       std::to_string(rows.width()) + " elements");
  Value result = slm::LayerNormOp::create(context.builder, node.getLoc(), rows.value.getType(),
                                          rows.value, w, b, APFloat(exactDecimal(epsilon)));
  context.setRows(node->getResult(0), result, rows.axes);
  return Match::yes();
}

/// rms_norm(x - mean(x)) w: what is centred has its deviation as root mean square.
Match raiseCenteredRms(RaiseContext &context, NodeOp node) {
  NodeOp difference = nodeOf(node.getInputs()[0], "Sub");
  std::optional<Rows> rows =
      difference ? context.rowsOf(strip(difference.getInputs()[0])) : std::nullopt;
  NodeOp mean = rows ? nodeOf(difference.getInputs()[1], "ReduceMean") : NodeOp();
  if (!rows || !isLastMean(context, mean, rows->axes.size()) ||
      strip(mean.getInputs()[0]) != strip(difference.getInputs()[0]))
    return Match::no();
  int64_t axis = integerOf(node, "axis", -1);
  if ((axis != -1 && axis != int64_t(rows->axes.size()) - 1) ||
      integerOf(node, "stash_type", 1) != 1)
    return Match::near("only axis -1 and stash_type 1 are known");
  for (unsigned i = 1; i < node->getNumResults(); ++i)
    if (!node->getResult(i).use_empty())
      return Match::near("its second output, the inverse deviation, is used");
  return finish(context, node, *rows, node.getInputs()[1], {}, floatOf(node, "epsilon", 1e-5));
}

} // namespace

Match raiseLayerNorm(RaiseContext &context, NodeOp node) {
  if (node.getType() == "RMSNormalization" || node.getType() == "SimplifiedLayerNormalization")
    return raiseCenteredRms(context, node);
  if (node.getType() == "LayerNormalization") {
    std::optional<Rows> rows = context.rowsOf(node.getInputs()[0]);
    if (!rows)
      return Match::blocked();
    int64_t axis = integerOf(node, "axis", -1);
    if ((axis != -1 && axis != int64_t(rows->axes.size()) - 1) ||
        integerOf(node, "stash_type", 1) != 1)
      return Match::near("only axis -1 and stash_type 1 are known");
    for (unsigned i = 1; i < node->getNumResults(); ++i)
      if (!node->getResult(i).use_empty())
        return Match::near("its outputs mean or deviation are used");
    return finish(context, node, *rows, node.getInputs()[1], inputOf(node, 2),
                  floatOf(node, "epsilon", 1e-5));
  }
  // normalized * w + b
  if (node.getType() == "Add") {
    for (unsigned side = 0; side < 2; ++side) {
      NodeOp mul = nodeOf(node.getInputs()[1 - side], "Mul");
      if (!mul || !context.weightOf(node.getInputs()[side]))
        continue;
      for (unsigned inner = 0; inner < 2; ++inner)
        if (context.weightOf(mul.getInputs()[inner]))
          if (std::optional<Centered> centered = matchCentered(context, mul.getInputs()[1 - inner]))
            return finish(context, node, centered->rows, mul.getInputs()[inner],
                          node.getInputs()[side], centered->epsilon);
    }
    return Match::no();
  }
  // normalized * w, without a bias unless an Add of an initializer follows
  for (unsigned side = 0; side < 2; ++side) {
    if (!context.weightOf(node.getInputs()[side]))
      continue;
    std::optional<Centered> centered = matchCentered(context, node.getInputs()[1 - side]);
    if (!centered)
      continue;
    for (Operation *user : node->getUsers()) {
      auto add = dyn_cast<NodeOp>(user);
      if (add && add.getType() == "Add" &&
          (context.weightOf(add.getInputs()[0]) || context.weightOf(add.getInputs()[1])))
        return Match::no();
    }
    return finish(context, node, centered->rows, node.getInputs()[side], {}, centered->epsilon);
  }
  return Match::no();
}

} // namespace smelt
