// How passes over many samples cut the graph and the samples, so that memory stays bounded.
#pragma once

#include "calibration/float_model.h"

#include <vector>

namespace smelt {

/// Nodes [first, last) that run together; `carried` is the one value that later segments read, -1
/// after the last one.
struct Segment {
  int32_t first, last, carried;
};

/// Cuts the nodes [0, end) wherever a single value is alive, but not more often than there are
/// linears to look at. `wanted` marks the nodes that run; linears are looked at even if they do
/// not.
std::vector<Segment> cutSegments(const Graph &graph, const std::vector<bool> &wanted, int32_t end);

/// Samples that run together, in order, as batches of at most `tokens` tokens (a longer sample is a
/// batch of its own); every token is wanted, also behind SelectRows.
std::vector<SequenceBatch> makeTiles(const std::vector<std::vector<int32_t>> &samples,
                                     int64_t tokens);

} // namespace smelt
