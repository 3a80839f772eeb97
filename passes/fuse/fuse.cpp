// The pipeline of fusions, the names of merged linears and the contract.
#include "passes/fuse/fuse.h"

#include "passes/fuse/fuse_internal.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"

using namespace mlir;

namespace smelt {

StringAttr mergedName(ArrayRef<StringAttr> names) {
  StringRef first = names.front().getValue();
  size_t shared = first.size();
  for (StringAttr name : names.drop_front()) {
    size_t length = 0;
    while (length < shared && length < name.size() && first[length] == name.getValue()[length])
      ++length;
    shared = length;
  }
  size_t folder = first.substr(0, shared).find_last_of("/.");
  size_t skipped = folder == StringRef::npos ? 0 : folder + 1;
  std::string merged = first.str();
  for (StringAttr name : names.drop_front())
    merged += "+" + name.getValue().substr(skipped).str();
  return StringAttr::get(names.front().getContext(), merged);
}

void eraseIfDead(Operation *op) {
  if (!op || !op->use_empty())
    return;
  SmallVector<Value> operands(op->getOperands());
  op->erase();
  for (Value operand : operands)
    if (Operation *before = operand.getDefiningOp();
        before && isa<slm::SliceOp, slm::LinearOp, slm::WeightOp, slm::JoinOp>(before))
      eraseIfDead(before);
}

namespace {

class CheckFusedPass : public PassWrapper<CheckFusedPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckFusedPass)

  StringRef getArgument() const override { return "check-fused"; }
  StringRef getDescription() const override { return "fail where a fusion was left undone"; }

  void runOnOperation() override {
    bool isBroken = false;
    auto report = [&](Operation *op, StringRef what) {
      op->emitError() << what;
      isBroken = true;
    };
    getOperation().walk([&](Operation *op) {
      if (!isa<ModuleOp>(op) && !isa<func::FuncDialect, slm::SLMDialect>(op->getDialect()))
        report(op, "is not an op of the model dialect; raise comes before fuse");
      if (auto gated = dyn_cast<slm::GatedOp>(op); gated && gatedOf(gated))
        report(op, "has gate and up linears of one input that are not merged");
      if (auto linear = dyn_cast<slm::LinearOp>(op); linear && partsOf(linear))
        report(op, "is read in parts alone and not split");
      if (auto add = dyn_cast<slm::AddOp>(op); add && residualOf(add))
        report(op, "adds to a linear that could take it as residual");
    });
    if (isBroken)
      signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createCheckFusedPass() { return std::make_unique<CheckFusedPass>(); }

void addFusePasses(OpPassManager &passes) {
  passes.addPass(createFuseGatedPass());
  passes.addPass(createSplitLinearPass());
  passes.addPass(createFuseResidualPass());
  passes.addPass(createCheckFusedPass());
}

void registerFusePasses() {
  registerPass(createFuseQkvPass);
  registerPass(createFuseGatedPass);
  registerPass(createSplitLinearPass);
  registerPass(createFuseResidualPass);
  registerPass(createCheckFusedPass);
}

} // namespace smelt
