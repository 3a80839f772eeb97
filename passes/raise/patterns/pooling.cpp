// Embeddings of texts: the mean of the tokens' rows, or one row, scaled to length 1. What they are
// is noted for the end of the graph, where the runtime makes them of the rows.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// True if `node` reduces the given axis alone.
bool reducesAxis(RaiseContext &context, NodeOp node, int64_t axis, size_t rank) {
  auto isAxis = [&](int64_t found) { return found == axis || found + int64_t(rank) == axis; };
  if (auto list = node.getNodeAttributes().getAs<DenseI64ArrayAttr>("axes"))
    return list.size() == 1 && isAxis(list[0]);
  std::optional<double> given = context.scalar(inputOf(node, 1));
  return given && isAxis(int64_t(*given));
}

/// True if `weight`, [batch, sequence, anything], is 1 at tokens and 0 at padding.
bool isTokenWeight(RaiseContext &context, Value weight) {
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *value = context.sample(weight, i);
    const Binding &binding = context.binding(i);
    if (!value || !value->hasData() || value->shape.size() != 3 ||
        value->shape[0] != binding.batch || value->shape[1] != binding.sequence)
      return false;
    for (int64_t at = 0; at < value->elements(); ++at)
      if ((value->at(at) != 0) != (binding.mask[size_t(at / value->shape[2])] != 0) ||
          (value->at(at) != 0 && value->at(at) != 1))
        return false;
  }
  return true;
}

/// True if `value`, [batch, anything], is the number of tokens of each text, at least a little.
bool isTokenCount(RaiseContext &context, Value value) {
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *tensor = context.sample(value, i);
    const Binding &binding = context.binding(i);
    if (!tensor || !tensor->hasData() || tensor->shape.empty() || tensor->shape[0] != binding.batch)
      return false;
    int64_t stride = tensor->elements() / binding.batch;
    for (int64_t b = 0; b < binding.batch; ++b) {
      double count = 0;
      for (int64_t s = 0; s < binding.sequence; ++s)
        count += binding.isToken(b, s);
      for (int64_t k = 0; k < stride; ++k)
        if (tensor->at(b * stride + k) != std::max(count, 1e-9) && count > 0)
          return false;
    }
  }
  return true;
}

/// sum over tokens of (x * mask) / number of tokens
std::optional<RaiseContext::Pooled> meanOf(RaiseContext &context, NodeOp div) {
  NodeOp sum = nodeOf(div.getInputs()[0], "ReduceSum");
  NodeOp product = sum ? nodeOf(sum.getInputs()[0], "Mul") : NodeOp();
  if (!product || !reducesAxis(context, sum, 1, 3) || !isTokenCount(context, div.getInputs()[1]))
    return std::nullopt;
  for (unsigned side = 0; side < 2; ++side) {
    std::optional<Rows> rows = context.rowsOf(strip(product.getInputs()[side]));
    if (rows && rows->isFlat() && rows->axes.size() == 3 && rows->axes[0] == axisBatch &&
        rows->axes[1] == axisSequence && isTokenWeight(context, product.getInputs()[1 - side]))
      return RaiseContext::Pooled{*rows, format::Pooling::Mean, false};
  }
  return std::nullopt;
}

/// What a text's embedding is made of: a mean found before, or the row of the first token.
std::optional<RaiseContext::Pooled> pooledOf(RaiseContext &context, Value value) {
  auto known = context.pooled.find(strip(value));
  if (known != context.pooled.end())
    return known->second;
  std::optional<Rows> rows = context.rowsOf(strip(value));
  if (rows && rows->isFlat() && rows->axes.size() == 2 && rows->axes[0] == axisBatch)
    return RaiseContext::Pooled{*rows, format::Pooling::None, false};
  return std::nullopt;
}

/// |x| of `value`, kept from 0 by a lower bound and spread over the columns.
bool isLengthOf(RaiseContext &context, Value length, Value value) {
  for (bool goesOn = true; goesOn;) {
    NodeOp node = nodeOf(length);
    goesOn = node && node.getDomain().empty() &&
             (node.getType() == "Expand" || node.getType() == "Clip" || node.getType() == "Max");
    if (goesOn)
      length = node.getInputs()[node.getType() == "Max" && context.scalar(node.getInputs()[0])];
  }
  NodeOp norm = nodeOf(length, "ReduceL2");
  if (norm)
    return strip(norm.getInputs()[0]) == strip(value) && reducesAxis(context, norm, 1, 2);
  // sqrt(sum(x * x))
  NodeOp root = nodeOf(length, "Sqrt");
  NodeOp sum = root ? nodeOf(root.getInputs()[0]) : NodeOp();
  if (!sum || !sum.getDomain().empty() || !reducesAxis(context, sum, 1, 2))
    return false;
  if (sum.getType() == "ReduceSumSquare")
    return strip(sum.getInputs()[0]) == strip(value);
  NodeOp square = nodeOf(sum.getInputs()[0]);
  if (sum.getType() != "ReduceSum" || !square || strip(square.getInputs()[0]) != strip(value))
    return false;
  return (square.getType() == "Mul" && strip(square.getInputs()[1]) == strip(value)) ||
         (square.getType() == "Pow" && context.scalar(square.getInputs()[1]) == 2.0);
}

} // namespace

Match raisePooling(RaiseContext &context, NodeOp node) {
  if (context.hasCache)
    return Match::no();
  if (node.getType() == "LpNormalization") {
    std::optional<RaiseContext::Pooled> pooled = pooledOf(context, node.getInputs()[0]);
    int64_t axis = integerOf(node, "axis", -1);
    if (!pooled || (axis != -1 && axis != 1) || integerOf(node, "p", 2) != 2)
      return Match::no();
    pooled->isNormalized = true;
    context.pooled.insert({node->getResult(0), *pooled});
    return Match::yes();
  }
  std::optional<RaiseContext::Pooled> mean = meanOf(context, node);
  if (mean) {
    context.pooled.insert({node->getResult(0), *mean});
    return Match::yes();
  }
  // x / |x|
  std::optional<RaiseContext::Pooled> pooled = pooledOf(context, node.getInputs()[0]);
  if (!pooled || !isLengthOf(context, node.getInputs()[1], node.getInputs()[0]))
    return Match::no();
  pooled->isNormalized = true;
  context.pooled.insert({node->getResult(0), *pooled});
  return Match::yes();
}

} // namespace smelt
