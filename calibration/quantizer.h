// Turns float weights into packed tiles: the one interface of every quantization algorithm.
#pragma once

#include "calibration/error_feedback.h"
#include "calibration/graph.h"
#include "calibration/output_moments.h"
#include "calibration/statistics.h"
#include "runtime/base/status.h"
#include "runtime/formats/formats.h"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>

namespace smelt {

enum class Algorithm : uint32_t {
#define ALGORITHM(enumerator, name, needsStatistics, needsSecondMoments, help) enumerator,
#include "calibration/algorithms.def"
};
/// Finds an algorithm by its table name; the error lists the names there are.
Result<Algorithm> findAlgorithm(std::string_view name);
/// The algorithm's name in algorithms.def.
std::string_view algorithmName(Algorithm algorithm);
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
  // gptq, polish: sums over rows of d^T H d, H damped; otherwise 0.
  double searchLoss = 0;   ///< of the searched codes
  double feedbackLoss = 0; ///< after error feedback, never more
  double loss = 0;         ///< of the codes packed, never more than that
  int64_t rows = 0;
  int64_t rowsKept = 0;     ///< rows whose searched codes had the smaller loss and stayed
  int64_t rowsPolished = 0; ///< rows that coordinate descent improved
  double damping = 0;       ///< added to H_kk, relative to their mean
  int64_t deadColumns = 0;  ///< inputs that no token excited
  std::string fallback;     ///< why the whole linear kept its searched codes; empty if it did not
  // coupled: tr(G D H D^T), G and H damped; otherwise 0. The losses above are then polish's.
  double polishedCoupledLoss = 0; ///< of what polish left
  double coupledLoss = 0;         ///< of the codes packed, never more
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
/// codes take givenFormat() linears only. `outputs` is what coupled needs; without it, coupled is
/// polish. Works on `threads` threads (0: all cores); the bytes do
/// not depend on them. `cache` shares factorisations between calls; may be null.
Result<QuantizationReport> quantizeLinear(const LinearWeights &linear, WeightFormat format,
                                          Algorithm algorithm, const InputStatistics *statistics,
                                          int threads, const ByteSink &sink,
                                          FeedbackCache *cache = nullptr,
                                          const OutputMoments *outputs = nullptr);

/// The values that quantizeLinear's bytes decode to, to the bit: [rows, cols], the rows of the
/// parts one after the other, without padding. Not for formats of given codes.
Result<std::vector<float>> dequantizeLinear(const LinearWeights &linear, WeightFormat format,
                                            Algorithm algorithm, const InputStatistics *statistics,
                                            int threads, FeedbackCache *cache = nullptr);

/// The output error that each format would leave after `algorithm`: tr(D H D^T), D = W_q - W, H =
/// E[x x^T] damped; measured on every `stride`-th tile and scaled up to all rows; nothing is
/// packed. `statistics` must hold second moments, whatever the algorithm needs. Not for formats of
/// given codes.
Result<std::vector<double>> measureLinear(const LinearWeights &linear,
                                          std::span<const WeightFormat> formats,
                                          Algorithm algorithm, const InputStatistics &statistics,
                                          int64_t stride, int threads,
                                          FeedbackCache *cache = nullptr);

} // namespace smelt
