// AMX: registers of rows of bytes, and sums of byte products of two of them.
#pragma once

#include "passes/lower/kernels/builder.h"

#include <array>

namespace smelt {

/// The matrix unit of a target with tiles (Intel SDM volume 1, chapter 18). Its registers are
/// numbered 0 to 7; each has up to 16 rows of up to 64 bytes.
class MatrixUnit {
public:
  struct Shape {
    int64_t rows, bytes; ///< of a row
  };
  using Shapes = std::array<Shape, 8>;

  MatrixUnit(KernelBuilder &k, const Shapes &shapes);

  /// Gives the registers their shapes; needed before all others, on every thread.
  void configure();
  /// Clears the registers, so that the system need not save them when threads change.
  void release();
  void zero(int matrix);
  /// Rows from byte `at` on, `stride` bytes apart.
  void load(int matrix, Buffer bytes, Value at, int64_t stride);
  /// sums [rows, 16 int32] += signed bytes [rows, inputs] * unsigned bytes [inputs / 4, 16 x 4],
  /// modulo 2^32.
  void multiply(int sums, int signedBytes, int unsignedBytes);
  /// Rows of int32 from word `at` on, one behind the other.
  void store(int matrix, Buffer words, Value at);

private:
  KernelBuilder &k;
  Shapes shapes;
  Buffer configuration;

  void call(llvm::StringRef name, llvm::ArrayRef<int> matrices, ValueRange operands = {});
  Value address(Buffer buffer, Value byte);
};

} // namespace smelt
