// Sums and products of two rows: y = a + b, y = a * b, y = activation(gate) * up.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

/// The axes of a sum of rows: those of both, or of one where the other is the same for every batch,
/// [1, sequence, W] or [sequence, W] for [batch, sequence, W].
static std::optional<SmallVector<int64_t, 5>> joinedAxes(const Rows &a, const Rows &b) {
  const Rows &longer = a.axes.size() >= b.axes.size() ? a : b, &other = &longer == &a ? b : a;
  SmallVector<int64_t, 5> axes = longer.axes;
  size_t shift = longer.axes.size() - other.axes.size();
  if (shift > 0 && (shift != 1 || axes[0] != axisBatch))
    return std::nullopt;
  for (size_t i = 0; i < other.axes.size(); ++i) {
    int64_t &axis = axes[shift + i];
    bool isShared =
        (axis == axisBatch && other.axes[i] == 1) || (axis == 1 && other.axes[i] == axisBatch);
    if (axis != other.axes[i] && !isShared)
      return std::nullopt;
    axis = std::min(axis, other.axes[i]);
  }
  return axes;
}

Match raiseElementwise(RaiseContext &context, NodeOp node) {
  std::optional<Rows> a = context.rowsOf(node.getInputs()[0]),
                      b = context.rowsOf(node.getInputs()[1]);
  if (!a || !b)
    return a || b ? Match::blocked() : Match::no();
  std::optional<SmallVector<int64_t, 5>> axes = joinedAxes(*a, *b);
  if (!axes)
    return Match::near("its inputs differ in shape");
  OpBuilder &builder = context.builder;
  Type type = a->value.getType();
  Value result;
  if (node.getType() == "Add") {
    result = slm::AddOp::create(builder, node.getLoc(), type, a->value, b->value);
  } else {
    // activation(gate) * up, in either order
    for (auto [gate, up] : {std::pair(a->value, b->value), std::pair(b->value, a->value)})
      if (auto activation = gate.getDefiningOp<slm::ActivationOp>();
          activation && !result && gate != up)
        result = slm::GatedOp::create(builder, node.getLoc(), type, activation.getInput(), up,
                                      activation.getKind());
    if (!result)
      result = slm::MulOp::create(builder, node.getLoc(), type, a->value, b->value);
  }
  context.setRows(node->getResult(0), result, *axes);
  return Match::yes();
}

} // namespace smelt
