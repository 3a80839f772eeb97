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

} // namespace

Match raiseRotateHalf(RaiseContext &context, NodeOp node) {
  std::optional<Product> first = matchProduct(context, node.getInputs()[0]);
  std::optional<Product> second = matchProduct(context, node.getInputs()[1]);
  if (!first || !second)
    return Match::no();
  for (int order = 0; order < 2; ++order, std::swap(first, second)) {
    // x cos: x is rows as they stand
    std::optional<Rows> rows = context.rowsOf(strip(first->moved));
    std::optional<Movement> straight = context.movementOf(first->moved, 0),
                            turned = context.movementOf(second->moved, 0);
    if (!rows || !straight || !turned || straight->source != turned->source)
      continue;
    // rotate(x) sin
    Rotation rotation = rotationOf(straight->tags, turned->tags);
    if (rotation == Rotation::None)
      continue;
    bool isInterleaved = rotation == Rotation::Interleaved;
    std::string why;
    std::optional<Angles> angles =
        anglesOf(context, first->table, second->table, true, isInterleaved, why);
    if (!angles)
      return Match::near(why);
    int64_t dim = rows->axes.back();
    if (2 * int64_t(angles->inverseFrequency.size()) != dim)
      return Match::near("its tables do not have the head's " + std::to_string(dim) + " columns");
    Value result = makeRope(context, rows->value, *angles, dim, isInterleaved);
    context.setRows(node->getResult(0), result, rows->axes);
    return Match::yes();
  }
  return Match::near("a sum of two products with tables, but not x cos + rotate(x) sin");
}

} // namespace smelt
