// SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438): s_k = max|x_k|^a / max_n|W_nk|^(1-a), so
// that outliers among INT8 inputs become larger weights, which bear it better.
#include "calibration/fold_candidates.h"

#include <algorithm>
#include <cmath>

namespace smelt {

std::vector<FoldCandidate> smoothCandidates(const ChannelStatistics &channels) {
  // From models with few outliers (0.3) to Llama's 0.85.
  constexpr int first = 3, last = 9, steps = 10;
  const double least =
      1e-5 * *std::max_element(channels.maxWeight.begin(), channels.maxWeight.end());
  std::vector<FoldCandidate> candidates;
  for (int step = first; step <= last; ++step) {
    const double exponent = double(step) / steps;
    std::vector<double> scales;
    for (size_t k = 0; k < channels.maxAbsolute.size(); ++k) {
      // A column without weights may have any factor.
      const double weight = std::max(channels.maxWeight[k], least);
      scales.push_back(weight > 0 ? std::pow(channels.maxAbsolute[k], exponent) /
                                        std::pow(weight, 1 - exponent)
                                  : 1);
    }
    normalizeScales(scales);
    candidates.push_back({exponent, std::vector<float>(scales.begin(), scales.end())});
  }
  return candidates;
}

} // namespace smelt
