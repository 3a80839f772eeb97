// Attention of whole sequences in float, causal or in both directions.
#pragma once

#include "calibration/graph.h"
#include "calibration/parallel.h"

#include <algorithm>
#include <span>
#include <vector>

namespace smelt {

/// out[t, h] = softmax(softcap(scalar * q[t, h] . k[s, h'])) v[s, h'] over the positions s <= t of
/// t's sequence, or all if the node is bidirectional; where it has a window, |t - s| < window; h' =
/// h / (heads / kvHeads). q, out [T, heads*headDim]; k, v [T, kvHeads*headDim]. `starts` bounds the
/// sequences: start of each, then one past the last token.
void sequenceAttention(const Node &node, std::span<const int64_t> starts, const float *q,
                       const float *k, const float *v, float *out, WorkerPool &pool);

/// One block of queries of one sequence, and the keys that any of them sees.
struct QueryBlock {
  int64_t start; ///< first token of the sequence
  int64_t first; ///< first query, counted from the start
  int64_t count;
  int64_t length; ///< of the sequence

  /// One past the last position that the query at `position` sees.
  int64_t end(const Node &node, int64_t position) const {
    const int64_t reach = node.bidirectional && node.window ? position + node.window : position + 1;
    return node.bidirectional && !node.window ? length : std::min(length, reach);
  }
  /// First position that it sees.
  int64_t begin(const Node &node, int64_t position) const {
    return node.window ? std::max<int64_t>(0, position - node.window + 1) : 0;
  }
  int64_t firstKey(const Node &node) const { return begin(node, first); }
  int64_t keys(const Node &node) const { return end(node, first + count - 1) - firstKey(node); }
};

/// The blocks of all sequences.
std::vector<QueryBlock> queryBlocks(std::span<const int64_t> starts);

/// Softmax weights of one head for one block, [count, keys], with `q` and `k` as above; if `capped`
/// is not null, there the scores after the softcap, before slopes and mask.
void attentionWeights(const Node &node, const QueryBlock &block, int64_t head, const float *q,
                      const float *k, float *weights, float *capped);

} // namespace smelt
