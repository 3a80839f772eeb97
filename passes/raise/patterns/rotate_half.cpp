// Rotary embedding written out: y = x cos + rotate(x) sin, rotate(x) = [-x2, x1] by halves or by
// neighbours.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// A product of a moved value and a table that the graph computes from positions.
struct Product {
  Value moved, table;
};
std::optional<Product> matchProduct(RaiseContext &context, Value value) {
  NodeOp mul = nodeOf(value, "Mul");
  if (!mul)
    return std::nullopt;
  for (unsigned side = 0; side < 2; ++side) {
    const Tensor *table = context.sample(mul.getInputs()[1 - side], 0);
    const Tensor *moved = context.sample(mul.getInputs()[side], 0);
    if (table && table->hasData() && table->elements() > 1 && moved && !moved->hasData())
      return Product{mul.getInputs()[side], mul.getInputs()[1 - side]};
  }
  return std::nullopt;
}

/// How `turned` is made of `straight`, both tags [.., dim] of one source: by halves, by neighbours,
/// or neither.
enum class Rotation { None, Half, Interleaved };
Rotation rotationOf(const Tensor &straight, const Tensor &turned) {
  if (straight.shape != turned.shape || straight.shape.empty() || straight.shape.back() % 2)
    return Rotation::None;
  int64_t dim = straight.shape.back(), half = dim / 2;
  bool isHalf = true, isInterleaved = true;
  for (int64_t i = 0; i < straight.elements(); ++i) {
    int64_t d = i % dim, row = i - d;
    isHalf &=
        turned.at(i) == (d < half ? -straight.at(row + d + half) : straight.at(row + d - half));
    isInterleaved &= turned.at(i) == (d % 2 ? straight.at(i - 1) : -straight.at(i + 1));
  }
  // Two columns are both at once; either name is right.
  return isHalf ? Rotation::Half : isInterleaved ? Rotation::Interleaved : Rotation::None;
}

/// x cos + rotate(x) sin, taken apart.
struct Rotated {
  Movement straight;
  Value plain; ///< x
  Angles angles;
  bool isInterleaved;
};
std::optional<Rotated> matchRotation(RaiseContext &context, NodeOp add, std::string &why) {
  std::optional<Product> first = matchProduct(context, add.getInputs()[0]);
  std::optional<Product> second = matchProduct(context, add.getInputs()[1]);
  if (!first || !second)
    return std::nullopt;
  why = "a sum of two products with tables, but not x cos + rotate(x) sin";
  for (int order = 0; order < 2; ++order, std::swap(first, second)) {
    std::optional<Movement> straight = context.movementOf(first->moved, 0, true);
    std::optional<Movement> turned = context.movementOf(second->moved, 0, true);
    if (!straight || !turned || straight->source != turned->source)
      continue;
    Rotation rotation = rotationOf(straight->tags, turned->tags);
    if (rotation == Rotation::None)
      continue;
    bool isInterleaved = rotation == Rotation::Interleaved;
    std::optional<Angles> angles =
        anglesOf(context, first->table, second->table, true, isInterleaved, why);
    if (!angles)
      return std::nullopt;
    if (2 * int64_t(angles->inverseFrequency.size()) != straight->tags.shape.back()) {
      why = "its tables do not have the " + std::to_string(straight->tags.shape.back()) +
            " columns of what they turn";
      return std::nullopt;
    }
    return Rotated{std::move(*straight), first->moved, std::move(*angles), isInterleaved};
  }
  return std::nullopt;
}

/// The same as one op on [batch, heads, sequence, dim] with tables that the graph computes.
std::optional<Rotated> matchRotaryEmbedding(RaiseContext &context, NodeOp node, std::string &why) {
  if (inputOf(node, 3) || integerOf(node, "rotary_embedding_dim", 0) != 0 || !inputOf(node, 2))
    return std::nullopt;
  Value x = inputOf(node, 0);
  std::optional<Movement> straight = context.movementOf(x, 0, true);
  if (!straight || straight->tags.shape.size() != 4)
    return std::nullopt;
  bool isInterleaved = integerOf(node, "interleaved", 0) != 0;
  std::optional<Angles> angles =
      anglesOf(context, inputOf(node, 1), inputOf(node, 2), false, isInterleaved, why);
  if (!angles || 2 * int64_t(angles->inverseFrequency.size()) != straight->tags.shape.back())
    return std::nullopt;
  return Rotated{std::move(*straight), x, std::move(*angles), isInterleaved};
}

