// RotaryEmbedding as one op: columns (i, i + r/2) of each head, or (2i, 2i + 1), turned by position
// * frequency[i] (https://arxiv.org/abs/2104.09864).
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseRotaryEmbedding(RaiseContext &context, NodeOp node) {
  bool isMicrosoft = node.getDomain() == "com.microsoft";
  if (isPartOfHead(context, node))
    return Match::near("it turns a part of each head, and what is put beside it is not the rest");
  std::optional<Rows> rows = rowsOrPermuted(context, inputOf(node, 0));
  if (!rows)
    return Match::blocked();
  // ai.onnx: (x, cos, sin, positions?); com.microsoft: (x, positions, cos, sin)
  Value cos = inputOf(node, isMicrosoft ? 2 : 1), sin = inputOf(node, isMicrosoft ? 3 : 2);
  Value positions = inputOf(node, isMicrosoft ? 1 : 3);
  if (integerOf(node, "is_packed_batching", 0) || floatOf(node, "scale", 1) != 1)
    return Match::near("packed batches and scales are not known");
  // x is [batch, heads, sequence, dim], or [batch, sequence, heads * dim] with num_heads
  int64_t heads = integerOf(node, "num_heads", 0), headDim = 0;
  ArrayRef<int64_t> axes = rows->axes;
  if (axes.size() == 4 && axes[0] == axisBatch && axes[2] == axisSequence)
    headDim = axes[3];
  else if (axes.size() == 3 && axes[0] == axisBatch && axes[1] == axisSequence && heads > 0 &&
           axes[2] % heads == 0)
    headDim = axes[2] / heads;
  else if (axes.size() == 3 && isMicrosoft && heads == 0 && axes[0] == axisBatch &&
           axes[1] == axisSequence)
    if (std::optional<WeightRef> table = context.weightOf(cos); table && table->shape.size() == 2)
      headDim = 2 * table->shape[1];
  if (headDim <= 0 || rows->width() % headDim)
    return Match::near("its input is neither [batch, heads, sequence, dim] nor [batch, sequence, "
                       "columns] with num_heads");
  bool isInterleaved = integerOf(node, "interleaved", 0) != 0;
  int64_t rotary = integerOf(node, "rotary_embedding_dim", 0);
  Value result;
  if (positions) {
    // Tables [positions, r/2] indexed by the tokens' positions
    Value cosTable = context.makeMatrix(cos), sinTable = context.makeMatrix(sin);
    if (!cosTable || !sinTable || slm::widthOf(cosTable) != slm::widthOf(sinTable))
      return Match::near("its tables are not initializers [positions, columns]");
    if (!context.isPositions(positions))
      return Match::near("its positions are not the graph's position_ids");
    int64_t dim = 2 * slm::widthOf(cosTable);
    if ((rotary != 0 && rotary != dim) || dim > headDim)
      return Match::near("rotary_embedding_dim does not fit its tables");
    result =
        slm::RopeOp::create(context.builder, node.getLoc(), rows->value.getType(), rows->value,
                            cosTable, sinTable, uint64_t(headDim), uint64_t(dim), isInterleaved);
  } else {
    // Tables [batch, sequence, r/2] that the graph computes
    std::string why;
    std::optional<Angles> angles = anglesOf(context, cos, sin, false, false, why);
    if (!angles)
      return Match::near(why);
    int64_t dim = 2 * int64_t(angles->inverseFrequency.size());
    if (dim > headDim || (rotary != 0 && rotary != dim))
      return Match::near("rotary_embedding_dim does not fit its tables");
    result = makeRope(context, rows->value, *angles, headDim, isInterleaved);
  }
  context.setRows(node->getResult(0), result, rows->axes);
  return Match::yes();
}

} // namespace smelt
