// y = x [A; B; ...]^T, read in parts alone -> a = x A^T, b = x B^T, ...
//
// Exporters merge query, key and value; apart, each can have a weight format of its own. Those that
// end up in one format are merged again after quantization (qkv.cpp).
#include "passes/fuse/fuse.h"
#include "passes/fuse/fuse_internal.h"

#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace smelt {

Value rowsOfWeight(OpBuilder &builder, slm::WeightOp weight, int64_t first, int64_t count) {
  auto type = RankedTensorType::get({count, slm::widthOf(weight)}, builder.getF32Type());
  int64_t stride = int64_t(weight.getRowStride());
  return slm::WeightOp::create(
      builder, weight.getLoc(), type, weight.getIdAttr(), weight.getNameAttr(),
      builder.getI64IntegerAttr(int64_t(weight.getOffset()) + first * stride),
      weight.getRowStrideAttr(), weight.getColStrideAttr());
}

std::optional<SmallVector<slm::SliceOp>> partsOf(slm::LinearOp linear) {
  if (linear.getWeights().size() != 1 || linear.getResidual() || linear.getGated() ||
      linear.getFormat() || (linear.getBias() && !linear.getBias().getDefiningOp<slm::WeightOp>()))
    return std::nullopt;
  SmallVector<slm::SliceOp> parts;
  for (Operation *user : linear.getResult().getUsers()) {
    auto slice = dyn_cast<slm::SliceOp>(user);
    if (!slice)
      return std::nullopt;
    parts.push_back(slice);
  }
  llvm::sort(parts, [](slm::SliceOp a, slm::SliceOp b) { return a.getFirst() < b.getFirst(); });
  // Without gaps or overlaps: every row of the weight is in one part.
  int64_t end = 0;
  for (slm::SliceOp part : parts) {
    if (int64_t(part.getFirst()) != end)
      return std::nullopt;
    end += slm::widthOf(part);
  }
  if (parts.size() < 2 || end != slm::widthOf(linear))
    return std::nullopt;
  return parts;
}

namespace {

/// Columns [first, first + count) of a vector.
Value columnsOfVector(OpBuilder &builder, slm::WeightOp vector, int64_t first, int64_t count) {
  auto type = RankedTensorType::get({1, count}, builder.getF32Type());
  return slm::WeightOp::create(builder, vector.getLoc(), type, vector.getIdAttr(),
                               vector.getNameAttr(),
                               builder.getI64IntegerAttr(int64_t(vector.getOffset()) +
                                                         first * int64_t(vector.getColStride())),
                               vector.getRowStrideAttr(), vector.getColStrideAttr());
}

void split(slm::LinearOp linear, ArrayRef<slm::SliceOp> parts) {
  OpBuilder builder(linear);
  auto weight = linear.getWeights().front().getDefiningOp<slm::WeightOp>();
  for (slm::SliceOp part : parts) {
    const int64_t first = int64_t(part.getFirst()), count = slm::widthOf(part);
    Value rows = rowsOfWeight(builder, weight, first, count);
    Value bias;
    if (linear.getBias())
      bias =
          columnsOfVector(builder, linear.getBias().getDefiningOp<slm::WeightOp>(), first, count);
    std::string name = linear.getName().str() + "[" + std::to_string(first) + ":" +
                       std::to_string(first + count) + "]";
    Value apart =
        slm::LinearOp::create(builder, linear.getLoc(), part.getType(), linear.getInput(),
                              ValueRange{rows}, bias, Value(), builder.getStringAttr(name),
                              slm::ActivationAttr(), StringAttr(), StringAttr(), IntegerAttr());
    part.getResult().replaceAllUsesWith(apart);
    part->erase();
  }
  eraseIfDead(linear);
}

class SplitLinearPass : public PassWrapper<SplitLinearPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(SplitLinearPass)

  StringRef getArgument() const override { return "split-linear"; }
  StringRef getDescription() const override {
    return "take linears apart whose result is read in parts alone";
  }

  void runOnOperation() override {
    SmallVector<slm::LinearOp> linears;
    getOperation().walk([&](slm::LinearOp linear) { linears.push_back(linear); });
    for (slm::LinearOp linear : linears)
      if (auto parts = partsOf(linear))
        split(linear, *parts);
  }
};

} // namespace

std::unique_ptr<Pass> createSplitLinearPass() { return std::make_unique<SplitLinearPass>(); }

} // namespace smelt
