// ai.onnx Attention (opset 23 on): y = softmax(softcap(scale q k^T) + mask) v over a cache that the
// graph or the op itself extends.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// From this version on the op states how causality and windows count from the cache's end, and
/// that softcap comes before the mask.
constexpr int64_t offsetAwareOpset = 25;

/// Heads as rows: [batch, heads, sequence, dim], or [batch, sequence, heads * dim] with the number
/// given as an attribute.
struct Heads {
  Rows rows;
  int64_t count, dim;
};
std::optional<Heads> headsOf(RaiseContext &context, Value value, int64_t given) {
  std::optional<Rows> rows = rowsOrPermuted(context, value);
  if (!rows)
    return std::nullopt;
  ArrayRef<int64_t> axes = rows->axes;
  if (axes.size() == 4 && axes[0] == axisBatch && axes[2] == axisSequence)
    return Heads{*rows, axes[1], axes[3]};
  if (axes.size() == 3 && axes[0] == axisBatch && axes[1] == axisSequence && given > 0 &&
      axes[2] % given == 0)
    return Heads{*rows, given, axes[2] / given};
  return std::nullopt;
}

/// An attribute whose meaning is not known; empty if there is none.
std::string unknownAttribute(NodeOp node) {
  // softmax_precision can only ask for less than the float that everything here is computed in.
  static constexpr StringLiteral known[] = {"is_causal",
                                            "scale",
                                            "q_num_heads",
                                            "kv_num_heads",
                                            "softcap",
                                            "softmax_precision",
                                            "qk_matmul_output_mode",
                                            "left_window_size",
                                            "right_window_size"};
  for (NamedAttribute attribute : node.getNodeAttributes())
    if (!llvm::is_contained(known, attribute.getName().getValue()))
      return attribute.getName().str();
  return {};
}

/// Keys and values, and how many of the op's own rules about positions apply.
struct Memory {
  Value keys, values;
  int64_t heads, dim;
  double scale = 1; ///< that the keys were multiplied by
};

/// The cache that the op extends itself: past keys and values are inputs of the graph, the present
/// ones its outputs.
std::optional<Memory> ownCache(RaiseContext &context, NodeOp node, std::string &why) {
  int64_t given = integerOf(node, "kv_num_heads", 0);
  std::optional<Heads> key = headsOf(context, inputOf(node, 1), given),
                       value = headsOf(context, inputOf(node, 2), given);
  for (unsigned i : {4u, 5u}) {
    auto past = dyn_cast_or_null<BlockArgument>(inputOf(node, i));
    if (!past || roleOf(context.function, past.getArgNumber()) != Role::Cache ||
        !past.hasOneUse()) {
      why = "its past keys and values are not inputs of the graph that it alone reads";
      return std::nullopt;
    }
  }
  bool isReturned = node->getNumResults() >= 3;
  for (unsigned i = 1; isReturned && i < 3; ++i)
    isReturned &= llvm::any_of(node->getResult(i).getUsers(),
                               [](Operation *user) { return isa<func::ReturnOp>(user); });
  if (!isReturned) {
    why = "its present keys and values are not outputs of the graph";
    return std::nullopt;
  }
  if (!key || !value || key->count != value->count || key->dim != value->dim) {
    why = "its new keys and values are not rows of the same heads";
    return std::nullopt;
  }
  return Memory{key->rows.value, value->rows.value, key->count, key->dim};
}

/// A cache that the graph extends by Concat, each head perhaps repeated for its queries.
std::optional<Memory> graphCache(RaiseContext &context, NodeOp node, int64_t heads,
                                 std::string &why) {
  std::optional<HeadView> key = headView(context, inputOf(node, 1), false, why);
  std::optional<HeadView> value =
      key ? headView(context, inputOf(node, 2), false, why) : std::nullopt;
  if (!key || !value)
    return std::nullopt;
  // Heads not repeated in the graph are repeated by the op.
  bool isGrouped = key->repeat == 1 || key->heads * key->repeat == heads;
  if (!isGrouped || key->heads != value->heads || key->repeat != value->repeat ||
      key->dim != value->dim || value->scale != 1) {
    why = "its keys, values and queries differ in heads or head size";
    return std::nullopt;
  }
  return Memory{key->rows.value, value->rows.value, key->heads, key->dim, key->scale};
}

