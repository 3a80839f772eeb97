// The divergence of a finished artifact from the float model, on windows of tokens.
#pragma once

#include "calibration/graph.h"
#include "compiler/driver/divergence.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace smelt {

/// Scores the second half of every window, as evaluate() does, against `graph`.
Result<Summary> verifyDivergence(const std::string &artifact, const Graph &graph,
                                 const std::vector<std::vector<int32_t>> &windows, int threads,
                                 bool quiet);

} // namespace smelt
