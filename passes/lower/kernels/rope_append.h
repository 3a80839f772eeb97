// The steps of RopeAppend for single heads, which attention of one row takes itself.
#pragma once

#include "passes/lower/kernels/cache.h"

#include <functional>

namespace smelt {

/// Both of one row, with RopeAppend's operands (with spec.appends, p1 holds values too).
struct HeadSteps {
  /// Head norm and rotation of a query head into headDim floats of `out` from `to`.
  std::function<void(Value head, Buffer out, Value to)> query;
  /// Keys and values of a kv head into the cache.
  std::function<void(Value kvHead)> append;
};
/// To be called at function level.
HeadSteps headSteps(KernelBuilder &k);

} // namespace smelt
