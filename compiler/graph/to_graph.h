// The model as plain C++ (calibration/graph.h), made from the model dialect: what calibration and
// the reference run.
#pragma once

#include "calibration/graph.h"
#include "compiler/dialect/slm.h"
#include "compiler/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"

#include <memory>
#include <vector>

namespace smelt {

/// A graph and the buffers that some of its weights live in; the weight store keeps the rest and
/// must outlive it.
struct ModelGraph {
  Graph graph;
  std::vector<std::unique_ptr<std::vector<float>>>
      tables; ///< rotary tables that the compiler computed
};

/// The values of a rotary table, [positions, columns]: evaluated in double, rounded once.
std::vector<float> evaluateRotaryTable(slm::RotaryTableOp op, int64_t positions);

/// Converts `@main` of slm ops, before or after fuse. A gated linear becomes one Linear of that
/// name over gate and up, two slices and Gated; a residual becomes Add. Rotary tables are evaluated
/// in double for positions 0 .. maxPositions - 1 and rounded once.
Result<ModelGraph> toGraph(mlir::ModuleOp module, const WeightStore &weights, int64_t maxPositions);

} // namespace smelt
