// AWQ (Lin et al., MLSys 2024, arXiv 2306.00978): s_k = mean|x_k|^a, so that the columns of inputs
// that are large on average are stored with finer relative steps.
#include "calibration/fold_candidates.h"

#include <algorithm>
#include <cmath>

namespace smelt {

void normalizeScales(std::vector<double> &scales) {
  double largest = *std::max_element(scales.begin(), scales.end());
  if (!(largest > 0))
    largest = 1;
  double smallest = largest;
  for (double &scale : scales) {
    scale = std::max(scale, 1e-4 * largest);
    smallest = std::min(smallest, scale);
  }
  for (double &scale : scales)
    scale /= std::sqrt(largest * smallest);
}

std::vector<FoldCandidate> awqCandidates(const ChannelStatistics &channels) {
  constexpr int steps = 10;
  std::vector<FoldCandidate> candidates;
  for (int step = 1; step <= steps; ++step) {
    const double exponent = double(step) / steps;
    std::vector<double> scales;
    for (double mean : channels.meanAbsolute)
      scales.push_back(std::pow(mean, exponent));
    normalizeScales(scales);
    candidates.push_back({exponent, std::vector<float>(scales.begin(), scales.end())});
  }
  return candidates;
}

} // namespace smelt
