// Attention by blocks of queries: scores and weighted sums are matrix products over the keys that
// the block can see.
#include "calibration/float_attention.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"

namespace smelt {

namespace {

constexpr int64_t queryBlock = 128;

} // namespace

std::vector<QueryBlock> queryBlocks(std::span<const int64_t> starts) {
  std::vector<QueryBlock> blocks;
  for (size_t s = 0; s + 1 < starts.size(); ++s)
    for (int64_t length = starts[s + 1] - starts[s], first = 0; first < length; first += queryBlock)
      blocks.push_back({starts[s], first, std::min(queryBlock, length - first), length});
  return blocks;
}

void attentionWeights(const Node &node, const QueryBlock &block, int64_t head, const float *q,
                      const float *k, float *weights, float *capped) {
  const int64_t width = node.heads * node.headDim, kvWidth = node.kvHeads * node.headDim;
  const int64_t kvColumn = head / (node.heads / node.kvHeads) * node.headDim;
  const int64_t low = block.firstKey(node), keys = block.keys(node);
  gemm(false, true, block.count, keys, node.headDim, float(node.scalar),
       q + (block.start + block.first) * width + head * node.headDim, width,
       k + (block.start + low) * kvWidth + kvColumn, kvWidth, weights, keys);
  const RowKernels &kernels = rowKernels();
  if (node.softcap != 0)
    kernels.softcap(float(node.softcap), weights, weights, block.count * keys);
  if (capped)
    std::copy_n(weights, block.count * keys, capped);
  for (int64_t i = 0; i < block.count; ++i) {
    const int64_t position = block.first + i;
    float *row = weights + i * keys;
    if (!node.slopes.empty()) {
      const float slope = float(node.slopes[size_t(head)]);
      for (int64_t key = 0; key < keys; ++key)
        row[key] += slope * float(low + key - position);
    }
    kernels.softmax(row, block.begin(node, position) - low, block.end(node, position) - low, keys);
  }
}

void sequenceAttention(const Node &node, std::span<const int64_t> starts, const float *q,
                       const float *k, const float *v, float *out, WorkerPool &pool) {
  const std::vector<QueryBlock> blocks = queryBlocks(starts);
  const int64_t width = node.heads * node.headDim, kvWidth = node.kvHeads * node.headDim;
  pool.run(int64_t(blocks.size()) * node.heads, [&](int64_t item) {
    const QueryBlock &block = blocks[item / node.heads];
    const int64_t head = item % node.heads, keys = block.keys(node);
    const int64_t kvColumn = head / (node.heads / node.kvHeads) * node.headDim;
    thread_local std::vector<float> weights; // [count, keys]
    weights.resize(size_t(block.count * keys));
    attentionWeights(node, block, head, q, k, weights.data(), nullptr);
    gemm(false, false, block.count, node.headDim, keys, 1.0f, weights.data(), keys,
         v + (block.start + block.firstKey(node)) * kvWidth + kvColumn, kvWidth,
         out + (block.start + block.first) * width + head * node.headDim, width);
  });
}

} // namespace smelt
