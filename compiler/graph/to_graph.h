// The model as plain C++ (calibration/graph.h), made from the model dialect: what calibration and
// the reference run.
#pragma once

#include "compiler/weights/weight_store.h"
#include "passes/weight_sink.h"

#include "mlir/IR/BuiltinOps.h"

#include <memory>

namespace smelt {

/// Positions that rotary tables are made for where the graph computes its angles itself.
constexpr int64_t defaultPositions = 8192;

/// Finds the data behind slm.weight and slm.rotary_table. Tables are evaluated in double for
/// positions 0 .. positions - 1, rounded once, and kept in the store, once for each distinct table;
/// all views stay valid while the store lives.
WeightResolver makeResolver(std::shared_ptr<WeightStore> weights,
                            int64_t positions = defaultPositions);

/// Converts `@main` of slm ops, before or after fuse. A gated linear becomes one Linear of that
/// name over gate and up, two slices and Gated; a residual becomes Add. The graph's views live as
/// long as the resolver's.
Result<Graph> toGraph(mlir::ModuleOp module, const WeightResolver &resolve);

} // namespace smelt
