// How far one model's next-token distributions are from another's: perplexity, KL divergence and
// what becomes of the likeliest tokens, added up token by token.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

/// A mean with the standard error of that mean.
struct Estimate {
  double mean = 0, error = 0;
};

/// Lists of the k likeliest tokens that are compared.
inline constexpr std::array<int, 2> topCounts = {5, 10};

/// One scored position. All logarithms are natural.
struct TokenScore {
  double loss = 0;             ///< -log p(target)
  double referenceLoss = 0;    ///< -log p_ref(target)
  double divergence = 0;       ///< sum_v p_ref(v) (log p_ref(v) - log p(v))
  double probabilityShift = 0; ///< p(target) - p_ref(target)
  bool sameTop = false;        ///< both models prefer the same token
  /// Share of the reference's k likeliest tokens that are among the model's, by topCounts.
  std::array<double, topCounts.size()> overlap = {};
};

/// Scores `logits` [vocab] for the token that really follows. `reference` [vocab] may be empty:
/// then only `loss` is set. Sums are in double; softmax is exact (no cut of small probabilities).
TokenScore scoreToken(std::span<const float> logits, std::span<const float> reference,
                      int32_t target);

/// What scores add up to.
struct Summary {
  int64_t tokens = 0;
  Estimate perplexity,
      referencePerplexity;  ///< exp(mean loss); error by the delta rule, as llama.cpp prints it
  Estimate perplexityRatio; ///< of the model to the reference; the error knows that both saw the
                            ///< same tokens
  Estimate divergence;      ///< mean KL
  double medianDivergence = 0, divergence90 = 0, divergence99 = 0, divergence999 = 0,
         largestDivergence = 0;
  /// Tokens by divergence, from 10^histogramLowest in steps of a quarter of a decade; what is
  /// beyond either end counts at that end.
  static constexpr int histogramLowest = -7, histogramHighest = 2, histogramPerDecade = 4;
  std::array<int64_t, (histogramHighest - histogramLowest) * histogramPerDecade> histogram = {};
  Estimate sameTop;                               ///< share of positions, 0..1
  Estimate probabilityShift;                      ///< mean of p - p_ref of the token that follows
  double shiftRms = 0;                            ///< root of the mean of its square
  std::array<Estimate, topCounts.size()> overlap; ///< 1 - overlap is the share that flipped
};
Summary summarize(std::span<const TokenScore> scores);

} // namespace smelt
