// q = x Wq^T, k = x Wk^T, v = x Wv^T -> [q | k | v] = x [Wq; Wk; Wv]^T.
#include "passes/fuse/fuse.h"
#include "passes/fuse/fuse_internal.h"

#include "mlir/IR/BuiltinOps.h"

using namespace mlir;

namespace smelt {

/// The linear that makes `rows`, through rotations and norms of its heads.
static slm::LinearOp linearBehind(Value rows) {
  while (Operation *op = rows.getDefiningOp()) {
    if (auto rope = dyn_cast<slm::RopeOp>(op))
      rows = rope.getInput();
    else if (auto norm = dyn_cast<slm::HeadNormOp>(op))
      rows = norm.getInput();
    else if (auto norm = dyn_cast<slm::RmsNormOp>(op))
      rows = norm.getInput();
    else if (auto scale = dyn_cast<slm::ScaleOp>(op))
      rows = scale.getInput();
    else
      return dyn_cast<slm::LinearOp>(op);
  }
  return {};
}

std::optional<QkvLinears> qkvOf(slm::AttentionOp attention) {
  QkvLinears found{linearBehind(attention.getQuery()), linearBehind(attention.getKey()),
                   linearBehind(attention.getValue())};
  slm::LinearOp all[] = {found.query, found.key, found.value};
  for (slm::LinearOp linear : all)
    if (!linear || linear.getInput() != found.query.getInput() || linear.getResidual() ||
        linear.getGated() || bool(linear.getBias()) != bool(found.query.getBias()) ||
        linear.getWeights().size() != 1)
      return std::nullopt;
  if (found.query == found.key || found.query == found.value || found.key == found.value)
    return std::nullopt;
  // One bias [1, rows] cannot be made of three that lie apart in the file: with biases the linears
  // stay three.
  if (found.query.getBias())
    return std::nullopt;
  return found;
}

namespace {

void fuse(const QkvLinears &qkv) {
  slm::LinearOp parts[] = {qkv.query, qkv.key, qkv.value};
  slm::LinearOp first = qkv.query;
  for (slm::LinearOp linear : parts)
    if (linear->isBeforeInBlock(first))
      first = linear;
  OpBuilder builder(first);
  SmallVector<Value> weights;
  SmallVector<StringAttr> names;
  SmallVector<Location> locations;
  int64_t rows = 0;
  for (slm::LinearOp linear : parts) {
    auto weight = linear.getWeights().front().getDefiningOp<slm::WeightOp>();
    weights.push_back(builder.clone(*weight)->getResult(0));
    names.push_back(linear.getNameAttr());
    locations.push_back(linear.getLoc());
    rows += slm::rowsOf(weight);
  }
  auto type = RankedTensorType::get({ShapedType::kDynamic, rows}, builder.getF32Type());
  Value merged = slm::LinearOp::create(
      builder, builder.getFusedLoc(locations), type, first.getInput(), weights, Value(), Value(),
      mergedName(names), slm::ActivationAttr(), StringAttr(), StringAttr(), IntegerAttr());
  int64_t at = 0;
  for (slm::LinearOp linear : parts) {
    Value slice =
        slm::SliceOp::create(builder, linear.getLoc(), linear.getType(), merged, uint64_t(at));
    at += slm::widthOf(linear);
    linear.getResult().replaceAllUsesWith(slice);
  }
  for (slm::LinearOp linear : parts) {
    Operation *weight = linear.getWeights().front().getDefiningOp();
    linear.erase();
    if (weight->use_empty())
      weight->erase();
  }
}

class FuseQkvPass : public PassWrapper<FuseQkvPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FuseQkvPass)

  StringRef getArgument() const override { return "fuse-qkv"; }
  StringRef getDescription() const override {
    return "merge the query, key and value linears of an attention";
  }

  void runOnOperation() override {
    SmallVector<slm::AttentionOp> attentions;
    getOperation().walk([&](slm::AttentionOp attention) { attentions.push_back(attention); });
    for (slm::AttentionOp attention : attentions)
      if (std::optional<QkvLinears> qkv = qkvOf(attention))
        fuse(*qkv);
  }
};

} // namespace

std::unique_ptr<Pass> createFuseQkvPass() { return std::make_unique<FuseQkvPass>(); }

} // namespace smelt
