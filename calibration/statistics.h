// Mergeable statistics of linear inputs: raw sums and counts, so that merging is addition and
// shards give the same result.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace smelt {

/// What was seen at one linear's input x [cols]; sums over tokens, in double.
struct InputStatistics {
  uint64_t tokens = 0;
  std::vector<double> sumSquares;  ///< [cols] sum of x_k^2
  std::vector<double> sumAbsolute; ///< [cols] sum of |x_k|
  std::vector<float> maxAbsolute;  ///< [cols] max of |x_k|
  /// Sum of x x^T: upper triangle by rows, row k holding columns k .. cols - 1; null unless asked
  /// for. Linears that read the same value share one.
  std::shared_ptr<const std::vector<double>> secondMoments;

  int64_t cols() const { return int64_t(sumSquares.size()); }
};

/// Entries of the upper triangle of a [cols, cols] matrix, and where row k of it starts.
inline int64_t triangleSize(int64_t cols) { return cols * (cols + 1) / 2; }
inline int64_t triangleRow(int64_t k, int64_t cols) { return k * cols - k * (k - 1) / 2; }

struct Statistics {
  std::string
      modelHash; ///< hash of the ONNX graph and weights it belongs to; merging others is refused
  std::map<std::string, InputStatistics> inputs; ///< by name of the linear (Node::name)
};

/// Finds the statistics of a linear by its name, wherever they are kept; a null pointer if it has
/// none. What it gives stays valid while it is held.
using StatisticsLookup =
    std::function<Result<std::shared_ptr<const InputStatistics>>(const std::string &linear)>;
/// Looks up in `statistics`, which outlives the result.
StatisticsLookup lookUpIn(const Statistics &statistics);

/// Adds `from` to `into`. What a sample contributes is rounded to float before it is added in
/// double, so that the sums of shards equal the sums of the whole unless samples differ by more
/// than about 2^20 in size. Refused, with `into` untouched: another model, other linears, other
/// widths, second moments in one only.
[[nodiscard]] Status mergeStatistics(Statistics &into, const Statistics &from);
/// Writes a versioned file with a checksum, under a temporary name that becomes `path` when the
/// file is whole.
[[nodiscard]] Status writeStatistics(const Statistics &statistics,
                                     const std::filesystem::path &path);
/// Reads what writeStatistics wrote; anything else is refused as corrupt.
Result<Statistics> readStatistics(const std::filesystem::path &path);

} // namespace smelt
