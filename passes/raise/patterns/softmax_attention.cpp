// Attention written out: softmax(softcap(scale q k^T) + mask) v, with the scale split over q, k and
// the scores as it comes.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// Scores before the softmax, taken apart from the outside in: softcap(scale q k^T) plus biases.
struct Scores {
  NodeOp product; ///< q k^T
  SmallVector<ScoreBias> biases;
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

/// A reshape that changes nothing, or only joins or parts batch and heads, [batch, heads, ..] and
/// [batch * heads, ..]: its input.
Value skipHeadReshape(RaiseContext &context, Value value) {
  NodeOp reshape = nodeOf(value, "Reshape");
  if (!reshape)
    return value;
  for (size_t i = 0; i < 2; ++i) {
    const Tensor *to = context.sample(value, i), *from = context.sample(reshape.getInputs()[0], i);
    if (!to || !from)
      return value;
    if (from->shape == to->shape)
      continue;
    const Tensor *longer = from->shape.size() == 4 ? from : to,
                 *shorter = longer == from ? to : from;
    if (longer->shape.size() != 4 || shorter->shape.size() != 3 ||
        longer->shape[0] != context.binding(i).batch || longer->shape[2] != shorter->shape[1] ||
        longer->shape[3] != shorter->shape[2] || longer->elements() != shorter->elements())
      return value;
  }
  return strip(reshape.getInputs()[0]);
}

/// True if the value follows from the graph's mask and sizes.
bool isKnown(RaiseContext &context, Value value) {
  const Tensor *tensor = context.sample(value, 0);
  return tensor && tensor->hasData();
}

/// Takes one step from the outside of the scores inwards; `factor` multiplies what is left.
bool peelScores(RaiseContext &context, Value &value, double &factor, Scores &scores) {
  double constant = 1;
  Value inner = skipHeadReshape(context, value);
  if (inner != value) {
    value = inner;
    return true;
  }
  if (peelFactor(context, value, constant)) {
    factor *= constant;
    return true;
  }
  // s + bias
  if (NodeOp add = nodeOf(value, "Add"))
    for (unsigned side = 0; side < 2; ++side)
      if (isKnown(context, add.getInputs()[side])) {
        scores.biases.push_back({add.getInputs()[side], factor});
        value = add.getInputs()[1 - side];
        return true;
      }
  // Where(mask, s, -inf)
  if (NodeOp where = nodeOf(value, "Where")) {
    std::optional<double> hidden = context.scalar(where.getInputs()[2]);
    if (hidden && *hidden * factor <= -1e4 && isKnown(context, where.getInputs()[0])) {
      scores.biases.push_back({where.getInputs()[0], 1});
      value = where.getInputs()[1];
      return true;
    }
  }
  return false;
}

/// softmax(softcap(scale q k^T) + biases)
bool readSoftmax(RaiseContext &context, Value value, Scores &scores) {
  NodeOp softmax = nodeOf(skipNanGuard(context, skipHeadReshape(context, strip(value))), "Softmax");
  const Tensor *shape = softmax ? context.sample(softmax->getResult(0), 0) : nullptr;
  if (!shape)
    return false;
  int64_t axis = integerOf(softmax, "axis", -1);
  if (axis != -1 && axis != int64_t(shape->shape.size()) - 1)
    return false;
  value = softmax.getInputs()[0];
  double factor = 1;
  while (peelScores(context, value, factor, scores))
    ;
  // cap * tanh(s / cap): the factor outside is the cap, the one inside its inverse times the scale
  if (NodeOp tanh = nodeOf(value, "Tanh")) {
    if (factor <= 0)
      return false;
    scores.softcap = factor;
    factor = 1;
    value = tanh.getInputs()[0];
    size_t outside = scores.biases.size();
    while (peelScores(context, value, factor, scores))
      ;
    // A bias below the cap is none of softcap(s) + bias.
    if (scores.biases.size() != outside)
      return false;
    factor *= scores.softcap;
  }
  scores.scale = factor;
  scores.product = nodeOf(value, "MatMul");
  return bool(scores.product);
}

} // namespace

Match raiseSoftmaxAttention(RaiseContext &context, NodeOp node) {
  // The product with the values, or the reshape that parts batch and heads after it
  NodeOp product = node;
  if (node.getType() == "Reshape") {
    product = nodeOf(skipHeadReshape(context, node->getResult(0)), "MatMul");
    if (!product)
      return Match::no();
  }
  Scores scores;
  if (!readSoftmax(context, product.getInputs()[0], scores))
    return Match::no();
  // q [batch, heads, sequence, dim]
  std::optional<Rows> query =
      rowsOrPermuted(context, skipHeadReshape(context, strip(scores.product.getInputs()[0])));
  if (!query)
    return Match::blocked();
  if (query->axes.size() != 4 || query->axes[0] != axisBatch || query->axes[2] != axisSequence)
    return Match::near("its query is not [batch, heads, sequence, head size]");
  int64_t heads = query->axes[1], dim = query->axes[3];
  for (size_t i = 0; i < 2; ++i)
    if (const Tensor *result = context.sample(node->getResult(0), i);
        !result || result->shape != context.samplesAt(i).shapeOf(query->axes))
      return Match::no(); // batch and heads are joined; the reshape after it parts them
  // k^T [batch, heads, dim, total], v [batch, heads, total, dim]
  std::string why;
  std::optional<HeadView> key = headView(context, strip(scores.product.getInputs()[1]), true, why);
  std::optional<HeadView> value =
      key ? headView(context, strip(product.getInputs()[1]), false, why) : std::nullopt;
  if (!key || !value)
    return Match::near(why);
  // One key head for all queries may be left to broadcasting.
  auto fits = [&](const HeadView &view) {
    return view.heads * view.repeat == heads || view.heads * view.repeat == 1;
  };
  if (!fits(*key) || !fits(*value) || key->heads != value->heads || key->dim != dim ||
      value->dim != dim || value->scale != 1)
    return Match::near("its keys, values and queries differ in heads or head size");
  // A plain mask is the same for all heads; biases that differ by head are slopes.
  std::optional<AttentionMask> mask;
  if (scores.biases.empty())
    mask = attentionMaskOf(context, {}, why);
  else if (scores.biases.size() == 1 && scores.biases[0].factor == 1)
    mask = attentionMaskOf(context, scores.biases[0].value, why);
  std::vector<double> slopes;
  if (!mask && scores.biases.empty())
    return Match::near(why);
  if (!mask) {
    std::string whySloped;
    auto known = slopesOf(context, scores.biases, heads, whySloped);
    if (!known)
      return Match::near(why.empty() ? whySloped : why);
    slopes = std::move(*known);
    mask = AttentionMask{};
  }

  double scale = scores.scale * key->scale;
  query->value = peelScale(query->value, scale);
  AttentionParts parts{*query, key->rows.value, value->rows.value, heads,       key->heads,
                       dim,    scale,           scores.softcap,    mask->window};
  parts.slopes = std::move(slopes);
  parts.isBidirectional = mask->isBidirectional;
  context.setRows(node->getResult(0), makeAttention(context, parts), query->axes);
  return Match::yes();
}

} // namespace smelt
