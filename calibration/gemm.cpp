// oneDNN's sgemm behind our own interface.
#include "calibration/gemm.h"

#include <algorithm>
#include <dnnl.h>
#include <limits>

// libgomp, on which this oneDNN runs. Its header does not compile cleanly with clang, and this is
// all we use of it.
extern "C" void omp_set_num_threads(int);

namespace smelt {

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float scale,
          const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc) {
  thread_local const bool alone = (omp_set_num_threads(1), true);
  (void)alone;
  // It refuses no shape that the graph check lets through; should memory run out, the result must
  // not pass for a value.
  if (dnnl_sgemm(transposeA ? 'T' : 'N', transposeB ? 'T' : 'N', m, n, k, scale, a, lda, b, ldb,
                 0.0f, c, ldc) == dnnl_success)
    return;
  for (int64_t i = 0; i < m; ++i)
    std::fill_n(c + i * ldc, n, std::numeric_limits<float>::quiet_NaN());
}

} // namespace smelt
