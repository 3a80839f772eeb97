// Scans for NaN and infinity.
#include "calibration/finite.h"

#include <algorithm>
#include <cmath>

namespace smelt {

Status checkFinite(const WeightView &weight) {
  constexpr int64_t chunkValues = 1 << 16;
  const int64_t chunk = std::max<int64_t>(1, chunkValues / std::max<int64_t>(1, weight.cols));
  std::vector<float> values(size_t(std::min(chunk, weight.rows) * weight.cols));
  for (int64_t row = 0; row < weight.rows; row += chunk) {
    const int64_t count = std::min(chunk, weight.rows - row);
    readRows(weight, row, count, values.data());
    for (int64_t i = 0; i < count * weight.cols; ++i)
      if (!std::isfinite(values[size_t(i)]))
        return corrupt("weight '" + weight.name + "' holds " +
                       (std::isnan(values[size_t(i)]) ? "NaN" : "infinity") + " at row " +
                       std::to_string(row + i / weight.cols) + ", column " +
                       std::to_string(i % weight.cols) +
                       ": the model file is damaged, or its training diverged");
  }
  return {};
}

Status checkVectorsFinite(const Graph &graph) {
  for (const WeightView &weight : graph.weights)
    if (weight.rows == 1)
      SMELT_TRY(checkFinite(weight));
  return {};
}

} // namespace smelt