/// `front` and `rest` side by side along the last axis.
std::optional<Tensor> joinTags(RaiseContext &context, const Tensor &front, const Tensor &rest) {
  auto axis = context.builder.getNamedAttr("axis", context.builder.getI64IntegerAttr(-1));
  auto joined = evaluateNode("Concat", context.builder.getDictionaryAttr(axis), {&front, &rest}, 1);
  return joined && joined->front().hasData() ? std::optional(std::move(joined->front()))
                                             : std::nullopt;
}

/// [x1 cos + rotate(x1) sin, x2] with x = [x1, x2]: only the first columns of each head turn.
Match raisePartial(RaiseContext &context, NodeOp node) {
  if (node.getInputs().size() != 2)
    return Match::no();
  std::string why;
  std::optional<Rotated> rotated;
  if (NodeOp add = nodeOf(node.getInputs()[0], "Add"))
    rotated = matchRotation(context, add, why);
  else if (NodeOp one = nodeOf(node.getInputs()[0], "RotaryEmbedding"))
    rotated = matchRotaryEmbedding(context, one, why);
  if (!rotated)
    return why.empty() ? Match::no() : Match::near(why);
  // The whole head is what was turned with the rest of its columns beside it.
  SmallVector<Tensor> heads;
  for (size_t i = 0; i < 2; ++i) {
    std::optional<Movement> front = context.movementOf(rotated->plain, i, true),
                            rest = context.movementOf(node.getInputs()[1], i, true);
    std::optional<Tensor> head = front && rest && front->source == rest->source
                                     ? joinTags(context, front->tags, rest->tags)
                                     : std::nullopt;
    if (!head)
      return Match::near("the columns beside the rotated ones are not the rest of the head");
    heads.push_back(std::move(*head));
  }
  int64_t axis = integerOf(node, "axis", 0);
  if (axis != -1 && axis != int64_t(heads[0].shape.size()) - 1)
    return Match::no();
  std::optional<Rows> rows = rowsOfTags(context, rotated->straight.source, heads);
  if (!rows || rows->axes.back() <= 1)
    return Match::near("the columns beside the rotated ones are not the rest of the head");
  Value result =
      makeRope(context, rows->value, rotated->angles, rows->axes.back(), rotated->isInterleaved);
  context.setRows(node->getResult(0), result, rows->axes);
  return Match::yes();
}

} // namespace

bool isPartOfHead(RaiseContext &context, NodeOp node) {
  return llvm::any_of(node->getUsers(), [&](Operation *user) {
    auto concat = dyn_cast<NodeOp>(user);
    if (!concat || concat.getType() != "Concat" || concat.getInputs().size() != 2 ||
        concat.getInputs()[0] != node->getResult(0))
      return false;
    int64_t axis = integerOf(concat, "axis", 0);
    const Tensor *shape = context.sample(node->getResult(0), 0);
    return axis == -1 || (shape && axis == int64_t(shape->shape.size()) - 1);
  });
}

Match raiseRotateHalf(RaiseContext &context, NodeOp node) {
  if (node.getType() == "Concat")
    return raisePartial(context, node);
  std::string why;
  std::optional<Rotated> rotated = matchRotation(context, node, why);
  if (!rotated)
    return why.empty() ? Match::no() : Match::near(why);
  if (isPartOfHead(context, node))
    return Match::near("it turns a part of each head, and what is put beside it is not the rest");
  std::optional<Rows> rows = rowsOrPermuted(context, strip(rotated->plain));
  if (!rows)
    return Match::near(
        "it turns a part of each head, and no concatenation puts the rest beside it");
  Value result =
      makeRope(context, rows->value, rotated->angles, rows->axes.back(), rotated->isInterleaved);
  context.setRows(node->getResult(0), result, rows->axes);
  return Match::yes();
}

} // namespace smelt
