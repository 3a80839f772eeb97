// Attention of whole sequences in float, causal or in both directions.
#pragma once

#include "calibration/graph.h"
#include "calibration/parallel.h"

#include <span>

namespace smelt {

/// out[t, h] = softmax(softcap(scalar * q[t, h] . k[s, h'])) v[s, h'] over the positions s <= t of
/// t's sequence, or all if the node is bidirectional; where it has a window, |t - s| < window; h' = h / (heads / kvHeads). q, out
/// [T, heads*headDim]; k, v [T, kvHeads*headDim]. `starts` bounds the sequences: start of each,
/// then one past the last token.
void sequenceAttention(const Node &node, std::span<const int64_t> starts, const float *q,
                     const float *k, const float *v, float *out, WorkerPool &pool);

} // namespace smelt
