// onnxruntime's GroupQueryAttention: split, rotate, append to the cache, attend causally within a
// window.
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// seqlens_k[b] = sum(mask[b]) - 1 and total = past + sequence: right padding, positions counted
/// from the first token.
bool hasUsualLengths(RaiseContext &context, Value lengths, Value total) {
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Binding &binding = context.binding(i);
    const Tensor *perSlot = context.sample(lengths, i), *whole = context.sample(total, i);
    if (!perSlot || !whole || !perSlot->hasData() || !whole->hasData() ||
        perSlot->elements() != binding.batch || whole->elements() != 1 ||
        whole->at(0) != double(binding.total()))
      return false;
    for (int64_t b = 0; b < binding.batch; ++b) {
      double sum = -1;
      for (int64_t t = 0; t < binding.total(); ++t)
        sum += binding.mask[size_t(b * binding.total() + t)];
      if (perSlot->at(b) != sum)
        return false;
    }
  }
  return true;
}

/// An attribute that changes the meaning and is not at its default; empty if there is none.
std::string unknownAttribute(NodeOp node) {
  static constexpr StringLiteral known[] = {"num_heads",         "kv_num_heads",      "scale",
                                            "softcap",           "local_window_size", "do_rotary",
                                            "rotary_interleaved"};
  for (NamedAttribute attribute : node.getNodeAttributes()) {
    if (llvm::is_contained(known, attribute.getName().getValue()))
      continue;
    auto integer = dyn_cast<IntegerAttr>(attribute.getValue());
    auto text = dyn_cast<StringAttr>(attribute.getValue());
    // A ring buffer for the window's positions: how the caller keeps the cache, which is ours here.
    if (attribute.getName() == "sliding_window_cache" &&
        integerOf(node, "local_window_size", -1) > 0)
      continue;
    bool isOff = (integer && (integer.getInt() == 0 || (attribute.getName() == "smooth_softmax" &&
                                                        integer.getInt() == -1))) ||
                 (text && (text.getValue() == "NONE" || text.getValue().empty()));
    if (!isOff)
      return attribute.getName().str();
  }
  return {};
}

bool isCacheArgument(RaiseContext &context, Value value) {
  auto argument = dyn_cast_or_null<BlockArgument>(value);
  return argument && argument.getOwner() == &context.function.front();
}

} // namespace

Match raiseGroupQueryAttention(RaiseContext &context, NodeOp node) {
  OpBuilder &builder = context.builder;
  int64_t heads = integerOf(node, "num_heads", 0), kvHeads = integerOf(node, "kv_num_heads", 0);
  std::optional<Rows> query = context.rowsOf(inputOf(node, 0));
  if (!query)
    return Match::blocked();
  if (std::string name = unknownAttribute(node); !name.empty())
    return Match::near("attribute " + name + " is set, whose meaning is not known");
  for (unsigned i : {10u, 11u, 12u, 13u})
    if (inputOf(node, i))
      return Match::near("input " + std::to_string(i) +
                         " (attention bias, head sink or quantized cache) is given");
  if (!isCacheArgument(context, inputOf(node, 3)) || !isCacheArgument(context, inputOf(node, 4)))
    return Match::near("its past keys and values are not inputs of the graph");
  if (!inputOf(node, 5) || !inputOf(node, 6) ||
      !hasUsualLengths(context, inputOf(node, 5), inputOf(node, 6)))
    return Match::near("its lengths are not sum(attention_mask) - 1 and the total length");
  if (Value positions = inputOf(node, 9); positions && !context.isPositions(positions))
    return Match::near("its position_ids are not the graph's");

  // q, k, v: three inputs, or one row [q | k | v]
  bool isPacked = !inputOf(node, 1);
  int64_t parts = isPacked ? heads + 2 * kvHeads : heads;
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads || !query->isFlat() || query->width() % parts)
    return Match::near("its heads do not divide its columns");
  int64_t dim = query->width() / parts;
  auto slice = [&](int64_t first, int64_t width) -> Value {
    auto type = RankedTensorType::get({ShapedType::kDynamic, width}, builder.getF32Type());
    return slm::SliceOp::create(builder, node.getLoc(), type, query->value, uint64_t(first));
  };
  Value q = query->value, k, v;
  if (isPacked) {
    q = slice(0, heads * dim);
    k = slice(heads * dim, kvHeads * dim);
    v = slice((heads + kvHeads) * dim, kvHeads * dim);
  } else {
    std::optional<Rows> key = context.rowsOf(inputOf(node, 1)),
                        value = context.rowsOf(inputOf(node, 2));
    if (!key || !value)
      return Match::blocked();
    if (key->width() != kvHeads * dim || value->width() != kvHeads * dim || !key->isFlat() ||
        !value->isFlat())
      return Match::near("its keys or values do not have kv_num_heads * head size columns");
    k = key->value;
    v = value->value;
  }

  // q, k turned by the tables' row of the token's position
  if (integerOf(node, "do_rotary", 0)) {
    Value cos = context.makeMatrix(inputOf(node, 7)), sin = context.makeMatrix(inputOf(node, 8));
    if (!cos || !sin || slm::widthOf(cos) != slm::widthOf(sin) || 2 * slm::widthOf(cos) > dim)
      return Match::near("its rotary tables are not initializers [positions, at most half a head]");
    bool isInterleaved = integerOf(node, "rotary_interleaved", 0) != 0;
    auto turn = [&](Value rows) -> Value {
      return slm::RopeOp::create(builder, node.getLoc(), rows.getType(), rows, cos, sin,
                                 uint64_t(dim), uint64_t(2 * slm::widthOf(cos)), isInterleaved);
    };
    q = turn(q);
    k = turn(k);
  }

  // scale 0 means 1/sqrt(dim); a window of w keeps the query's own position and the w - 1 before
  // it, -1 is none
  double scale = floatOf(node, "scale", 0);
  int64_t window = integerOf(node, "local_window_size", -1);
  if (window == 0)
    return Match::near("local_window_size is 0");
  AttentionParts attention{{q, {}},
                           k,
                           v,
                           heads,
                           kvHeads,
                           dim,
                           scale == 0 ? 1 / std::sqrt(double(dim)) : scale,
                           floatOf(node, "softcap", 0),
                           window < 0 ? 0 : window};
  Value result = makeAttention(context, attention);
  SmallVector<int64_t, 5> axes = query->axes;
  axes.back() = heads * dim;
  context.setRows(node->getResult(0), result, axes);
  for (unsigned i = 1; i < node->getNumResults() && i < 3; ++i)
    context.states.insert(node->getResult(i));
  return Match::yes();
}

} // namespace smelt
