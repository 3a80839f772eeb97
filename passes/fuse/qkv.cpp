// q = x Wq^T, k = x Wk^T, v = x Wv^T -> [q | k | v] = x [Wq; Wk; Wv]^T.
//
// It comes after quantization, which gives the three formats of their own: those whose packed rows
// follow each other in one format are one matrix already.
#include "passes/fuse/fuse.h"
#include "passes/fuse/fuse_internal.h"
#include "runtime/formats/formats.h"

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

/// Whether both linears are as yet unquantized, or alike and `second`'s packed rows begin where
/// those of `first` end.
static bool followsPacked(slm::LinearOp first, slm::LinearOp second) {
  if (first.getFormat() != second.getFormat() || first.getActivation() != second.getActivation() ||
      first.getPackedOffset().has_value() != second.getPackedOffset().has_value())
    return false;
  if (!first.getPackedOffset())
    return true;
  Result<WeightFormat> format = findFormat(first.getFormat().value_or("").str());
  const int64_t rows = slm::widthOf(first), cols = slm::widthOf(first.getInput());
  return format && rows % tileRows == 0 &&
         *first.getPackedOffset() + uint64_t(packedBytes(*format, rows, cols)) ==
             *second.getPackedOffset();
}

std::optional<QkvLinears> qkvOf(slm::AttentionOp attention) {
  QkvLinears found{linearBehind(attention.getQuery()), linearBehind(attention.getKey()),
                   linearBehind(attention.getValue())};
  slm::LinearOp all[] = {found.query, found.key, found.value};
  for (slm::LinearOp linear : all)
    if (!linear || linear.getInput() != found.query.getInput() || linear.getResidual() ||
        linear.getGated() || bool(linear.getBias()) != bool(found.query.getBias()))
      return std::nullopt;
  if (found.query == found.key || found.query == found.value || found.key == found.value)
    return std::nullopt;
  if (!followsPacked(found.query, found.key) || !followsPacked(found.key, found.value))
    return std::nullopt;
  return found;
}

namespace {

/// The vectors that a bias is joined of.
SmallVector<Value> vectorsOf(Value bias) {
  if (!bias)
    return {};
  if (auto joined = bias.getDefiningOp<slm::JoinOp>())
    return SmallVector<Value>(joined.getParts());
  return {bias};
}

void fuse(QkvLinears qkv) {
  slm::LinearOp parts[] = {qkv.query, qkv.key, qkv.value};
  slm::LinearOp first = qkv.query;
  for (slm::LinearOp linear : parts)
    if (linear->isBeforeInBlock(first))
      first = linear;
  OpBuilder builder(first);
  SmallVector<Value> weights, biases;
  SmallVector<StringAttr> names;
  SmallVector<Location> locations;
  int64_t rows = 0;
  for (slm::LinearOp linear : parts) {
    for (Value weight : linear.getWeights())
      weights.push_back(builder.clone(*weight.getDefiningOp())->getResult(0));
    for (Value part : vectorsOf(linear.getBias()))
      biases.push_back(builder.clone(*part.getDefiningOp())->getResult(0));
    names.push_back(linear.getNameAttr());
    locations.push_back(linear.getLoc());
    rows += slm::widthOf(linear);
  }
  auto type = RankedTensorType::get({ShapedType::kDynamic, rows}, builder.getF32Type());
  Location location = builder.getFusedLoc(locations);
  Value bias;
  if (!biases.empty())
    bias = slm::JoinOp::create(builder, location,
                               RankedTensorType::get({1, rows}, builder.getF32Type()), biases);
  Value merged =
      slm::LinearOp::create(builder, location, type, first.getInput(), weights, bias, Value(),
                            mergedName(names), slm::ActivationAttr(), qkv.query.getFormatAttr(),
                            qkv.query.getActivationAttr(), qkv.query.getPackedOffsetAttr());
  int64_t at = 0;
  for (slm::LinearOp linear : parts) {
    Value slice =
        slm::SliceOp::create(builder, linear.getLoc(), linear.getType(), merged, uint64_t(at));
    at += slm::widthOf(linear);
    linear.getResult().replaceAllUsesWith(slice);
  }
  for (slm::LinearOp linear : parts)
    eraseIfDead(linear);
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
