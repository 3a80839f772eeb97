// The backward pass of attention.
#pragma once

#include "calibration/graph.h"
#include "calibration/parallel.h"

#include <span>

namespace smelt {

/// Gradients dq [T, heads*headDim] and dk, dv [T, kvHeads*headDim] from the gradient g [T,
/// heads*headDim] of sequenceAttention's result, with its other arguments. Per head, with softmax
/// weights P [queries, keys]: dV = P^T g, dP = g V^T, dS = P (dP - rowsum(dP P)), then through the
/// softcap, dQ = scalar dS K, dK = scalar dS^T Q.
void sequenceAttentionAdjoint(const Node &node, std::span<const int64_t> starts, const float *q,
                              const float *k, const float *v, const float *g, float *dq, float *dk,
                              float *dv, WorkerPool &pool);

} // namespace smelt
