// Pieces of a product are cut by its shape alone, so that results do not depend on the workers.
#include "calibration/products.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"

#include <algorithm>

namespace smelt {

namespace {

constexpr int64_t pieceRows = 256, pieceCols = 192; ///< of the result
constexpr int64_t rowBlock = 32;                    ///< rows that one item rounds or converts

int64_t blocksOf(int64_t size, int64_t block) { return (size + block - 1) / block; }

} // namespace

Operand::Operand(const float *data, int64_t rows, int64_t cols, ProductPrecision precision,
                 WorkerPool &pool)
    : rowCount(rows), colCount(cols) {
  if (precision == ProductPrecision::Float) {
    values = data;
    return;
  }
  halves.resize(size_t(rows * cols));
  pool.run(blocksOf(rows, rowBlock), [&](int64_t block) {
    const int64_t first = block * rowBlock * cols, last = std::min(rows, (block + 1) * rowBlock);
    rowKernels().toBfloat16(data + first, halves.data() + first, last * cols - first);
  });
}

Operand::Operand(const WeightView &view, int64_t first, int64_t count, ProductPrecision precision,
                 WorkerPool &pool)
    : rowCount(count), colCount(view.cols) {
  const bool rounds = precision == ProductPrecision::Bfloat16;
  if (rounds) {
    halves.resize(size_t(count * colCount));
  } else {
    owned.resize(size_t(count * colCount));
    values = owned.data();
  }
  pool.run(blocksOf(count, rowBlock), [&](int64_t block) {
    const int64_t row = block * rowBlock, rows = std::min(rowBlock, count - row);
    if (!rounds)
      return readRows(view, first + row, rows, owned.data() + row * colCount);
    thread_local std::vector<float> floats; // [rows, cols]
    floats.resize(size_t(rows * colCount));
    readRows(view, first + row, rows, floats.data());
    rowKernels().toBfloat16(floats.data(), halves.data() + row * colCount, rows * colCount);
  });
}

void multiply(const Operand &a, Columns columns, bool transposeA, const Operand &b, bool transposeB,
              float *c, int64_t ldc, bool add, WorkerPool &pool) {
  const int64_t m = transposeA ? columns.count : a.rows();
  const int64_t k = transposeA ? a.rows() : columns.count;
  const int64_t n = transposeB ? b.rows() : b.cols();
  const int64_t rowPieces = blocksOf(m, pieceRows), colPieces = blocksOf(n, pieceCols);
  pool.run(rowPieces * colPieces, [&](int64_t item) {
    const int64_t row = item / colPieces * pieceRows, col = item % colPieces * pieceCols;
    const int64_t rows = std::min(pieceRows, m - row), cols = std::min(pieceCols, n - col);
    const int64_t atA = columns.first + (transposeA ? row : row * a.cols());
    const int64_t atB = transposeB ? col * b.cols() : col;
    thread_local std::vector<float> piece; // [rows, cols]
    piece.resize(size_t(pieceRows * pieceCols));
    float *out = c + row * ldc + col;
    float *to = add ? piece.data() : out;
    const int64_t ld = add ? cols : ldc;
    if (a.floats())
      gemm(transposeA, transposeB, rows, cols, k, 1.0f, a.floats() + atA, a.cols(),
           b.floats() + atB, b.cols(), to, ld);
    else
      gemmBfloat16(transposeA, transposeB, rows, cols, k, a.rounded() + atA, a.cols(),
                   b.rounded() + atB, b.cols(), to, ld);
    for (int64_t i = 0; add && i < rows; ++i)
      rowKernels().add(out + i * ldc, piece.data() + i * cols, out + i * ldc, cols);
  });
}

} // namespace smelt
