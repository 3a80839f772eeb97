// What the fuse passes and their contract share: one function for each fusion that finds its
// operands.
#pragma once

#include "compiler/dialect/slm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include <optional>

namespace smelt {

/// The linears behind an attention's operands, of one input, not yet merged.
struct QkvLinears {
  slm::LinearOp query, key, value;
};
std::optional<QkvLinears> qkvOf(slm::AttentionOp attention);

/// Weights of the two halves of a gated product over one input; slices of one weight are its views.
struct GatedParts {
  mlir::Value input;
  mlir::StringAttr name;
  slm::WeightOp gate, up;
  int64_t gateFirst = 0, upFirst = 0; ///< rows of the weights
  slm::LinearOp last;                 ///< of the linears merged: the result stands there
};
std::optional<GatedParts> gatedOf(slm::GatedOp gated);

/// The slices of a linear's result, in order, if they are all that reads it and each of its columns
/// is in one of them; the linear has one weight and is not quantized yet.
std::optional<mlir::SmallVector<slm::SliceOp>> partsOf(slm::LinearOp linear);
/// Rows [first, first + count) of a weight, as a view.
mlir::Value rowsOfWeight(mlir::OpBuilder &builder, slm::WeightOp weight, int64_t first,
                         int64_t count);

/// The linear of a sum that can take the other side as residual.
struct ResidualParts {
  slm::LinearOp linear;
  mlir::Value residual;
};
std::optional<ResidualParts> residualOf(slm::AddOp add);

/// Erases an op that nothing reads, and the linears, slices and weights that were there for it.
void eraseIfDead(mlir::Operation *op);

/// "a/b/q_proj/MatMul+k_proj/MatMul": the first name and the others without the folder they share.
mlir::StringAttr mergedName(mlir::ArrayRef<mlir::StringAttr> names);

} // namespace smelt
