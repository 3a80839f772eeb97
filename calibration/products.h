// Matrix products shared by the workers: operands in the chosen precision, results cut into fixed
// pieces.
#pragma once

#include "calibration/float_model.h"
#include "calibration/graph.h"
#include "calibration/parallel.h"

#include <vector>

namespace smelt {

/// A matrix as an operand of products: a view of floats, or a copy rounded to bfloat16.
class Operand {
public:
  /// `data` [rows, cols], contiguous; as floats it must outlive the operand.
  Operand(const float *data, int64_t rows, int64_t cols, ProductPrecision precision,
          WorkerPool &pool);
  Operand(const Matrix &matrix, ProductPrecision precision, WorkerPool &pool)
      : Operand(matrix.row(0), matrix.rows, matrix.cols, precision, pool) {}
  /// Rows [first, first + count) of a weight.
  Operand(const WeightView &view, int64_t first, int64_t count, ProductPrecision precision,
          WorkerPool &pool);

  /// Rows that are rounded already, [rows, cols]; they outlive the operand.
  Operand(const uint16_t *rounded, int64_t rows, int64_t cols)
      : rowCount(rows), colCount(cols), given(rounded) {}

  int64_t rows() const { return rowCount; }
  int64_t cols() const { return colCount; }
  const float *floats() const { return values; }                            ///< null if rounded
  const uint16_t *rounded() const { return given ? given : halves.data(); } ///< only if rounded

private:
  int64_t rowCount, colCount;
  const float *values = nullptr;
  const uint16_t *given = nullptr;
  std::vector<float> owned;
  std::vector<uint16_t> halves;
};

/// Columns of an operand, for products with a part of it.
struct Columns {
  int64_t first, count;
};

/// C [m, n] = op(A) op(B), or added to it; C has `ldc` elements between rows. op transposes.
/// `columns` narrows A before it is transposed. Both operands have the same precision.
void multiply(const Operand &a, Columns columns, bool transposeA, const Operand &b, bool transposeB,
              float *c, int64_t ldc, bool add, WorkerPool &pool);
inline void multiply(const Operand &a, bool transposeA, const Operand &b, bool transposeB, float *c,
                     int64_t ldc, bool add, WorkerPool &pool) {
  multiply(a, {0, a.cols()}, transposeA, b, transposeB, c, ldc, add, pool);
}

} // namespace smelt
