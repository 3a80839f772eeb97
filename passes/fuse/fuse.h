// Merging and splitting of linears, and of what follows them.
#pragma once

#include "passes/weight_sink.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

#include <memory>

namespace mlir {
class OpPassManager;
}

namespace smelt {

/// The linears of one attention's q, k and v become one with three weights, read through slm.slice,
/// if they are not quantized or their packed rows are one matrix.
std::unique_ptr<mlir::Pass> createFuseQkvPass();
/// kind(x gate^T) * (x up^T) becomes one gated linear, whether gate and up were two linears or two
/// halves of one.
std::unique_ptr<mlir::Pass> createFuseGatedPass();
/// A linear whose result is read in parts alone becomes one linear for each part.
std::unique_ptr<mlir::Pass> createSplitLinearPass();
/// A sum with a linear that nothing else reads becomes the linear's residual.
std::unique_ptr<mlir::Pass> createFuseResidualPass();
/// A linear whose weight has the elements of an embedding's table, stored a second time (often
/// transposed), reads the table's weight from now on, so that one packed copy serves both. Returns
/// how many.
Result<int64_t> tieWeights(mlir::ModuleOp module, const WeightResolver &resolve);
/// The contract after fusing: the logits are a function of token ids in slm ops alone, and no
/// gated linear or residual is left to fuse, and no linear to split.
std::unique_ptr<mlir::Pass> createCheckFusedPass();

/// Gated linears, parts, residuals, contract.
void addFusePasses(mlir::OpPassManager &passes);
/// Makes the passes known by name, for smelt-opt.
void registerFusePasses();

} // namespace smelt
