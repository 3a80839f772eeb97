// The cache of an attention layer: [past; new] along the positions, [batch, heads, past + sequence,
// dim].
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

/// The output of the graph that `value` is, itself or behind a cast between float types; null if it
/// is none.
static Value presentOf(Value value) {
  for (Operation *user : value.getUsers())
    if (isa<func::ReturnOp>(user))
      return value;
  for (Operation *user : value.getUsers())
    if (auto cast = dyn_cast<NodeOp>(user);
        cast && cast.getType() == "Cast" && strip(cast->getResult(0)) == strip(value) &&
        llvm::any_of(cast->getUsers(), [](Operation *after) { return isa<func::ReturnOp>(after); }))
      return cast->getResult(0);
  return {};
}

Match raiseCacheAppend(RaiseContext &context, NodeOp node) {
  if (node.getInputs().size() != 2)
    return Match::no();
  // Half precision graphs keep the cache in another float type than they compute in.
  auto past = dyn_cast<BlockArgument>(strip(node.getInputs()[0]));
  if (!past || roleOf(context.function, past.getArgNumber()) != Role::Cache)
    return Match::no();
  int64_t axis = integerOf(node, "axis", 0);
  std::optional<Rows> rows = rowsOrPermuted(context, node.getInputs()[1]);
  if (!rows)
    return Match::blocked();
  if ((axis != 2 && axis != -2) || rows->axes.size() != 4 || rows->axes[0] != axisBatch ||
      rows->axes[2] != axisSequence)
    return Match::near(
        "the cache is not [batch, heads, positions, head size] with new positions appended");
  // What the caller feeds back must be what attention reads.
  Value present = presentOf(node->getResult(0));
  if (!present)
    return Match::near("the extended cache is not an output of the graph");
  for (const auto &[value, other] : context.cached)
    if (other.argument == past.getArgNumber())
      return Match::near("two nodes append to the same cache");
  context.cached[node->getResult(0)] = {*rows, rows->axes[1], rows->axes[3], past.getArgNumber()};
  context.states.insert(node->getResult(0));
  context.states.insert(present);
  return Match::yes();
}

} // namespace smelt
