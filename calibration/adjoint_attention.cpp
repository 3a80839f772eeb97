// Blocks of queries as in the forward pass; keys and values collect what every block and head adds,
// in a fixed order.
#include "calibration/adjoint_attention.h"
#include "calibration/adjoint_kernels.h"
#include "calibration/float_attention.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"

#include <vector>

namespace smelt {

namespace {

/// Adds the rows of `from` [rows, cols] to rows of `to`.
void addRows(const float *from, int64_t rows, int64_t cols, float *to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i)
    rowKernels().add(to + i * stride, from + i * cols, to + i * stride, cols);
}

/// The operands of one head; dk and dv are its own, [T, heads*headDim].
struct Head {
  const float *q, *k, *v, *g;
  float *dq, *dk, *dv;
  int64_t index;
};

void blockAdjoint(const Node &node, const QueryBlock &block, const Head &head) {
  const int64_t width = node.heads * node.headDim, kvWidth = node.kvHeads * node.headDim;
  const int64_t column = head.index * node.headDim;
  const int64_t kvColumn = head.index / (node.heads / node.kvHeads) * node.headDim;
  const int64_t keys = block.keys(node), firstKey = block.start + block.firstKey(node);
  const int64_t queryAt = (block.start + block.first) * width + column;
  const float *k = head.k + firstKey * kvWidth + kvColumn;
  const float *v = head.v + firstKey * kvWidth + kvColumn;
  thread_local std::vector<float> weights, capped, scores, product;
  weights.resize(size_t(block.count * keys)); // P [count, keys]
  scores.resize(size_t(block.count * keys));  // dP, then dS [count, keys]
  product.resize(size_t(keys * node.headDim));
  capped.resize(node.softcap != 0 ? weights.size() : 0);
  attentionWeights(node, block, head.index, head.q, head.k, weights.data(),
                   node.softcap != 0 ? capped.data() : nullptr);

  gemm(true, false, keys, node.headDim, block.count, 1.0f, weights.data(), keys, head.g + queryAt,
       width, product.data(), node.headDim);
  addRows(product.data(), keys, node.headDim, head.dv + firstKey * width + column, width);

  gemm(false, true, block.count, keys, node.headDim, 1.0f, head.g + queryAt, width, v, kvWidth,
       scores.data(), keys);
  const AdjointKernels &kernels = adjointKernels();
  for (int64_t i = 0; i < block.count; ++i)
    kernels.softmax(weights.data() + i * keys, scores.data() + i * keys, scores.data() + i * keys,
                    keys);
  if (node.softcap != 0)
    kernels.cappedScores(float(node.softcap), capped.data(), scores.data(), scores.data(),
                         block.count * keys);

  const float scale = float(node.scalar);
  gemm(false, false, block.count, node.headDim, keys, scale, scores.data(), keys, k, kvWidth,
       head.dq + queryAt, width);
  gemm(true, false, keys, node.headDim, block.count, scale, scores.data(), keys, head.q + queryAt,
       width, product.data(), node.headDim);
  addRows(product.data(), keys, node.headDim, head.dk + firstKey * width + column, width);
}

} // namespace

void sequenceAttentionAdjoint(const Node &node, std::span<const int64_t> starts, const float *q,
                              const float *k, const float *v, const float *g, float *dq, float *dk,
                              float *dv, WorkerPool &pool) {
  const int64_t width = node.heads * node.headDim, kvWidth = node.kvHeads * node.headDim;
  const int64_t tokens = starts.back(), group = node.heads / node.kvHeads;
  // Every head has its own sums over queries, so that heads run side by side.
  std::vector<float> headKeys(size_t(tokens * width), 0.0f), headValues(headKeys);
  const int64_t sequences = int64_t(starts.size()) - 1;
  pool.run(sequences * node.heads, [&](int64_t item) {
    const Head head{q, k, v, g, dq, headKeys.data(), headValues.data(), item % node.heads};
    for (const QueryBlock &block : queryBlocks(starts.subspan(size_t(item / node.heads), 2)))
      blockAdjoint(node, block, head);
  });
  pool.run(tokens, [&](int64_t t) {
    for (int64_t kvHead = 0; kvHead < node.kvHeads; ++kvHead)
      for (int64_t member = 0; member < group; ++member) {
        const int64_t from = t * width + (kvHead * group + member) * node.headDim;
        const int64_t to = t * kvWidth + kvHead * node.headDim;
        for (int64_t i = 0; i < node.headDim; ++i) {
          dk[to + i] = (member ? dk[to + i] : 0.0f) + headKeys[size_t(from + i)];
          dv[to + i] = (member ? dv[to + i] : 0.0f) + headValues[size_t(from + i)];
        }
      }
  });
}

} // namespace smelt
