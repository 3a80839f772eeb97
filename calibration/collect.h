// Runs the float model over calibration samples, layer by layer, and collects the statistics of
// every linear input.
#pragma once

#include "calibration/float_model.h"
#include "calibration/graph.h"
#include "calibration/statistics.h"

#include <functional>
#include <span>

namespace smelt {

struct CollectOptions {
  int threads = 0;            ///< 0: all cores
  bool secondMoments = false; ///< also sum x x^T
  /// Float products even where the CPU multiplies bfloat16 twice as fast. Rounding operands to
  /// bfloat16 moves the sums by some 0.1 %, far less than another choice of samples does.
  bool exactProducts = false;
  /// Called for every weight that has been used and is not needed for a while, so that its owner
  /// may drop the mapped pages; may be empty.
  std::function<void(const WeightView &)> release;
  /// Called with 0..1 now and then; returning false cancels.
  std::function<bool(double)> progress;
};

/// Takes what calibration finds, segment by segment: the graph is cut wherever a single value is
/// alive, and all samples pass one segment before the next begins.
class SegmentSink {
public:
  virtual ~SegmentSink() = default;
  /// Segments that an earlier run has finished, of `total`; `boundary` then holds the values from
  /// which the next one starts, [rows, cols] of each batch of samples.
  virtual Result<int64_t> resume(int64_t total, std::vector<Matrix> &boundary) = 0;
  /// Segment `index` is finished: the statistics of its linears, and the values that the next one
  /// starts from (none after the last).
  [[nodiscard]] virtual Status finished(int64_t index, Statistics found,
                                        std::span<const Matrix> boundary) = 0;
};

/// Samples are token sequences (one slot each). Memory is bounded by the activations at one segment
/// boundary for all samples, plus one segment's weights and statistics.
[[nodiscard]] Status collectSegments(const Graph &graph,
                                     const std::vector<std::vector<int32_t>> &samples,
                                     const CollectOptions &options, SegmentSink &sink);

/// The statistics of all segments at once, in memory.
Result<Statistics> collectStatistics(const Graph &graph,
                                     const std::vector<std::vector<int32_t>> &samples,
                                     const CollectOptions &options);

/// The samples of shard `shard` (from 0) of `count`: whole batches of those that run together, so
/// that every product has the same operands in a shard as in the whole, whatever blocking the
/// linear algebra chooses by size. Empty when there are fewer batches than shards.
std::vector<std::vector<int32_t>> shardSamples(const std::vector<std::vector<int32_t>> &samples,
                                               uint32_t shard, uint32_t count);

/// The float model itself (oneDNN sgemm), for perplexity and KL: logits [rows.size(), vocab] of the
/// wanted rows of one sequence.
Result<std::vector<float>> floatLogits(const Graph &graph, const std::vector<int32_t> &tokens,
                                       const std::vector<int32_t> &rows, int threads);

} // namespace smelt
