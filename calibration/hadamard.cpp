// The rotation R2 of SpinQuant (Liu et al., arXiv 2405.16406): values of each kv head are
// multiplied by a Hadamard matrix H in W_v, and H = H^-1 in W_o takes it back, y = W_o H (H v). It
// spreads outliers of a head's channels over the head. Blocks by the fast transform of Sylvester's
// matrices.
#include "calibration/hadamard.h"
#include "calibration/fold_candidates.h"

#include <cmath>

namespace smelt {

template <typename T> void rotateBlocks(T *x, int64_t n, int64_t block) {
  const T norm = T(1 / std::sqrt(double(block)));
  for (T *end = x + n; x < end; x += block) {
    for (int64_t half = 1; half < block; half *= 2)
      for (int64_t i = 0; i < block; i += 2 * half)
        for (int64_t j = i; j < i + half; ++j) {
          const T a = x[j], b = x[j + half];
          x[j] = a + b;
          x[j + half] = a - b;
        }
    for (int64_t i = 0; i < block; ++i)
      x[i] *= norm;
  }
}
template void rotateBlocks<float>(float *, int64_t, int64_t);
template void rotateBlocks<double>(double *, int64_t, int64_t);

void rotateRows(float *x, int64_t size, int64_t cols) {
  for (int64_t half = 1; half < size; half *= 2)
    for (int64_t i = 0; i < size; i += 2 * half)
      for (int64_t j = i; j < i + half; ++j) {
        float *upper = x + j * cols, *lower = x + (j + half) * cols;
        for (int64_t k = 0; k < cols; ++k) {
          const float a = upper[k], b = lower[k];
          upper[k] = a + b;
          lower[k] = a - b;
        }
      }
  const float norm = float(1 / std::sqrt(double(size)));
  for (int64_t i = 0; i < size * cols; ++i)
    x[i] *= norm;
}

int64_t hadamardBlock(int64_t headDim) { return headDim & -headDim; }

std::vector<FoldCandidate> hadamardCandidates(const ChannelStatistics &channels) {
  if (!channels.rotates || hadamardBlock(channels.headDim) < 2)
    return {};
  return {{0, {}, hadamardBlock(channels.headDim)}};
}

} // namespace smelt
