// Attention by blocks of queries: scores and weighted sums are matrix products over the keys that
// the block can see.
#include "calibration/float_attention.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"

#include <algorithm>
#include <vector>

namespace smelt {

namespace {

constexpr int64_t queryBlock = 128;

/// One block of queries of one sequence.
struct QueryBlock {
  int64_t start; ///< first token of the sequence
  int64_t first; ///< first query, counted from the start
  int64_t count;
  int64_t length; ///< of the sequence

  /// One past the last position that a query sees.
  int64_t end(const Node &node, int64_t position) const {
    int64_t reach = node.bidirectional && node.window ? position + node.window : position + 1;
    return node.bidirectional && !node.window ? length : std::min(length, reach);
  }
};

void attendBlock(const Node &node, const QueryBlock &block, int64_t head, const float *q,
                 const float *k, const float *v, float *out) {
  const int64_t width = node.heads * node.headDim, kvWidth = node.kvHeads * node.headDim;
  const int64_t kvColumn = head / (node.heads / node.kvHeads) * node.headDim;
  const int64_t low = node.window ? std::max<int64_t>(0, block.first - node.window + 1) : 0;
  const int64_t keys = block.end(node, block.first + block.count - 1) - low;
  thread_local std::vector<float> scores; // [count, keys]
  scores.resize(size_t(block.count * keys));

  const float *queries = q + (block.start + block.first) * width + head * node.headDim;
  const int64_t kvOffset = (block.start + low) * kvWidth + kvColumn;
  gemm(false, true, block.count, keys, node.headDim, float(node.scalar), queries, width,
       k + kvOffset, kvWidth, scores.data(), keys);
  const RowKernels &kernels = rowKernels();
  if (node.softcap != 0)
    kernels.softcap(float(node.softcap), scores.data(), scores.data(), block.count * keys);
  for (int64_t i = 0; i < block.count; ++i) {
    int64_t position = block.first + i;
    if (!node.slopes.empty()) {
      const float slope = float(node.slopes[size_t(head)]);
      for (int64_t key = 0; key < keys; ++key)
        scores[size_t(i * keys + key)] += slope * float(low + key - position);
    }
    int64_t visible = node.window ? std::max<int64_t>(0, position - node.window + 1) : 0;
    kernels.softmax(scores.data() + i * keys, visible - low, block.end(node, position) - low, keys);
  }
  gemm(false, false, block.count, node.headDim, keys, 1.0f, scores.data(), keys, v + kvOffset,
       kvWidth, out + (block.start + block.first) * width + head * node.headDim, width);
}

} // namespace

void sequenceAttention(const Node &node, std::span<const int64_t> starts, const float *q,
                       const float *k, const float *v, float *out, WorkerPool &pool) {
  std::vector<QueryBlock> blocks;
  for (size_t s = 0; s + 1 < starts.size(); ++s)
    for (int64_t length = starts[s + 1] - starts[s], first = 0; first < length; first += queryBlock)
      blocks.push_back({starts[s], first, std::min(queryBlock, length - first), length});
  pool.run(int64_t(blocks.size()) * node.heads, [&](int64_t item) {
    attendBlock(node, blocks[item / node.heads], item % node.heads, q, k, v, out);
  });
}

} // namespace smelt
