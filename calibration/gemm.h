// The one entry to matrix products, single-threaded so that their results depend on the shapes
// alone.
#pragma once

#include <cstdint>

namespace smelt {

/// C = scale * op(A) * op(B), row-major. op(A) is [m, k], op(B) is [k, n], C is [m, n]; a
/// transposed operand is stored [k, m] or [n, k]. Leading dimensions are elements between stored
/// rows. Callers cut the work and run several calls side by side.
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float scale,
          const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc);

/// Whether this CPU multiplies bfloat16 faster than float.
bool bfloat16IsFast();

/// The same product of bfloat16 operands, accumulated in float. Only where bfloat16IsFast().
void gemmBfloat16(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k,
                  const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c,
                  int64_t ldc);

} // namespace smelt
