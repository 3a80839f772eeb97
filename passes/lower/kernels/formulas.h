// Formulas that kernels of a CPU and of a GPU share, over scalars or vectors.
#pragma once

#include "passes/lower/kernels/builder.h"

namespace smelt {

/// The largest float16.
inline constexpr double mostHalf = 65504;

/// What an elementwise spec makes of `x` and, where it takes two operands, of `other()`.
Value combined(ValueBuilder &k, const KernelSpec &spec, Value x,
               const std::function<Value()> &other);

/// `most` / scale of a scalar; 0 unless scale > `least`.
Value inverseOf(ValueBuilder &k, Value scale, double most = 1, double least = 0);

/// v, but -most .. most; what is no number becomes `most`.
Value limited(ValueBuilder &k, Value v, double most = mostHalf);

/// First and last position that attention of a row sees.
struct PositionRange {
  Value first, last;
};
/// Of a row at `position`; `end()`: the last position of its slot in this step.
PositionRange visiblePositions(ValueBuilder &k, const KernelSpec &spec, Value position,
                               const std::function<Value()> &end);

/// First float of AttentionOne's partial result of a query head and block (layout.h).
Value partialOf(ValueBuilder &k, const KernelSpec &spec, Value queryHead, Value block);

} // namespace smelt
