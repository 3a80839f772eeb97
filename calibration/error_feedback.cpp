// Cholesky factorisation of the second moments of a linear input.
#include "calibration/error_feedback.h"
#include "calibration/parallel.h"

#include <algorithm>
#include <cmath>
#include <numeric>

// LAPACK, BLAS and OpenBLAS; Debian installs no C header for the former without liblapacke-dev.
extern "C" void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern "C" void dtrsm_(const char *side, const char *uplo, const char *transpose, const char *unit,
                       const int *m, const int *n, const double *alpha, const double *a,
                       const int *lda, double *b, const int *ldb);
extern "C" void dgemm_(const char *transposeA, const char *transposeB, const int *m, const int *n,
                       const int *k, const double *alpha, const double *a, const int *lda,
                       const double *b, const int *ldb, const double *beta, double *c,
                       const int *ldc);
extern "C" void openblas_set_num_threads(int count);

namespace smelt {

namespace {

constexpr double firstDamping = 0.003;
constexpr int attempts = 4;

constexpr int64_t factorBlock = 256; ///< columns of one step of the factorisation

int64_t blocksOf(int64_t size) { return (size + factorBlock - 1) / factorBlock; }

/// H in reversed order, column-major lower triangle [cols, cols], so that its lower factor,
/// reversed again, is the upper factor R of H = R R^T.
void fillReversed(const InputStatistics &statistics, const std::vector<int32_t> &order,
                  double added, std::vector<double> &matrix, WorkerPool &pool) {
  const int64_t cols = statistics.cols();
  const std::vector<double> &moments = *statistics.secondMoments;
  const double scale = 1.0 / double(statistics.tokens);
  pool.run(cols, [&](int64_t column) {
    const int64_t b = order[cols - 1 - column];
    for (int64_t row = column; row < cols; ++row) {
      const int64_t a = order[cols - 1 - row];
      const int64_t low = std::min(a, b), high = std::max(a, b);
      matrix[column * cols + row] = moments[triangleRow(low, cols) + high - low] * scale;
    }
    matrix[column * cols + column] += added;
  });
}

/// The lower Cholesky factor in place, as dpotrf gives it, by blocks of columns; whether there is
/// one. Blocks are cut by the size alone and OpenBLAS, which cuts sums differently for other
/// counts, has one thread, so that the factor does not depend on the workers.
bool factorLower(std::vector<double> &matrix, int64_t cols, WorkerPool &pool) {
  openblas_set_num_threads(1);
  const int ld = int(cols);
  const double one = 1, minusOne = -1;
  auto at = [&](int64_t row, int64_t column) { return matrix.data() + column * cols + row; };
  for (int64_t first = 0; first < cols; first += factorBlock) {
    const int width = int(std::min(factorBlock, cols - first));
    int failed = 0;
    dpotrf_("L", &width, at(first, first), &ld, &failed);
    if (failed)
      return false;
    const int64_t below = first + width, blocks = blocksOf(cols - below);
    pool.run(blocks, [&](int64_t block) {
      const int64_t row = below + block * factorBlock;
      const int rows = int(std::min(factorBlock, cols - row));
      dtrsm_("R", "L", "T", "N", &rows, &width, &one, at(first, first), &ld, at(row, first), &ld);
    });
    // The blocks on and below the diagonal of what is left, column by column.
    pool.run(blocks * (blocks + 1) / 2, [&](int64_t item) {
      int64_t column = 0;
      for (; item >= blocks - column; ++column)
        item -= blocks - column;
      const int64_t row = below + (column + item) * factorBlock,
                    start = below + column * factorBlock;
      const int m = int(std::min(factorBlock, cols - row)),
                n = int(std::min(factorBlock, cols - start));
      dgemm_("N", "T", &m, &n, &width, &minusOne, at(row, first), &ld, at(start, first), &ld, &one,
             at(row, start), &ld);
    });
  }
  return true;
}

/// Rows of factors from the columns of the reversed lower factor.
void takeFactors(const std::vector<double> &matrix, int64_t cols, ErrorFeedback &feedback,
                 WorkerPool &pool) {
  feedback.factors.assign(size_t(cols * cols), 0.0f);
  feedback.diagonal.resize(size_t(cols));
  pool.run(cols, [&](int64_t i) {
    const double *column = matrix.data() + (cols - 1 - i) * cols;
    const double pivot = column[cols - 1 - i];
    feedback.diagonal[i] = float(pivot * pivot);
    for (int64_t j = 0; j < i; ++j)
      feedback.factors[i * cols + j] = float(column[cols - 1 - j] / pivot);
  });
}

/// H in its own order, by panels.
std::vector<float> momentsInPanels(const InputStatistics &statistics, double added,
                                   WorkerPool &pool) {
  const int64_t cols = statistics.cols();
  const std::vector<double> &moments = *statistics.secondMoments;
  const double scale = 1.0 / double(statistics.tokens);
  std::vector<float> panels(size_t(momentPanels(cols) * cols * momentPanel), 0.0f);
  pool.run(momentPanels(cols), [&](int64_t index) {
    float *panel = panels.data() + index * cols * momentPanel;
    const int64_t first = index * momentPanel, last = std::min(first + momentPanel, cols);
    for (int64_t k = 0; k < last; ++k) { // rows above the panel, and those within it
      const double *row = moments.data() + triangleRow(k, cols) - k;
      for (int64_t j = std::max(first, k); j < last; ++j)
        panel[k * momentPanel + j - first] = float(row[j] * scale + (j == k ? added : 0.0));
    }
    for (int64_t j = first; j < last; ++j) { // below the diagonal: rows of the triangle
      const double *row = moments.data() + triangleRow(j, cols) - j;
      for (int64_t k = j + 1; k < cols; ++k)
        panel[k * momentPanel + j - first] = float(row[k] * scale);
    }
  });
  return panels;
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

Result<ErrorFeedback> factorErrorFeedback(const InputStatistics &statistics, int threads) {
  const int64_t cols = statistics.cols();
  SMELT_ASSIGN(const double mean, meanMoment(statistics));
  ErrorFeedback feedback;
  feedback.order.resize(size_t(cols));
  std::iota(feedback.order.begin(), feedback.order.end(), 0);
  std::sort(feedback.order.begin(), feedback.order.end(), [&](int32_t a, int32_t b) {
    const double x = statistics.sumSquares[a], y = statistics.sumSquares[b];
    return x != y ? x > y : a < b;
  });

  WorkerPool pool(threads);
  double added = firstDamping * mean;
  {
    std::vector<double> matrix(size_t(cols * cols));
    bool factored = false;
    for (int attempt = 0; attempt < attempts && !factored; ++attempt) {
      added *= attempt ? 10 : 1;
      fillReversed(statistics, feedback.order, added, matrix, pool);
      factored = factorLower(matrix, cols, pool);
    }
    if (!factored)
      return invalidArgument("its second moments are not positive definite even with " +
                             std::to_string(added / mean) + " of their mean added");
    takeFactors(matrix, cols, feedback, pool);
  }
  feedback.moments = momentsInPanels(statistics, added, pool);
  feedback.damping = added / mean;
  feedback.deadColumns =
      std::count(statistics.sumSquares.begin(), statistics.sumSquares.end(), 0.0);
  return feedback;
}

Result<std::shared_ptr<const ErrorFeedback>> FeedbackCache::get(const InputStatistics &statistics,
                                                                int threads) {
  if (!moments || moments != statistics.secondMoments) {
    factors = nullptr;
    moments = statistics.secondMoments;
    Result<ErrorFeedback> made = factorErrorFeedback(statistics, threads);
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
