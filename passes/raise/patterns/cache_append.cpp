// The cache of an attention layer: [past; new] along the positions, [batch, heads, past + sequence,
// dim].
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseCacheAppend(RaiseContext &context, NodeOp node) {
  if (node.getInputs().size() != 2)
    return Match::no();
  auto past = dyn_cast<BlockArgument>(node.getInputs()[0]);
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
  if (llvm::none_of(node->getUsers(), [](Operation *user) { return isa<func::ReturnOp>(user); }))
    return Match::near("the extended cache is not an output of the graph");
  for (const auto &[value, other] : context.cached)
    if (other.argument == past.getArgNumber())
      return Match::near("two nodes append to the same cache");
  context.cached[node->getResult(0)] = {*rows, rows->axes[1], rows->axes[3], past.getArgNumber()};
  context.states.insert(node->getResult(0));
  return Match::yes();
}

} // namespace smelt
