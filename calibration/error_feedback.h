// The order and factors by which rounding errors are fed forward (GPTQ with static groups, in the
// LDLQ form), and the second moments that coordinate descent works on.
#pragma once

#include "calibration/statistics.h"
#include "calibration/tile_kernels.h"

#include <memory>
#include <vector>

namespace smelt {

/// With H = E[x x^T] + damping, columns in descending order of H_kk and H = R R^T, R upper
/// triangular in that order, the loss of an error d of one row is
///   d^T H d = sum_i R_ii^2 (d_i + sum_{j<i} (R_ji / R_ii) d_j)^2
/// so that rounding w_i + sum_{j<i} (R_ji / R_ii) d_j in turn makes each term least given the ones
/// before. This equals GPTQ (arXiv 2210.17323; shown in arXiv 2307.13304, theorem 6) with a single
/// factorisation and no inverse.
struct ErrorFeedback {
  std::vector<int32_t> order;  ///< [cols] column of step i
  std::vector<float> factors;  ///< [cols, cols] row i: R_ji / R_ii for j < i, zeros from i on
  std::vector<float> diagonal; ///< [cols] R_ii^2
  std::vector<float> moments;  ///< H, in the columns' own order, by panels (tile_kernels.h)
  double damping = 0;          ///< what was added to H_kk, relative to their mean
  int64_t deadColumns = 0;     ///< columns that no token excited: damping alone weighs them

  int64_t cols() const { return int64_t(order.size()); }
  /// H of two columns.
  float moment(int64_t row, int64_t column) const {
    return moments[size_t((column / momentPanel * cols() + row) * momentPanel +
                          column % momentPanel)];
  }
};

/// Factors for one linear input; damping is 0.003 of the mean of the diagonal, ten times more (at
/// most three times) while the factorisation fails. Needs statistics.secondMoments. Works on
/// `threads` threads (0: all cores), on which the factors do not depend.
Result<ErrorFeedback> factorErrorFeedback(const InputStatistics &statistics, int threads);

/// Remembers the last factorisation, so that linears of the same input, and every format that is
/// tried on them, share it. Not for use by several threads at once.
class FeedbackCache {
public:
  /// The factors of `statistics`, or why there are none.
  Result<std::shared_ptr<const ErrorFeedback>> get(const InputStatistics &statistics, int threads);
  /// Only H with the first damping, upper triangle by rows (statistics.h), for what needs no
  /// factors: they cost cols^3 / 3.
  Result<std::shared_ptr<const std::vector<float>>> triangle(const InputStatistics &statistics);

private:
  std::shared_ptr<const std::vector<double>> moments; ///< kept, so that its address stays its own
  std::shared_ptr<const ErrorFeedback> factors;
  Status failure;
  std::shared_ptr<const std::vector<double>> triangleMoments; ///< those of `damped`
  std::shared_ptr<const std::vector<float>> damped;
};

} // namespace smelt
