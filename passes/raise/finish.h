// The end of raising: one result, no state, rows chosen as early as possible.
#pragma once

#include "passes/raise/context.h"
#include "passes/raise/raise.h"

namespace smelt {

/// Drops the results that only carry state and keeps the logits, erases what nothing reads any more
/// and, if all of it was raised, leaves func @main(tensor<?xi32>) -> tensor<?xVxf32> with
/// slm.select_rows placed.
void finishRaising(RaiseContext &context);

/// Puts slm.select_rows at the first value after the last attention that is all that later ops
/// read.
void placeSelectRows(mlir::func::FuncOp function);

} // namespace smelt
