// Linear layers: y = x W^T with W [N, K] an initializer, in MatMul's [K, N] storage a view of it.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

Value makeLinear(RaiseContext &context, NodeOp node, Value input, Value weight, Value bias) {
  OpBuilder &builder = context.builder;
  auto type =
      RankedTensorType::get({ShapedType::kDynamic, slm::rowsOf(weight)}, builder.getF32Type());
  return slm::LinearOp::create(builder, node.getLoc(), type, input, ValueRange{weight}, bias,
                               Value(), builder.getStringAttr(context.uniqueName(node.getName())),
                               slm::ActivationAttr(), StringAttr(), StringAttr(), IntegerAttr());
}

} // namespace

Match raiseLinear(RaiseContext &context, NodeOp node) {
  std::optional<WeightRef> weight = context.weightOf(node.getInputs()[1]);
  std::optional<Rows> rows = context.rowsOf(node.getInputs()[0]);
  if (!weight || weight->shape.size() != 2)
    return Match::no();
  if (!rows)
    return Match::blocked();
  bool isGemm = node.getType() == "Gemm", isPlain = node.getType() == "MatMul";
  if (!rows->isFlat() ||
      (!isPlain && (integerOf(node, "transA", 0) != 0 || integerOf(node, "transBatchA", 0) != 0 ||
                    integerOf(node, "transBatchB", 0) != 0)))
    return Match::near("its input is not [.., columns]");
  // MatMul and Gemm hold [K, N]; Gemm and FusedMatMul with transB hold [N, K].
  bool isRowMajor = !isPlain && integerOf(node, "transB", 0) != 0;
  size_t n = isRowMajor ? 0 : 1, k = 1 - n;
  if (weight->shape[k] != rows->width())
    return Match::near("its weight does not fit its input's " + std::to_string(rows->width()) +
                       " columns");
  if (!isPlain && floatOf(node, "alpha", 1) != 1)
    return Match::near("alpha is not 1");
  Value bias;
  if (Value given = isGemm ? inputOf(node, 2) : Value()) {
    if (floatOf(node, "beta", 1) != 1)
      return Match::near("beta is not 1");
    bias = context.makeVector(given, weight->shape[n]);
    if (!bias)
      return Match::near("its bias is not an initializer of " + std::to_string(weight->shape[n]) +
                         " elements");
  }
  Value view = context.makeWeight(*weight, 0, weight->shape[n], weight->shape[k],
                                  weight->strides[n], weight->strides[k]);
  Value result = makeLinear(context, node, rows->value, view, bias);
  SmallVector<int64_t, 5> axes = rows->axes;
  axes.back() = weight->shape[n];
  context.setRows(node->getResult(0), result, axes);
  return Match::yes();
}

Match raiseBias(RaiseContext &context, NodeOp node) {
  for (unsigned side = 0; side < 2; ++side) {
    std::optional<Rows> rows = context.rowsOf(node.getInputs()[side]);
    Value given = node.getInputs()[1 - side];
    if (!rows || !context.weightOf(given))
      continue;
    // (x W^T) + b: the bias joins the linear that makes the rows
    auto linear = rows->value.getDefiningOp<slm::LinearOp>();
    if (!linear || linear.getBias() || !rows->isFlat())
      return Match::near("a vector is added to rows that no linear without bias makes");
    Value bias = context.makeVector(given, rows->width());
    if (!bias)
      return Match::near("the added initializer is not a vector of " +
                         std::to_string(rows->width()) + " elements");
    OpBuilder &builder = context.builder;
    Value result =
        slm::LinearOp::create(builder, node.getLoc(), linear.getType(), linear.getInput(),
                              linear.getWeights(), bias, Value(), linear.getNameAttr(),
                              slm::ActivationAttr(), StringAttr(), StringAttr(), IntegerAttr());
    // The linear without the bias dies unless something else reads it; then it needs its own key.
    bool isShared = !llvm::all_of(rows->value.getUsers(), [&](Operation *user) {
      return isa<RowsOp>(user) &&
             llvm::all_of(user->getUsers(), [&](Operation *reader) { return reader == node; });
    });
    if (isShared)
      linear.setName(context.uniqueName(linear.getName()));
    context.setRows(node->getResult(0), result, rows->axes);
    return Match::yes();
  }
  return Match::no();
}

} // namespace smelt
