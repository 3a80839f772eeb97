// Perplexity, KL divergence and likeliest tokens of next-token distributions.
#include "compiler/driver/divergence.h"

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

size_t indexOfLargest(std::span<const float> logits) {
  return size_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Indices of the k largest, largest first; of equal ones the first.
std::array<int32_t, topCounts.back()> likeliest(std::span<const float> logits) {
  std::array<int32_t, topCounts.back()> best;
  best.fill(-1);
  for (size_t v = 0; v < logits.size(); ++v) {
    if (best.back() >= 0 && logits[v] <= logits[size_t(best.back())])
      continue;
    size_t place = best.size() - 1;
    for (; place > 0 && (best[place - 1] < 0 || logits[v] > logits[size_t(best[place - 1])]);
         --place)
      best[place] = best[place - 1];
    best[place] = int32_t(v);
  }
  return best;
}

double overlapOf(std::span<const int32_t> ours, std::span<const int32_t> theirs) {
  int common = 0, there = 0;
  for (int32_t token : theirs) {
    there += token >= 0;
    common += token >= 0 && std::find(ours.begin(), ours.end(), token) != ours.end();
  }
  return double(common) / double(there);
}

/// A sum of values and of their squares.
struct Sums {
  double values = 0, squares = 0;
  void add(double value) {
    values += value;
    squares += value * value;
  }
};

/// Mean of n values and the standard error of the mean.
Estimate estimate(const Sums &sums, double n) {
  double mean = sums.values / n;
  double variance = std::max(0.0, sums.squares / n - mean * mean);
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
  score.probabilityShift = std::exp(-score.loss) - std::exp(-score.referenceLoss);
  score.sameTop = top == referenceTop;
  const auto ours = likeliest(logits), theirs = likeliest(reference);
  for (size_t i = 0; i < topCounts.size(); ++i) {
    const size_t k = size_t(topCounts[i]);
    score.overlap[i] = overlapOf(std::span(ours).first(k), std::span(theirs).first(k));
  }
  return score;
}

Summary summarize(std::span<const TokenScore> scores) {
  Summary summary;
  summary.tokens = int64_t(scores.size());
  if (scores.empty())
    return summary;
  double n = double(scores.size());
  Sums loss, base, gap, kl, same, shift;
  std::array<Sums, topCounts.size()> overlap;
  std::vector<double> divergences;
  divergences.reserve(scores.size());
  for (const TokenScore &score : scores) {
    loss.add(score.loss);
    base.add(score.referenceLoss);
    gap.add(score.loss - score.referenceLoss);
    kl.add(score.divergence);
    same.add(score.sameTop);
    shift.add(score.probabilityShift);
    for (size_t i = 0; i < overlap.size(); ++i)
      overlap[i].add(score.overlap[i]);
    divergences.push_back(score.divergence);
    // Rounding makes a divergence of nothing a tiny number of either sign.
    const double decades = std::log10(std::max(score.divergence, 1e-30)) - Summary::histogramLowest;
    const double bin = std::clamp(std::floor(decades * Summary::histogramPerDecade), 0.0,
                                  double(summary.histogram.size() - 1));
    ++summary.histogram[size_t(bin)];
  }
  std::sort(divergences.begin(), divergences.end());
  summary.perplexity = exponential(estimate(loss, n));
  summary.referencePerplexity = exponential(estimate(base, n));
  summary.perplexityRatio = exponential(estimate(gap, n));
  summary.divergence = estimate(kl, n);
  summary.medianDivergence = percentile(divergences, 0.5);
  summary.divergence90 = percentile(divergences, 0.9);
  summary.divergence99 = percentile(divergences, 0.99);
  summary.divergence999 = percentile(divergences, 0.999);
  summary.largestDivergence = divergences.back();
  summary.sameTop = estimate(same, n);
  summary.probabilityShift = estimate(shift, n);
  summary.shiftRms = std::sqrt(shift.squares / n);
  for (size_t i = 0; i < overlap.size(); ++i)
    summary.overlap[i] = estimate(overlap[i], n);
  return summary;
}

} // namespace smelt
