// Learned scales of packed matrices: codes stay in their bytes, scales and minimums are stored
// anew.
#pragma once

#include "calibration/quantizer.h"
#include "calibration/tune.h"

#include <span>
#include <vector>

namespace smelt {

/// A matrix as quantizeLinear packed it; the views of `weights` are those of the graph.
struct PackedLinear {
  LinearWeights weights;
  WeightFormat format = WeightFormat::F32;
  std::vector<std::byte> bytes;
};

/// Whether the group scales of a format can be learned: those that are 8-bit codes times a factor
/// of their row.
bool hasLearnableScales(WeightFormat format);

/// Learns the scales of `linears` with tuneScales and writes them into their bytes; matrices of
/// other formats stay as they are, but their errors count. A scale becomes the code nearest to what
/// was learned, times the factor of its row, which stays.
Result<TuneReport> tunePacked(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                              std::span<PackedLinear> linears, const TuneOptions &options);

} // namespace smelt