/// What mask, is_causal and the window attributes leave.
std::optional<AttentionMask> rangeOf(RaiseContext &context, NodeOp node, bool isOwn,
                                     std::string &why) {
  int64_t left = integerOf(node, "left_window_size", -1),
          right = integerOf(node, "right_window_size", -1);
  bool isCausal = integerOf(node, "is_causal", 0) != 0 || right == 0;
  // Positions count from the end of the op's own cache; of a cache outside it knows nothing.
  if ((isCausal || left >= 0 || right >= 0) && context.hasCache &&
      (!isOwn || context.opset() < offsetAwareOpset)) {
    why = "is_causal or a window counts positions without the cache here";
    return std::nullopt;
  }
  if (!isCausal && left != right && (!context.hasCache || !inputOf(node, 3))) {
    why = "it sees more positions on one side than on the other";
    return std::nullopt;
  }
  // left = w - 1 positions before the query's own
  AttentionMask range{left >= 0 ? left + 1 : 0, !isCausal};
  if (inputOf(node, 3) || !isCausal) {
    std::optional<AttentionMask> known = attentionMaskOf(context, inputOf(node, 3), why);
    if (!known)
      return std::nullopt;
    if (known->window && (range.window == 0 || known->window < range.window))
      range.window = known->window;
    range.isBidirectional &= known->isBidirectional;
  }
  return range;
}

} // namespace

Match raiseAttention(RaiseContext &context, NodeOp node) {
  if (!rowsOrPermuted(context, inputOf(node, 0)))
    return Match::blocked();
  std::optional<Heads> query =
      headsOf(context, inputOf(node, 0), integerOf(node, "q_num_heads", 0));
  if (!query)
    return Match::near(
        "its query is neither [batch, heads, sequence, head size] nor flat with q_num_heads");
  if (std::string name = unknownAttribute(node); !name.empty())
    return Match::near("attribute " + name + " is set, whose meaning is not known");
  if (inputOf(node, 6))
    return Match::near("nonpad_kv_seqlen is given");
  bool isOwn = inputOf(node, 4) || inputOf(node, 5);
  for (unsigned i = isOwn ? 3 : 1; i < node->getNumResults(); ++i)
    if (!node->getResult(i).use_empty())
      return Match::near("its output " + std::to_string(i) + " is used");
  double softcap = floatOf(node, "softcap", 0);
  if (softcap != 0 && context.opset() < offsetAwareOpset)
    return Match::near("before opset 25 the softcap also caps the mask");

  // k, v
  std::string why;
  std::optional<Memory> memory =
      isOwn ? ownCache(context, node, why) : graphCache(context, node, query->count, why);
  if (!memory)
    return Match::near(why);
  if (memory->heads <= 0 || query->count % memory->heads || memory->dim != query->dim)
    return Match::near("its keys, values and queries differ in heads or head size");
  std::optional<AttentionMask> range = rangeOf(context, node, isOwn, why);
  if (!range)
    return Match::near(why);

  double scale = floatOf(node, "scale", 0);
  AttentionParts parts{query->rows,
                       memory->keys,
                       memory->values,
                       query->count,
                       memory->heads,
                       query->dim,
                       (scale == 0 ? 1 / std::sqrt(double(query->dim)) : scale) * memory->scale,
                       softcap,
                       range->window};
  parts.isBidirectional = range->isBidirectional;
  context.setRows(node->getResult(0), makeAttention(context, parts), query->rows.axes);
  for (unsigned i = 1; isOwn && i < 3; ++i)
    context.states.insert(node->getResult(i));
  return Match::yes();
}

} // namespace smelt
