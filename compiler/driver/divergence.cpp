// Perplexity and KL divergence of next-token distributions.
#include "compiler/driver/divergence.h"

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

size_t indexOfLargest(std::span<const float> logits) {
  return size_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Mean of n values and the standard error of the mean, from the sums of the values and of their
/// squares.
Estimate estimate(double sum, double sumSquares, double n) {
  double mean = sum / n;
  double variance = std::max(0.0, sumSquares / n - mean * mean);
  return {mean, n > 1 ? std::sqrt(variance / (n - 1)) : 0};
}

/// exp of an estimate: d exp(x) = exp(x) dx.
Estimate exponential(Estimate of) { return {std::exp(of.mean), std::exp(of.mean) * of.error}; }

/// The value below which `share` of the sorted values lie, interpolated between neighbours.
double percentile(const std::vector<double> &sorted, double share) {
  double place = share * double(sorted.size() - 1);
  size_t below = size_t(place), above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - double(below)) * (sorted[above] - sorted[below]);
}

} // namespace

TokenScore scoreToken(std::span<const float> logits, std::span<const float> reference,
                      int32_t target) {
  TokenScore score;
  size_t top = indexOfLargest(logits);
  double shift = logits[top], sum = 0;
  if (reference.empty()) {
    for (float logit : logits)
      sum += std::exp(logit - shift);
    score.loss = shift + std::log(sum) - logits[size_t(target)];
    return score;
  }
  // KL = sum_v p_ref (l_ref - l) - log Z_ref + log Z, with Z = sum exp(l).
  size_t referenceTop = indexOfLargest(reference);
  double referenceShift = reference[referenceTop], referenceSum = 0, weighted = 0;
  for (size_t v = 0; v < logits.size(); ++v) {
    sum += std::exp(logits[v] - shift);
    double p = std::exp(reference[v] - referenceShift);
    referenceSum += p;
    weighted += p * (double(reference[v]) - double(logits[v]));
  }
  double logZ = shift + std::log(sum), referenceLogZ = referenceShift + std::log(referenceSum);
  score.loss = logZ - logits[size_t(target)];
  score.referenceLoss = referenceLogZ - reference[size_t(target)];
  score.divergence = weighted / referenceSum - referenceLogZ + logZ;
  score.sameTop = top == referenceTop;
  return score;
}

Summary summarize(std::span<const TokenScore> scores) {
  Summary summary;
  summary.tokens = int64_t(scores.size());
  if (scores.empty())
    return summary;
  double n = double(scores.size());
  double loss = 0, loss2 = 0, base = 0, base2 = 0, gap = 0, gap2 = 0, kl = 0, kl2 = 0, same = 0;
  std::vector<double> divergences;
  divergences.reserve(scores.size());
  for (const TokenScore &score : scores) {
    double difference = score.loss - score.referenceLoss;
    loss += score.loss;
    loss2 += score.loss * score.loss;
    base += score.referenceLoss;
    base2 += score.referenceLoss * score.referenceLoss;
    gap += difference;
    gap2 += difference * difference;
    kl += score.divergence;
    kl2 += score.divergence * score.divergence;
    same += score.sameTop;
    divergences.push_back(score.divergence);
  }
  std::sort(divergences.begin(), divergences.end());
  summary.perplexity = exponential(estimate(loss, loss2, n));
  summary.referencePerplexity = exponential(estimate(base, base2, n));
  summary.perplexityRatio = exponential(estimate(gap, gap2, n));
  summary.divergence = estimate(kl, kl2, n);
  summary.medianDivergence = percentile(divergences, 0.5);
  summary.divergence99 = percentile(divergences, 0.99);
  summary.largestDivergence = divergences.back();
  summary.sameTop = estimate(same, same, n);
  return summary;
}

} // namespace smelt
