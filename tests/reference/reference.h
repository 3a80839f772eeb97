// The oracle: a Graph evaluated in double precision, every formula written out.
#pragma once

#include "calibration/graph.h"
#include "runtime/formats/formats.h"

#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace smelt {

/// What a quantized artifact declares about one linear (or the embedding), so that kernels can be
/// compared with the same rounding.
struct DeclaredLinear {
  /// Fills row `row` (of the concatenated parts) of the weights as the kernel sees them; empty: the
  /// graph's own weights.
  std::function<void(int64_t row, std::span<float> out)> weightRow;
  /// Rounding of the input; the embedding has none.
  ActivationFormat activation = ActivationFormat::F32;
};

struct ReferenceOptions {
  /// Asked for every Linear and Embedding node; empty, or no value: exact.
  std::function<std::optional<DeclaredLinear>(const Node &node)> declared;
  /// Sees every node's value [rows, width] after it is computed, for comparing inner values; empty:
  /// not called.
  std::function<void(const Node &node, int64_t rows, std::span<const double> value)> observe;
};

/// Logits [rows.size(), vocab] of the wanted tokens of a ragged batch. A token attends to the
/// tokens of its own slot in this batch whose position is not greater than its own, so the batch
/// holds every slot from position 0. The graph must pass checkGraph, ids, positions and rows must
/// be in range.
std::vector<double> referenceLogits(const Graph &graph, std::span<const BatchToken> tokens,
                                    std::span<const int32_t> rows,
                                    const ReferenceOptions &options = {});

/// The rounding that a kernel with dynamic activations applies to one row, in place. a8g32, for
/// each group of 32 inputs: amax = max|x|, scale = amax / 127 in float, q = round to nearest even
/// of x * (127 / amax) in float, x = q * scale; all zero when amax is 0. a8t: the same with the row
/// as one group. f32: nothing.
void roundActivations(ActivationFormat format, std::span<double> row);

} // namespace smelt
