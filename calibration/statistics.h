// Mergeable statistics of linear inputs: raw sums and counts, so that merging is addition and shards give the same result.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace smelt {

/// What was seen at one linear's input x [cols]; sums over tokens, in double.
struct InputStatistics {
  uint64_t tokens = 0;
  std::vector<double> sumSquares;  ///< [cols] sum of x_k^2
  std::vector<double> sumAbsolute; ///< [cols] sum of |x_k|
  std::vector<float> maxAbsolute;  ///< [cols] max of |x_k|
  std::vector<double> secondMoments; ///< [cols, cols] sum of x x^T, upper triangle mirrored; empty unless asked for
};

struct Statistics {
  std::string modelHash; ///< hash of the ONNX graph and weights it belongs to; merging others is refused
  std::map<std::string, InputStatistics> inputs; ///< by name of the linear (Node::name)
};

[[nodiscard]] Status mergeStatistics(Statistics &into, const Statistics &from);
[[nodiscard]] Status writeStatistics(const Statistics &statistics, const std::filesystem::path &path);
Result<Statistics> readStatistics(const std::filesystem::path &path);

} // namespace smelt
