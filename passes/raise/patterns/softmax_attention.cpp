// Attention written out: softmax(softcap(scale q k^T) + mask) v, with the scale split over q, k and
// the scores as it comes.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// Scores before the softmax, taken apart from the outside in.
struct Scores {
  NodeOp product; ///< q k^T
  Value mask;
  double scale = 1, softcap = 0;
};

/// Where(IsNaN(p), 0, p): the rule for rows that see nothing, which no token's row is.
Value skipNanGuard(RaiseContext &context, Value value) {
  NodeOp where = nodeOf(value, "Where");
  if (!where || context.scalar(where.getInputs()[1]) != 0.0)
    return value;
  NodeOp test = nodeOf(where.getInputs()[0], "IsNaN");
  return test && strip(test.getInputs()[0]) == strip(where.getInputs()[2]) ? where.getInputs()[2]
                                                                           : value;
}

/// s * factor, s / factor: s and the factor.
bool peelFactor(RaiseContext &context, Value &value, double &factor) {
  NodeOp node = nodeOf(value);
  if (!node || !node.getDomain().empty() || (node.getType() != "Mul" && node.getType() != "Div"))
    return false;
  for (unsigned side = 0; side < 2; ++side) {
    std::optional<double> constant = context.scalar(node.getInputs()[1 - side]);
    if (!constant || (node.getType() == "Div" && side == 1))
      continue;
    factor = node.getType() == "Mul" ? *constant : 1 / *constant;
    value = node.getInputs()[side];
    return true;
  }
  return false;
}

bool readScores(RaiseContext &context, Value value, Scores &scores) {
  double factor = 1;
  while (peelFactor(context, value, factor))
    scores.scale *= factor;
  // cap * tanh(s / cap): the factor outside is the cap, the one inside its inverse times the scale
  if (NodeOp tanh = nodeOf(value, "Tanh")) {
    scores.softcap = scores.scale;
    scores.scale = 1;
    value = tanh.getInputs()[0];
    while (peelFactor(context, value, factor))
      scores.scale *= factor;
    scores.scale *= scores.softcap;
  }
  scores.product = nodeOf(value, "MatMul");
  return bool(scores.product);
}

/// softmax(scores + mask) or softmax(Where(mask, scores, -inf))
bool readSoftmax(RaiseContext &context, Value value, Scores &scores) {
  NodeOp softmax = nodeOf(skipNanGuard(context, value), "Softmax");
  if (!softmax || (integerOf(softmax, "axis", -1) != -1 && integerOf(softmax, "axis", -1) != 3))
    return false;
  Value inner = softmax.getInputs()[0];
  if (NodeOp add = nodeOf(inner, "Add"))
    for (unsigned side = 0; side < 2; ++side) {
      const Tensor *mask = context.sample(add.getInputs()[side], 0);
      if (mask && mask->hasData()) {
        scores.mask = add.getInputs()[side];
        return readScores(context, add.getInputs()[1 - side], scores);
      }
    }
  if (NodeOp where = nodeOf(inner, "Where")) {
    std::optional<double> hidden = context.scalar(where.getInputs()[2]);
    if (hidden && *hidden <= -1e4) {
      scores.mask = where.getInputs()[0];
      return readScores(context, where.getInputs()[1], scores);
    }
  }
  return readScores(context, inner, scores);
}

} // namespace

Match raiseSoftmaxAttention(RaiseContext &context, NodeOp node) {
  Scores scores;
  if (!readSoftmax(context, node.getInputs()[0], scores))
    return Match::no();
  // q [batch, heads, sequence, dim]
  std::optional<Rows> query = context.rowsOf(strip(scores.product.getInputs()[0]));
  if (!query)
    return Match::blocked();
  if (query->axes.size() != 4 || query->axes[0] != axisBatch || query->axes[2] != axisSequence)
    return Match::near("its query is not [batch, heads, sequence, head size]");
  int64_t heads = query->axes[1], dim = query->axes[3];
  // k^T [batch, heads, dim, total], v [batch, heads, total, dim]
  std::string why;
  std::optional<HeadView> key = headView(context, strip(scores.product.getInputs()[1]), true, why);
  std::optional<HeadView> value =
      key ? headView(context, strip(node.getInputs()[1]), false, why) : std::nullopt;
  if (!key || !value)
    return Match::near(why);
  // One key head for all queries may be left to broadcasting.
  auto fits = [&](const HeadView &view) {
    return view.heads * view.repeat == heads || view.heads * view.repeat == 1;
  };
  if (!fits(*key) || !fits(*value) || key->heads != value->heads || key->dim != dim ||
      value->dim != dim || value->scale != 1)
    return Match::near("its keys, values and queries differ in heads or head size");
  if (!scores.mask)
    return Match::near("it has no mask: attention in both directions is not known");
  std::optional<CausalMask> mask = causalMaskOf(context, scores.mask, why);
  if (!mask)
    return Match::near(why);

  double scale = scores.scale * key->scale;
  query->value = peelScale(query->value, scale);
  AttentionParts parts{*query, key->rows.value, value->rows.value, heads,       key->heads,
                       dim,    scale,           scores.softcap,    mask->window};
  context.setRows(node->getResult(0), makeAttention(context, parts), query->axes);
  return Match::yes();
}

} // namespace smelt
