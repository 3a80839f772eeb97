// ai.onnx Attention (opset 23): y = softmax(softcap(scale q k^T) + mask) v, keys and values the
// cache with its heads repeated.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseAttention(RaiseContext &context, NodeOp node) {
  std::optional<Rows> query = context.rowsOf(inputOf(node, 0));
  if (!query)
    return Match::blocked();
  if (query->axes.size() != 4 || query->axes[0] != axisBatch || query->axes[2] != axisSequence)
    return Match::near("its query is not [batch, heads, sequence, head size]");
  if (inputOf(node, 4) || inputOf(node, 5) || inputOf(node, 6))
    return Match::near("its own past inputs are not known");
  if (integerOf(node, "is_causal", 0) || integerOf(node, "qk_matmul_output_mode", 0))
    return Match::near("is_causal without a mask and a second output are not known");
  for (unsigned i = 1; i < node->getNumResults(); ++i)
    if (!node->getResult(i).use_empty())
      return Match::near("its output " + std::to_string(i) + " is used");
  int64_t heads = query->axes[1], dim = query->axes[3];

  // k, v: cache[b, h / repeat, t, d]
  std::string why;
  std::optional<HeadView> key = headView(context, inputOf(node, 1), false, why);
  std::optional<HeadView> value =
      key ? headView(context, inputOf(node, 2), false, why) : std::nullopt;
  if (!key || !value)
    return Match::near(why);
  if (key->heads * key->repeat != heads || key->heads != value->heads ||
      key->repeat != value->repeat || key->dim != dim || value->dim != dim || value->scale != 1)
    return Match::near("its keys, values and queries differ in heads or head size");
  if (!inputOf(node, 3))
    return Match::near("it has no mask: attention in both directions is not known");
  std::optional<CausalMask> mask = causalMaskOf(context, inputOf(node, 3), why);
  if (!mask)
    return Match::near(why);

  double scale = floatOf(node, "scale", 0);
  AttentionParts parts{*query,
                       key->rows.value,
                       value->rows.value,
                       heads,
                       key->heads,
                       dim,
                       scale == 0 ? 1 / std::sqrt(double(dim)) : scale,
                       floatOf(node, "softcap", 0),
                       mask->window};
  parts.scale *= key->scale;
  context.setRows(node->getResult(0), makeAttention(context, parts), query->axes);
  return Match::yes();
}

} // namespace smelt
