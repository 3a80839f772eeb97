// Cholesky factorisation of the second moments of a linear input.
#include "calibration/error_feedback.h"

#include <algorithm>
#include <cmath>
#include <numeric>

// LAPACK and OpenBLAS; Debian installs no C header for the former without liblapacke-dev.
extern "C" void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern "C" void openblas_set_num_threads(int count);

namespace smelt {

namespace {

constexpr double firstDamping = 0.003;
constexpr int attempts = 4;

/// H in reversed order, column-major lower triangle [cols, cols], so that its lower factor,
/// reversed again, is the upper factor R of H = R R^T.
void fillReversed(const InputStatistics &statistics, const std::vector<int32_t> &order,
                  double added, std::vector<double> &matrix) {
  const int64_t cols = statistics.cols();
  const std::vector<double> &moments = *statistics.secondMoments;
  const double scale = 1.0 / double(statistics.tokens);
  for (int64_t column = 0; column < cols; ++column) {
    const int64_t b = order[cols - 1 - column];
    for (int64_t row = column; row < cols; ++row) {
      const int64_t a = order[cols - 1 - row];
      const int64_t low = std::min(a, b), high = std::max(a, b);
      matrix[column * cols + row] = moments[triangleRow(low, cols) + high - low] * scale;
    }
    matrix[column * cols + column] += added;
  }
}

/// H in its own order, both triangles.
void fillMoments(const InputStatistics &statistics, double added, std::vector<float> &out) {
  const int64_t cols = statistics.cols();
  const std::vector<double> &moments = *statistics.secondMoments;
  const double scale = 1.0 / double(statistics.tokens);
  out.resize(size_t(cols * cols));
  for (int64_t k = 0; k < cols; ++k) {
    const double *row = moments.data() + triangleRow(k, cols) - k;
    out[k * cols + k] = float(row[k] * scale + added);
    for (int64_t j = k + 1; j < cols; ++j)
      out[k * cols + j] = out[j * cols + k] = float(row[j] * scale);
  }
}

/// Mean of E[x_k^2], of which damping is a part.
Result<double> meanMoment(const InputStatistics &statistics) {
  if (!statistics.secondMoments)
    return invalidArgument("the statistics hold no second moments: calibrate with them");
  double mean = 0;
  for (double value : statistics.sumSquares)
    mean += value / double(statistics.tokens) / double(statistics.cols());
  if (!(mean > 0) || !std::isfinite(mean))
    return invalidArgument("no token excited its input");
  return mean;
}

} // namespace

Result<ErrorFeedback> factorErrorFeedback(const InputStatistics &statistics) {
  const int64_t cols = statistics.cols();
  SMELT_ASSIGN(const double mean, meanMoment(statistics));
  ErrorFeedback feedback;
  feedback.order.resize(size_t(cols));
  std::iota(feedback.order.begin(), feedback.order.end(), 0);
  std::sort(feedback.order.begin(), feedback.order.end(), [&](int32_t a, int32_t b) {
    const double x = statistics.sumSquares[a], y = statistics.sumSquares[b];
    return x != y ? x > y : a < b;
  });

  // One thread: OpenBLAS cuts the sums differently for other counts, and results must not depend on
  // it.
  openblas_set_num_threads(1);
  std::vector<double> matrix(size_t(cols * cols));
  int failed = 1;
  double added = firstDamping * mean;
  for (int attempt = 0; attempt < attempts && failed; ++attempt) {
    added *= attempt ? 10 : 1;
    fillReversed(statistics, feedback.order, added, matrix);
    const int n = int(cols);
    dpotrf_("L", &n, matrix.data(), &n, &failed);
  }
  if (failed)
    return invalidArgument("its second moments are not positive definite even with " +
                           std::to_string(added / mean) + " of their mean added");

  feedback.factors.assign(size_t(cols * cols), 0.0f);
  feedback.diagonal.resize(size_t(cols));
  for (int64_t i = 0; i < cols; ++i) {
    const double *column = matrix.data() + (cols - 1 - i) * cols;
    const double pivot = column[cols - 1 - i];
    feedback.diagonal[i] = float(pivot * pivot);
    for (int64_t j = 0; j < i; ++j)
      feedback.factors[i * cols + j] = float(column[cols - 1 - j] / pivot);
  }
  fillMoments(statistics, added, feedback.moments);
  feedback.damping = added / mean;
  feedback.deadColumns =
      std::count(statistics.sumSquares.begin(), statistics.sumSquares.end(), 0.0);
  return feedback;
}

Result<std::shared_ptr<const ErrorFeedback>> FeedbackCache::get(const InputStatistics &statistics) {
  if (!moments || moments != statistics.secondMoments) {
    factors = nullptr;
    moments = statistics.secondMoments;
    Result<ErrorFeedback> made = factorErrorFeedback(statistics);
    failure = made ? Status() : std::move(made).status();
    if (made)
      factors = std::make_shared<const ErrorFeedback>(*std::move(made));
  }
  if (!factors)
    return failure;
  return factors;
}

Result<std::shared_ptr<const std::vector<float>>>
FeedbackCache::triangle(const InputStatistics &statistics) {
  if (damped && triangleMoments == statistics.secondMoments)
    return damped;
  damped = nullptr;
  SMELT_ASSIGN(const double mean, meanMoment(statistics));
  const int64_t cols = statistics.cols();
  const double scale = 1.0 / double(statistics.tokens);
  std::vector<float> values(statistics.secondMoments->size());
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = float((*statistics.secondMoments)[i] * scale);
  for (int64_t k = 0; k < cols; ++k) {
    const size_t i = size_t(triangleRow(k, cols));
    values[i] = float((*statistics.secondMoments)[i] * scale + firstDamping * mean);
  }
  triangleMoments = statistics.secondMoments;
  damped = std::make_shared<const std::vector<float>>(std::move(values));
  return damped;
}

} // namespace smelt
