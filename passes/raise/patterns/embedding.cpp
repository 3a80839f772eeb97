// Embedding: y[t] = table[ids[t]].
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseEmbedding(RaiseContext &context, NodeOp node) {
  if (integerOf(node, "axis", 0) != 0)
    return Match::no();
  // Gather(table [V, W], ids) -> [batch, sequence, W]
  std::optional<WeightRef> table = context.weightOf(node.getInputs()[0]);
  if (!table || table->shape.size() != 2)
    return Match::no();
  if (!context.isIds(node.getInputs()[1]))
    return Match::near("the indices are not the graph's input_ids");
  int64_t width = table->shape[1];
  auto type = RankedTensorType::get({ShapedType::kDynamic, width}, context.builder.getF32Type());
  Value weight = context.makeMatrix(node.getInputs()[0]);
  Value rows = slm::EmbeddingOp::create(
      context.builder, node.getLoc(), type, context.ids, weight, APFloat(1.0),
      context.builder.getStringAttr(context.uniqueName(node.getName())), StringAttr(),
      IntegerAttr());
  context.setRows(node->getResult(0), rows, {axisBatch, axisSequence, width});
  return Match::yes();
}

} // namespace smelt
