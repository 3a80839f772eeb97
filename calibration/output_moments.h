// Second moments of the gradients by linears' outputs: how the errors of a linear's rows count, and
// count together, in the divergence.
#pragma once

#include "calibration/graph.h"
#include "calibration/sampled_labels.h"
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

struct OutputMomentsOptions : SampledPassOptions {
  OutputMomentsOptions() : SampledPassOptions{.windows = 32, .seed = 2} {}
  /// Bytes of values between segments that may be in memory; fewer windows are used where that does
  /// not suffice.
  int64_t mostBytes = int64_t(2) << 30;
};

/// One backward pass. `finished` takes the moments of every linear but the one that gives the
/// logits, segment by segment, from the last to the first.
[[nodiscard]] Status collectOutputMoments(
    const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
    const OutputMomentsOptions &options,
    const std::function<Status(const std::string &linear, OutputMoments moments)> &finished);

} // namespace smelt
