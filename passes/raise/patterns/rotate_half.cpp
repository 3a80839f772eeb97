// Rotary embedding written out: y = x cos + rotate(x) sin, rotate(x) = [-x2, x1] by halves or by
// neighbours.
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

/// True if `head` is `front` followed by `rest` along the last axis.
bool isSplitOf(const Tensor &head, const Tensor &front, const Tensor &rest) {
  int64_t dim = head.shape.back(), turned = front.shape.back(), kept = rest.shape.back();
  if (turned + kept != dim || head.elements() / dim != front.elements() / turned ||
      head.elements() / dim != rest.elements() / kept)
    return false;
  for (int64_t i = 0; i < head.elements(); ++i) {
    int64_t row = i / dim, d = i % dim;
    if (head.at(i) != (d < turned ? front.at(row * turned + d) : rest.at(row * kept + d - turned)))
      return false;
  }
  return true;
}

/// [x1 cos + rotate(x1) sin, x2] with x = [x1, x2]: only the first columns of each head turn.
Match raisePartial(RaiseContext &context, NodeOp node) {
  NodeOp add = node.getInputs().size() == 2 ? nodeOf(node.getInputs()[0], "Add") : NodeOp();
  std::string why;
  std::optional<Rotated> rotated = add ? matchRotation(context, add, why) : std::nullopt;
  if (!rotated)
    return why.empty() ? Match::no() : Match::near(why);
  NodeOp part = nodeOf(rotated->plain);
  std::optional<Rows> rows = part ? context.rowsOf(strip(part.getInputs()[0])) : std::nullopt;
  std::optional<Movement> head =
      rows ? context.movementOf(strip(part.getInputs()[0]), 0, true) : std::nullopt;
  std::optional<Movement> rest = context.movementOf(node.getInputs()[1], 0, true);
  int64_t axis = integerOf(node, "axis", 0);
  if (!head || !rest || head->source != rest->source || head->source != rotated->straight.source ||
      (axis != -1 && axis != int64_t(rows->axes.size()) - 1) ||
      !isSplitOf(head->tags, rotated->straight.tags, rest->tags))
    return Match::near("the columns beside the rotated ones are not the rest of the head");
  Value result =
      makeRope(context, rows->value, rotated->angles, rows->axes.back(), rotated->isInterleaved);
  context.setRows(node->getResult(0), result, rows->axes);
  return Match::yes();
}

} // namespace

Match raiseRotateHalf(RaiseContext &context, NodeOp node) {
  if (node.getType() == "Concat")
    return raisePartial(context, node);
  std::string why;
  std::optional<Rotated> rotated = matchRotation(context, node, why);
  if (!rotated)
    return why.empty() ? Match::no() : Match::near(why);
  // x is rows as they stand; otherwise it is a part of a head, which the Concat that follows
  // completes.
  std::optional<Rows> rows = context.rowsOf(strip(rotated->plain));
  if (!rows)
    return Match::near(
        "it turns a part of each head, and no concatenation puts the rest beside it");
  Value result =
      makeRope(context, rows->value, rotated->angles, rows->axes.back(), rotated->isInterleaved);
  context.setRows(node->getResult(0), result, rows->axes);
  return Match::yes();
}

} // namespace smelt
