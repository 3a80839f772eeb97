// Embeddings: y[t] = table[ids[t]], table[position of t + offset] where positions are learned, or
// table[token type of t].
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

/// The axes of what a node looks up with `indices`, whose shape is [batch or 1, sequence] or
/// [sequence]; nothing if it is another.
static std::optional<SmallVector<int64_t, 5>> axesOf(RaiseContext &context, Value indices) {
  SmallVector<int64_t, 5> axes;
  const Tensor *first = context.sample(indices, 0);
  if (!first || first->shape.empty() || first->shape.size() > 2)
    return std::nullopt;
  for (size_t i = 0; i < first->shape.size(); ++i)
    axes.push_back(i + 1 == first->shape.size() ? axisSequence
                   : first->shape[i] == 1       ? 1
                                                : axisBatch);
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *tensor = context.sample(indices, i);
    if (!tensor || tensor->shape != context.samplesAt(i).shapeOf(axes))
      return std::nullopt;
  }
  return axes;
}

/// True if every index is 0: a graph without token types reads the row of type 0.
static bool isZero(RaiseContext &context, Value indices) {
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *tensor = context.sample(indices, i);
    if (!tensor || !tensor->hasData() ||
        llvm::any_of(*tensor->data, [](double index) { return index != 0; }))
      return false;
  }
  return true;
}

Match raiseEmbedding(RaiseContext &context, NodeOp node) {
  if (integerOf(node, "axis", 0) != 0)
    return Match::no();
  // Gather(table [V, W], indices [batch, sequence]) -> [batch, sequence, W]
  std::optional<WeightRef> table = context.weightOf(node.getInputs()[0]);
  if (!table || table->shape.size() != 2)
    return Match::no();
  Value indices = node.getInputs()[1];
  std::optional<SmallVector<int64_t, 5>> axes = axesOf(context, indices);
  OpBuilder &builder = context.builder;
  IntegerAttr positionOffset, tokenTypes;
  if (!axes)
    return Match::near("the indices are not [batch, sequence]");
  if (context.isTokenTypes(indices)) {
    tokenTypes = builder.getI64IntegerAttr(table->shape[0]);
  } else if (isZero(context, indices)) {
    tokenTypes = builder.getI64IntegerAttr(1);
  } else if (!context.isIds(indices)) {
    std::optional<int64_t> offset = context.positionOffset(indices);
    if (!offset)
      return Match::near("the indices are neither the graph's input_ids nor the tokens' positions");
    if (*offset >= table->shape[0])
      return Match::near("the positions lie outside the table");
    positionOffset = builder.getI64IntegerAttr(*offset);
  }
  int64_t width = table->shape[1];
  auto type = RankedTensorType::get({ShapedType::kDynamic, width}, builder.getF32Type());
  Value weight = context.makeMatrix(node.getInputs()[0]);
  Value rows =
      slm::EmbeddingOp::create(builder, node.getLoc(), type, context.ids, weight, APFloat(1.0),
                               builder.getStringAttr(context.uniqueName(node.getName())),
                               StringAttr(), IntegerAttr(), positionOffset, tokenTypes);
  axes->push_back(width);
  context.setRows(node->getResult(0), rows, *axes);
  return Match::yes();
}

} // namespace smelt
