// Reshapes, transposes, slices and splits of rows: whatever moves whole column ranges is a view, or
// slm.slice of one.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

/// The axes of a value that is the last token's whole row of each sequence, [batch, W] or [batch,
/// 1, W]; nothing if it is not. A graph that computes logits of that token alone computes those of
/// whichever row is asked for here.
static std::optional<SmallVector<int64_t, 5>> lastRow(RaiseContext &context, Value value,
                                                      Value &source) {
  // Rows that are the last ones already are traced as if they were the first.
  auto node = value.getDefiningOp<NodeOp>();
  std::optional<Rows> input = context.rowsOf(node.getInputs()[0]);
  bool isAlready = input && llvm::none_of(input->axes, [](int64_t axis) {
                     return axis == axisSequence || axis == axisTokens;
                   });
  for (size_t i = 0; i < context.bindings(); ++i) {
    std::optional<Movement> movement = context.movementOf(value, i);
    if (!movement || context.cached.count(movement->source))
      return std::nullopt;
    source = movement->source;
    const Binding &binding = context.binding(i);
    const Tensor &tags = movement->tags;
    int64_t width = slm::widthOf(source), rank = int64_t(tags.shape.size());
    if ((rank != 2 && rank != 3) || tags.shape[0] != binding.batch || tags.shape.back() != width ||
        (rank == 3 && tags.shape[1] != 1))
      return std::nullopt;
    for (int64_t at = 0; at < tags.elements(); ++at) {
      int64_t last = at / width * binding.sequence + (isAlready ? 0 : binding.sequence - 1);
      if (tags.at(at) != double(1 + last * width + at % width))
        return std::nullopt;
    }
  }
  const Tensor *shape = context.sample(value, 0);
  SmallVector<int64_t, 5> axes{axisBatch};
  if (shape && shape->shape.size() == 3)
    axes.push_back(1);
  axes.push_back(slm::widthOf(source));
  return axes;
}

Match raiseColumnView(RaiseContext &context, NodeOp node) {
  bool readsRows = llvm::any_of(node.getInputs(),
                                [&](Value input) { return context.rowsOf(input).has_value(); });
  if (!readsRows)
    return Match::no();
  bool isRaised = false;
  for (Value result : node->getResults()) {
    Value source;
    std::optional<ColumnView> view = columnView(context, result, source);
    if (!view && context.hasCache) {
      if (auto axes = lastRow(context, result, source)) {
        context.setRows(result, source, *axes);
        isRaised = true;
      }
      continue;
    }
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
