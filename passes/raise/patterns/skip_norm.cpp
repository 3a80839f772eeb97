// onnxruntime's fused residual norms: sum = x + skip [+ bias]; output 0 = norm(sum), output 3 =
// sum.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseSkipNorm(RaiseContext &context, NodeOp node) {
  bool isLayerNorm = node.getType() == "SkipLayerNormalization";
  std::optional<Rows> x = context.rowsOf(inputOf(node, 0)), skip = context.rowsOf(inputOf(node, 1));
  if (!x || !skip)
    return Match::blocked();
  if (x->axes != skip->axes || !x->isFlat())
    return Match::near("its inputs differ in shape");
  for (unsigned i = 1; i < node->getNumResults(); ++i)
    if (i != 3 && !node->getResult(i).use_empty())
      return Match::near("its output " + std::to_string(i) + " (mean or deviation) is used");
  if (inputOf(node, isLayerNorm ? 4 : 3))
    return Match::near("it has a bias input");
  OpBuilder &builder = context.builder;
  Type type = x->value.getType();
  Value weight = context.makeVector(inputOf(node, 2), x->width());
  Value bias =
      isLayerNorm && inputOf(node, 3) ? context.makeVector(inputOf(node, 3), x->width()) : Value();
  if (!weight || (isLayerNorm && inputOf(node, 3) && !bias))
    return Match::near("its weight is not an initializer of " + std::to_string(x->width()) +
                       " elements");
  Value sum = slm::AddOp::create(builder, node.getLoc(), type, x->value, skip->value);
  APFloat epsilon(exactDecimal(floatOf(node, "epsilon", 1e-12)));
  Value norm;
  if (isLayerNorm)
    norm = slm::LayerNormOp::create(builder, node.getLoc(), type, sum, weight, bias, epsilon);
  else
    norm = slm::RmsNormOp::create(builder, node.getLoc(), type, sum, weight, epsilon);
  context.setRows(node->getResult(0), norm, x->axes);
  if (node->getNumResults() > 3)
    context.setRows(node->getResult(3), sum, x->axes);
  return Match::yes();
}

} // namespace smelt
