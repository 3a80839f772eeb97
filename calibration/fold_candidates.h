// What the fold algorithms are given of one place of the model, and what they propose for it.
#pragma once

#include "calibration/fold.h"

#include <vector>

namespace smelt {

/// Statistics of the channels of a place; where several query heads read one kv head, their means
/// and maxima taken together.
struct ChannelStatistics {
  bool rotates = false;             ///< as FoldPlace says
  int64_t headDim = 0;              ///< of a FoldKind::Value
  std::vector<double> meanAbsolute; ///< [channels] mean over tokens of |x_k|
  std::vector<double> maxAbsolute;  ///< [channels] max over tokens of |x_k|
  std::vector<double> maxWeight;    ///< [channels] max over the consumers' rows of |W_nk|
};

/// A re-parameterisation that may be chosen: either factors or a rotation.
struct FoldCandidate {
  double exponent = 0;       ///< that made the factors; 0: none
  std::vector<float> scales; ///< [channels] x'_k = x_k / scales[k]
  int64_t block = 0;         ///< x' = blocks of Hadamard matrices of this size times x
};

std::vector<FoldCandidate> awqCandidates(const ChannelStatistics &channels);
std::vector<FoldCandidate> smoothCandidates(const ChannelStatistics &channels);
std::vector<FoldCandidate> hadamardCandidates(const ChannelStatistics &channels);

/// Makes factors fit to be folded: none below 1e-4 of the largest, and largest * smallest = 1 so
/// that values keep their range.
void normalizeScales(std::vector<double> &scales);

} // namespace smelt
