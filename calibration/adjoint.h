// The backward pass of the float model: gradients of a loss of the logits by the values that
// linears and norms read and make. Adjoints are written by hand, one per NodeKind.
#pragma once

#include "calibration/float_model.h"
#include "calibration/graph.h"
#include "calibration/parallel.h"

#include <functional>
#include <span>

namespace smelt {

/// One node that holds weights (an embedding, linear or norm), during the pass over one tile.
struct NodeGradient {
  size_t tile;
  int32_t node;
  const Matrix *input;    ///< [T, K]; null: an embedding
  const Matrix &gradient; ///< of the node's value, [T, N]
  /// A linear's part of the gradient of its input, gradient * W [T, K]; null: another node.
  const Matrix *inputGradient;
};

struct AdjointHooks {
  /// Turns the logits of a tile [rows, vocab] into the gradient of its loss by them, in place.
  std::function<Status(size_t tile, Matrix &logits)> loss;
  /// Sees the nodes that hold weights, from the last to the first: all tiles at one segment, then
  /// the segment before it. Other nodes' values and gradients are not kept that long.
  std::function<Status(const NodeGradient &)> visit;
  /// All tiles have passed the nodes [first, last) on the way back. May be empty.
  std::function<Status(int32_t first, int32_t last)> finished;
};

struct AdjointOptions {
  ProductPrecision precision = ProductPrecision::Float;
  /// Called for every weight that has been used and is not needed for a while; may be empty.
  std::function<void(const WeightView &)> release;
  /// Called with 0..1 now and then; returning false cancels.
  std::function<bool(double)> progress;
};

/// Runs `tiles` forward and back, segment by segment. In memory are the value at every segment's
/// start for all tiles, one segment's values and gradients for one tile, and the logits of one
/// tile. Results do not depend on the number of workers. The graph has passed checkGraph.
[[nodiscard]] Status backpropagate(const Graph &graph, std::span<const SequenceBatch> tiles,
                                   WorkerPool &pool, const AdjointOptions &options,
                                   const AdjointHooks &hooks);

} // namespace smelt
