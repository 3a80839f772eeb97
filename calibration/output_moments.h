// Second moments of the gradients by linears' outputs: how the errors of a linear's rows count, and
// count together, in the divergence.
#pragma once

#include "calibration/graph.h"
#include "runtime/base/status.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace smelt {

/// G = E[g g^T] of one linear y = W x, g the gradient of -log p(label) by y for labels drawn from
/// the model. Rows of different blocks are taken for independent: every part of the linear is cut
/// into equal runs of at most `largestOutputBlock` rows.
struct OutputMoments {
  struct Block {
    int64_t first = 0, count = 0; ///< rows, those of the parts counted through
    std::vector<float> values;    ///< [count, count]
  };
  std::vector<Block> blocks; ///< rising, covering all rows
};
constexpr int64_t largestOutputBlock = 2048;

/// Finds those of a linear by its name; a null pointer if it has none.
using OutputMomentsLookup =
    std::function<Result<std::shared_ptr<const OutputMoments>>(const std::string &linear)>;

struct OutputMomentsOptions {
  int64_t windows = 32; ///< samples that are used, at most, evenly spread over those given
  int64_t tokens = 512; ///< of each, at most
  /// Bytes of values between segments that may be in memory; fewer windows are used where that does
  /// not suffice.
  int64_t mostBytes = int64_t(2) << 30;
  uint64_t seed = 2; ///< of the sampled labels
  int threads = 0;   ///< 0: all cores
  /// Float products even where the CPU multiplies bfloat16 twice as fast.
  bool exactProducts = false;
  /// Called for every weight that has been used and is not needed for a while; may be empty.
  std::function<void(const WeightView &)> release;
  /// Called with 0..1 now and then; returning false cancels.
  std::function<bool(double)> progress;
};

/// One backward pass. `finished` takes the moments of every linear but the last (its outputs are
/// the logits), segment by segment, from the last to the first.
[[nodiscard]] Status collectOutputMoments(
    const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
    const OutputMomentsOptions &options,
    const std::function<Status(const std::string &linear, OutputMoments moments)> &finished);

} // namespace smelt
