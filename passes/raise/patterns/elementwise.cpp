// Sums and products of two rows: y = a + b, y = a * b, y = activation(gate) * up.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseElementwise(RaiseContext &context, NodeOp node) {
  std::optional<Rows> a = context.rowsOf(node.getInputs()[0]),
                      b = context.rowsOf(node.getInputs()[1]);
  if (!a || !b)
    return a || b ? Match::blocked() : Match::no();
  if (a->axes != b->axes)
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
  context.setRows(node->getResult(0), result, a->axes);
  return Match::yes();
}

} // namespace smelt
