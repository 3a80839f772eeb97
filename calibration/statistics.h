// Mergeable statistics of linear inputs: raw sums and counts, so that merging is addition and
// shards give the same result.
#pragma once

#include "calibration/exact_sum.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace smelt {

/// What was seen at one linear's input x [cols]; sums over tokens, each the double nearest to the
/// exact sum of what the samples contribute (calibration/exact_sum.h).
struct InputStatistics {
  uint64_t tokens = 0;
  std::vector<double> sumSquares;  ///< [cols] sum of x_k^2
  std::vector<double> sumAbsolute; ///< [cols] sum of |x_k|
  std::vector<float> maxAbsolute;  ///< [cols] max of |x_k|
  /// Sum of x x^T: upper triangle by rows, row k holding columns k .. cols - 1; null unless asked
  /// for. Linears that read the same value share one.
  std::shared_ptr<const std::vector<double>> secondMoments;
  /// What the sums above lost to rounding: nothing for users of the sums, but merging needs it.
  Residues squaresResidues, absoluteResidues;
  std::shared_ptr<const Residues> momentResidues; ///< null exactly where secondMoments is

  int64_t cols() const { return int64_t(sumSquares.size()); }
};

/// Entries of the upper triangle of a [cols, cols] matrix, and where row k of it starts.
inline int64_t triangleSize(int64_t cols) { return cols * (cols + 1) / 2; }
inline int64_t triangleRow(int64_t k, int64_t cols) { return k * cols - k * (k - 1) / 2; }

/// Which shards of one data set were run.
struct ShardCoverage {
  uint32_t count = 1;         ///< shards that the data were cut into
  std::set<uint32_t> present; ///< of 0 .. count - 1; a whole set is always written as {0} of 1
  bool whole() const { return present.size() == count; }
};

struct Statistics {
  std::string
      modelHash; ///< hash of the ONNX graph and weights it belongs to; merging others is refused
  std::map<std::string, InputStatistics> inputs; ///< by name of the linear (Node::name)
  std::map<std::string, ShardCoverage> data;     ///< by hash of the token windows
};

/// Finds the statistics of a linear by its name, wherever they are kept; a null pointer if it has
/// none. What it gives stays valid while it is held.
using StatisticsLookup =
    std::function<Result<std::shared_ptr<const InputStatistics>>(const std::string &linear)>;
/// Looks up in `statistics`, which outlives the result.
StatisticsLookup lookUpIn(const Statistics &statistics);

/// Adds `from` to `into`. Sums are exact, so that any grouping and order of the same shards gives
/// the same bytes. Refused, with `into` untouched: another model, other linears, other widths,
/// second moments in one only, a shard that is in both, data cut differently.
[[nodiscard]] Status mergeStatistics(Statistics &into, const Statistics &from);
/// Says which shards are missing ("shards 2 and 3 of 4"); empty when the data are whole.
std::string missingShards(const Statistics &statistics);
/// Writes a versioned file with a checksum, under a temporary name that becomes `path` when the
/// file is whole.
[[nodiscard]] Status writeStatistics(const Statistics &statistics,
                                     const std::filesystem::path &path);
/// Reads what writeStatistics wrote; anything else is refused as corrupt.
Result<Statistics> readStatistics(const std::filesystem::path &path);

} // namespace smelt
