// r + (x W^T + b) -> the linear with residual r.
#include "passes/fuse/fuse.h"
#include "passes/fuse/fuse_internal.h"

#include "mlir/IR/BuiltinOps.h"

using namespace mlir;

namespace smelt {

std::optional<ResidualParts> residualOf(slm::AddOp add) {
  for (auto [made, other] :
       {std::pair(add.getRhs(), add.getLhs()), std::pair(add.getLhs(), add.getRhs())}) {
    auto linear = made.getDefiningOp<slm::LinearOp>();
    if (!linear || linear.getGated() || linear.getResidual() || !made.hasOneUse() || made == other)
      continue;
    return ResidualParts{linear, other};
  }
  return std::nullopt;
}

namespace {

class FuseResidualPass : public PassWrapper<FuseResidualPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FuseResidualPass)

  StringRef getArgument() const override { return "fuse-residual"; }
  StringRef getDescription() const override { return "let a linear add the residual"; }

  void runOnOperation() override {
    SmallVector<slm::AddOp> sums;
    getOperation().walk([&](slm::AddOp add) { sums.push_back(add); });
    for (slm::AddOp add : sums) {
      std::optional<ResidualParts> parts = residualOf(add);
      if (!parts)
        continue;
      // The residual may be made between the linear and the sum: the linear moves to the sum.
      OpBuilder builder(add);
      slm::LinearOp linear = parts->linear;
      Value sum = slm::LinearOp::create(
          builder, linear.getLoc(), linear.getType(), linear.getInput(), linear.getWeights(),
          linear.getBias(), parts->residual, linear.getNameAttr(), slm::ActivationAttr(),
          StringAttr(), StringAttr(), IntegerAttr());
      add.getResult().replaceAllUsesWith(sum);
      add.erase();
      linear.erase();
    }
  }
};

} // namespace

std::unique_ptr<Pass> createFuseResidualPass() { return std::make_unique<FuseResidualPass>(); }

} // namespace smelt
