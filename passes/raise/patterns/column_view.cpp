// Reshapes, transposes, slices and splits of rows: whatever moves whole column ranges is a view, or
// slm.slice of one.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Match raiseColumnView(RaiseContext &context, NodeOp node) {
  bool readsRows = llvm::any_of(node.getInputs(),
                                [&](Value input) { return context.rowsOf(input).has_value(); });
  if (!readsRows)
    return Match::no();
  bool isRaised = false;
  for (Value result : node->getResults()) {
    Value source;
    std::optional<ColumnView> view = columnView(context, result, source);
    if (!view)
      continue;
    // y = x[:, first : first + width], seen through the axes
    Value rows = source;
    if (view->width != slm::widthOf(source)) {
      auto type =
          RankedTensorType::get({ShapedType::kDynamic, view->width}, context.builder.getF32Type());
      rows =
          slm::SliceOp::create(context.builder, node.getLoc(), type, source, uint64_t(view->first));
    }
    context.setRows(result, rows, view->axes);
    isRaised = true;
  }
  if (isRaised)
    return Match::yes();
  return Match::near("it is not a view of whole column ranges");
}

} // namespace smelt
