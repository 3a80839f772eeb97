// Selections that keep every real token's row: Where(is padding, anything, rows) is rows, for
// padding has no row here.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

/// True if `condition`, broadcast over the shape of `rows`, is `expected` at every token.
static bool holdsAtTokens(RaiseContext &context, Value condition, const Rows &rows, bool expected) {
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *value = context.sample(condition, i);
    const Binding &binding = context.binding(i);
    if (!value || !value->hasData() || value->shape.size() > rows.axes.size())
      return false;
    size_t shift = rows.axes.size() - value->shape.size();
    for (int64_t at = 0; at < value->elements(); ++at) {
      int64_t rest = at, b = -1, s = -1;
      for (size_t axis = value->shape.size(); axis-- > 0; rest /= value->shape[axis]) {
        if (rows.axes[shift + axis] == axisBatch && value->shape[axis] == binding.batch)
          b = rest % value->shape[axis];
        if (rows.axes[shift + axis] == axisSequence && value->shape[axis] == binding.sequence)
          s = rest % value->shape[axis];
      }
      bool isToken = b < 0 || s < 0 || binding.isToken(b, binding.past + s);
      if (isToken && (value->at(at) != 0) != expected)
        return false;
    }
  }
  return true;
}

Match raiseMaskedRows(RaiseContext &context, NodeOp node) {
  for (unsigned side : {2u, 1u}) {
    std::optional<Rows> rows = context.rowsOf(node.getInputs()[side]);
    if (!rows)
      continue;
    // Where(c, a, rows) keeps rows where c is false, Where(c, rows, a) where it is true.
    if (!holdsAtTokens(context, node.getInputs()[0], *rows, side == 1))
      return Match::near("the condition also selects at real tokens");
    context.setRows(node->getResult(0), rows->value, rows->axes);
    return Match::yes();
  }
  return Match::no();
}

} // namespace smelt
