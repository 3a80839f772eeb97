// y = kind(x G^T) * (x U^T) -> one linear over the pair (G, U), whose epilogue is the product.
#include "passes/fuse/fuse.h"
#include "passes/fuse/fuse_internal.h"

#include "mlir/IR/BuiltinOps.h"

using namespace mlir;

namespace smelt {

/// The linear behind one side and the first of its weight's rows that the side reads.
static slm::LinearOp sideOf(Value side, int64_t &first) {
  first = 0;
  if (auto slice = side.getDefiningOp<slm::SliceOp>()) {
    first = int64_t(slice.getFirst());
    side = slice.getInput();
  }
  auto linear = side.getDefiningOp<slm::LinearOp>();
  bool isPlain = linear && linear.getWeights().size() == 1 && !linear.getBias() &&
                 !linear.getResidual() && !linear.getGated();
  return isPlain ? linear : slm::LinearOp();
}

std::optional<GatedParts> gatedOf(slm::GatedOp gated) {
  GatedParts parts;
  slm::LinearOp gate = sideOf(gated.getGate(), parts.gateFirst),
                up = sideOf(gated.getUp(), parts.upFirst);
  if (!gate || !up || gate.getInput() != up.getInput())
    return std::nullopt;
  // Both sides are read here alone: otherwise they would be computed twice.
  auto isPrivate = [&](Value side) {
    return side.hasOneUse() || (gate == up && llvm::all_of(side.getUsers(), [](Operation *user) {
                                  return isa<slm::SliceOp>(user);
                                }));
  };
  if (!gated.getGate().hasOneUse() || !gated.getUp().hasOneUse() || !isPrivate(gate) ||
      !isPrivate(up))
    return std::nullopt;
  if (gate == up && (!gate.getResult().hasNUses(2) || gated.getGate() == gated.getUp()))
    return std::nullopt;
  parts.input = gate.getInput();
  parts.name = gate == up ? gate.getNameAttr() : mergedName({gate.getNameAttr(), up.getNameAttr()});
  parts.gate = gate.getWeights().front().getDefiningOp<slm::WeightOp>();
  parts.up = up.getWeights().front().getDefiningOp<slm::WeightOp>();
  parts.last = gate->isBeforeInBlock(up) ? up : gate;
  return parts;
}

namespace {

void fuse(slm::GatedOp gated, const GatedParts &parts) {
  OpBuilder builder(parts.last);
  int64_t width = slm::widthOf(gated);
  Value gate = rowsOfWeight(builder, parts.gate, parts.gateFirst, width);
  Value up = rowsOfWeight(builder, parts.up, parts.upFirst, width);
  auto kind = slm::ActivationAttr::get(builder.getContext(), gated.getKind());
  Value merged = slm::LinearOp::create(builder, gated.getLoc(), gated.getType(), parts.input,
                                       ValueRange{gate, up}, Value(), Value(), parts.name, kind,
                                       StringAttr(), StringAttr(), IntegerAttr());
  gated.getResult().replaceAllUsesWith(merged);
  eraseIfDead(gated);
}

class FuseGatedPass : public PassWrapper<FuseGatedPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FuseGatedPass)

  StringRef getArgument() const override { return "fuse-gated"; }
  StringRef getDescription() const override {
    return "merge gate and up linears with their product";
  }

  void runOnOperation() override {
    SmallVector<slm::GatedOp> products;
    getOperation().walk([&](slm::GatedOp gated) { products.push_back(gated); });
    for (slm::GatedOp gated : products)
      if (std::optional<GatedParts> parts = gatedOf(gated))
        fuse(gated, *parts);
  }
};

} // namespace

std::unique_ptr<Pass> createFuseGatedPass() { return std::make_unique<FuseGatedPass>(); }

} // namespace smelt
