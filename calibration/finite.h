// Weights that are not numbers: found and named before they spoil what is computed from them.
#pragma once

#include "calibration/graph.h"

namespace smelt {

/// Corrupt, with the name of the weight and the place of its first NaN or infinity; reads all of
/// it.
[[nodiscard]] Status checkFinite(const WeightView &weight);

/// The same for all vectors of a graph (norms, biases), which are small. Matrices are checked where
/// they are read anyway: when they are quantized.
[[nodiscard]] Status checkVectorsFinite(const Graph &graph);

} // namespace smelt
