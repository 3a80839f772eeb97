// How far one model's next-token distributions are from another's: perplexity and KL divergence,
// added up token by token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

/// A mean with the standard error of that mean.
struct Estimate {
  double mean = 0, error = 0;
};

/// One scored position. All logarithms are natural.
struct TokenScore {
  double loss = 0;          ///< -log p(target)
  double referenceLoss = 0; ///< -log p_ref(target)
  double divergence = 0;    ///< sum_v p_ref(v) (log p_ref(v) - log p(v))
  bool sameTop = false;     ///< both models prefer the same token
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
  double medianDivergence = 0, divergence99 = 0, largestDivergence = 0;
  Estimate sameTop; ///< share of positions, 0..1
};
Summary summarize(std::span<const TokenScore> scores);

} // namespace smelt
