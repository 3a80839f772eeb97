// Turns float weights into packed tiles: the one interface of every quantization algorithm.
#pragma once

#include "calibration/graph.h"
#include "calibration/statistics.h"
#include "runtime/base/status.h"
#include "runtime/formats/formats.h"

#include <cstddef>
#include <functional>
#include <span>

namespace smelt {

enum class Algorithm : uint32_t {
#define ALGORITHM(enumerator, name, needsStatistics, help) enumerator,
#include "calibration/algorithms.def"
};
Result<Algorithm> findAlgorithm(std::string_view name);

/// A linear to quantize: rows of its parts in the order in which they are packed.
struct LinearWeights {
  std::string name;
  std::vector<WeightView> parts; ///< every part [rows_i, cols]
  bool interleaveTiles = false;  ///< two parts of equal rows, tiles alternate part 0, part 1 (gate,
                                 ///< up), each padded to 16 rows
};

/// How well it went, for the report.
struct QuantizationReport {
  double weightError = 0; ///< sum of (w_q - w)^2 / sum of w^2
  double weightedError =
      0; ///< the same weighted by E[x_k^2]: relative output error if inputs were independent
};

/// Receives packed bytes in order.
using ByteSink = std::function<Status(std::span<const std::byte>)>;

/// Quantizes and packs all tiles of a linear into `sink` (packedBytes(format, total padded rows,
/// cols) bytes in all). `statistics` may be null for algorithms that need none. Works on `threads`
/// threads; the bytes do not depend on them.
Result<QuantizationReport> quantizeLinear(const LinearWeights &linear, WeightFormat format,
                                          Algorithm algorithm, const InputStatistics *statistics,
                                          int threads, const ByteSink &sink);

} // namespace smelt
