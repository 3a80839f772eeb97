// Turns float weights into packed tiles: the one interface of every quantization algorithm.
#pragma once

#include "calibration/graph.h"
#include "calibration/statistics.h"
#include "runtime/base/status.h"
#include "runtime/formats/formats.h"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>

namespace smelt {

enum class Algorithm : uint32_t {
#define ALGORITHM(enumerator, name, needsStatistics, help) enumerator,
#include "calibration/algorithms.def"
};
/// Finds an algorithm by its table name; the error lists the names there are.
Result<Algorithm> findAlgorithm(std::string_view name);
bool needsStatistics(Algorithm algorithm);
bool needsSecondMoments(Algorithm algorithm);

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
  /// The same weighted by E[x_k^2]: relative output error if inputs were independent.
  double weightedError = 0;
  double loss = 0;       ///< gptq: sum over rows of d^T H d, H damped; otherwise 0
  double searchLoss = 0; ///< gptq: the same of the searched codes, never less
  int64_t rows = 0;
  int64_t rowsKept = 0; ///< gptq: rows whose searched codes had the smaller loss and stayed
  std::string fallback; ///< gptq: why the whole linear kept its searched codes; empty if it did not
};

/// Receives packed bytes in order.
using ByteSink = std::function<Status(std::span<const std::byte>)>;

/// Packed rows of a linear, padding included: what packedBytes takes.
int64_t packedRows(const LinearWeights &linear);

/// The format that carries over the codes, scales and zero points which the model file gives for
/// all parts (GivenCodes), to the bit; none if a part is not quantized, or its groups along the
/// inputs are no multiples of 32, or its zero points are no whole numbers.
std::optional<WeightFormat> givenFormat(const LinearWeights &linear);

/// Quantizes and packs all tiles of a linear into `sink` (packedBytes(format, packedRows(linear),
/// cols) bytes in all). `statistics` may be null for algorithms that need none. Weights that are
/// not finite, or too large for the format's scales, are refused with their place. Formats of given
/// codes take givenFormat() linears only. Works on
/// `threads` threads (0: all cores); the bytes do not depend on them.
Result<QuantizationReport> quantizeLinear(const LinearWeights &linear, WeightFormat format,
                                          Algorithm algorithm, const InputStatistics *statistics,
                                          int threads, const ByteSink &sink);

} // namespace smelt
