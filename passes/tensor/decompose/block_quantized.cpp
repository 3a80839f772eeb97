// com.microsoft MatMulNBits and GatherBlockQuantized: codes in blocks along the columns of a
// matrix.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

/// Codes of `bits` bits packed into bytes, first code lowest. Each row starts at a byte.
struct Codes {
  const Stored &bytes;
  int64_t bits, rowBytes;

  int64_t at(int64_t row, int64_t index) const {
    int64_t perByte = 8 / bits;
    int byte = bytes.byte(row * rowBytes + index / perByte);
    return byte >> (index % perByte * bits) & ((1 << bits) - 1);
  }
};

bool isByte(Builder &b, Value value) {
  Type element = value ? cast<RankedTensorType>(value.getType()).getElementType() : Type();
  return element && element.isInteger() && element.getIntOrFloatBitWidth() == 8;
}

/// A matrix [rows, cols] in blocks of `block` columns.
struct BlockMatrix {
  Value codes, scales, zeros, order; ///< zeros, order may be null
  int64_t rows, cols, bits, block;
  int64_t usualZero; ///< where there are no zero points
};

/// (code - zero) * scale as a stored matrix; `order` is the block of each column.
Value dequantizeBlocks(Builder &b, const BlockMatrix &m) {
  if (m.bits != 2 && m.bits != 4 && m.bits != 8)
    return b.fail(llvm::Twine(m.bits) + "-bit codes are not supported");
  if (m.rows < 1 || m.cols < 1 || m.block < 1 || m.rows > INT32_MAX || m.cols > INT32_MAX)
    return b.fail("its sizes do not fit");
  std::optional<Stored> codes = Stored::of(b, m.codes), scales = Stored::of(b, m.scales);
  std::optional<Stored> zeros = m.zeros ? Stored::of(b, m.zeros) : std::nullopt;
  std::optional<Stored> order = m.order ? Stored::of(b, m.order) : std::nullopt;
  if (!codes || !scales || (m.zeros && !zeros) || (m.order && !order))
    return b.fail("its codes, scales or zero points are no initializers");
  int64_t blocks = (m.cols + m.block - 1) / m.block;
  int64_t rowBytes = blocks * m.block * m.bits / 8;
  bool isPacked = zeros && isByte(b, m.zeros);
  int64_t zeroBytes = (blocks * m.bits + 7) / 8;
  if (codes->elements() != m.rows * rowBytes || scales->elements() != m.rows * blocks ||
      (zeros && zeros->elements() != m.rows * (isPacked ? zeroBytes : blocks)) ||
      (order && order->elements() < m.cols))
    return b.fail("its codes, scales or zero points do not fit " + llvm::Twine(m.rows) + " x " +
                  llvm::Twine(m.cols) + " in blocks of " + llvm::Twine(m.block));
  std::string key = "blocks " + codes->key() + " " + scales->key() + " " +
                    (zeros ? zeros->key() : "") + " " + (order ? order->key() : "") + " " +
                    std::to_string(m.rows) + " " + std::to_string(m.cols) + " " +
                    std::to_string(m.bits) + " " + std::to_string(m.block);
  Codes packed{*codes, m.bits, rowBytes};
  return storedFloats(b, key, {m.rows, m.cols}, [&](std::vector<float> &values) {
    for (int64_t row = 0; row < m.rows; ++row)
      for (int64_t col = 0; col < m.cols; ++col) {
        int64_t group =
            order ? std::clamp<int64_t>(order->integer(col), 0, blocks - 1) : col / m.block;
        double zero = double(m.usualZero);
        if (isPacked)
          zero = double(Codes{*zeros, m.bits, zeroBytes}.at(row, group));
        else if (zeros)
          zero = zeros->at(row * blocks + group);
        values[size_t(row * m.cols + col)] =
            (float(packed.at(row, col)) - float(zero)) * float(scales->at(row * blocks + group));
      }
  });
}

} // namespace

// MatMulNBits(a [.., K], codes [N, blocks, bytes], scales, zeros, group of each column, bias)
Values matmulNBits(Builder &b) {
  int64_t bits = b.integer("bits", 4);
  BlockMatrix m{b.input(1),
                b.input(2),
                b.input(3),
                b.input(4),
                b.integer("N", 0),
                b.integer("K", 0),
                bits,
                b.integer("block_size", 32),
                int64_t(1) << (bits - 1)};
  Value weight = dequantizeBlocks(b, m);
  if (b.failed())
    return {};
  return {product(b, b.input(0), b.transpose(weight, {1, 0}), b.input(5))};
}

// GatherBlockQuantized(codes [V, packed columns], ids, scales, zeros)
Values gatherBlockQuantized(Builder &b) {
  Value data = b.input(0);
  int64_t rank = b.rank(data);
  if (rank != 2 || b.axis(b.integer("gather_axis", 0), rank) != 0 ||
      b.axis(b.integer("quantize_axis", 1), rank) != 1)
    return {b.fail("only rows of a matrix, quantized along the rows, are supported")};
  int64_t block = b.integer("block_size", 128);
  if (isByte(b, data)) {
    int64_t bits = b.integer("bits", 4);
    if (bits != 4 && bits != 8)
      return {b.fail(llvm::Twine(bits) + "-bit codes are not supported")};
    BlockMatrix m{data, b.input(2),     b.input(3),
                  {},   b.dim(data, 0), b.dim(data, 1) == dynamic ? 0 : b.dim(data, 1) * 8 / bits,
                  bits, block,          int64_t(1) << (bits - 1)};
    return {lookUp(b, dequantizeBlocks(b, m), b.input(1))};
  }
  // Codes of 4-bit types: as DequantizeLinear in blocks.
  std::optional<Stored> codes = Stored::of(b, data), scales = Stored::of(b, b.input(2));
  std::optional<Stored> zeros = b.input(3) ? Stored::of(b, b.input(3)) : std::nullopt;
  if (!codes || !scales || (b.input(3) && !zeros) || block < 1)
    return {b.fail("its codes, scales or zero points are no initializers")};
  int64_t rows = codes->shape()[0], cols = codes->shape()[1];
  int64_t blocks = (cols + block - 1) / block;
  if (scales->elements() != rows * blocks || (zeros && zeros->elements() != rows * blocks))
    return {b.fail("its scales or zero points do not fit")};
  std::string key = "rows " + codes->key() + " " + scales->key() + " " +
                    (zeros ? zeros->key() : "") + " " + std::to_string(block);
  Value table = storedFloats(b, key, {rows, cols}, [&](std::vector<float> &values) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      int64_t group = i / cols * blocks + i % cols / block;
      values[size_t(i)] =
          float(codes->at(i) - (zeros ? zeros->at(group) : 0)) * float(scales->at(group));
    }
  });
  return {lookUp(b, table, b.input(1))};
}

} // namespace smelt::tensor
