// Matrix products with broadcast batches.
//
// Each element is a chain of multiply-adds over k in order (floats: fma), in the type of the
// output, so it does not depend on how rows and columns are dealt out.
#include "passes/lower/tensor_kernels/emitters.h"
#include "passes/lower/tensor_kernels/scalar.h"

using namespace mlir;

namespace smelt {

void shapeMatMul(TensorKernelBuilder &k) {
  const int a = k.input(0), c = k.input(1), rank = k.rank(0), batches = rank - 2;
  Value wrong = k.notEqual(k.dim(a, k.rank(a) - 1), k.dim(c, k.rank(c) - 2));
  for (int axis = 0; axis < batches; ++axis) {
    auto length = [&](int operand) {
      int own = axis - (rank - k.rank(operand));
      return own < 0 ? k.idx(1) : k.dim(operand, own);
    };
    Value first = length(a), second = length(c), one = k.idx(1);
    Value isOne = k.equal(first, one);
    Value fits = k.either(k.either(isOne, k.equal(second, one)), k.equal(first, second));
    wrong = k.either(wrong, k.negate(fits));
    k.setDim(0, axis, k.select(isOne, second, first));
  }
  k.setDim(0, rank - 2, k.dim(a, k.rank(a) - 2));
  k.setDim(0, rank - 1, k.dim(c, k.rank(c) - 1));
  k.failIf(wrong, format::FaultShape);
}

namespace {

class Product {
public:
  explicit Product(TensorKernelBuilder &k) : k(k), batches(k, 2) {
    const int rank = k.rank(0);
    rows = k.dim(0, rank - 2);
    cols = k.dim(0, rank - 1);
    depth = k.dim(1, k.rank(1) - 1);
    // Batch axes in units of whole matrices.
    SmallVector<Values> dims, strides;
    for (int operand : {1, 2}) {
      dims.push_back(k.dims(operand));
      dims.back().pop_back_n(2);
      strides.push_back(k.strides(dims.back()));
    }
    for (int axis = 0; axis < rank - 2; ++axis) {
      Values steps;
      for (size_t i : {0, 1}) {
        int own = axis - (rank - 2 - int(dims[i].size()));
        steps.push_back(own < 0 ? k.idx(0)
                                : k.select(k.equal(dims[i][size_t(own)], k.idx(1)), k.idx(0),
                                           strides[i][size_t(own)]));
      }
      batches.axis(k.dim(0, axis), steps);
    }
    batches.close();
  }

  void run() {
    // One item is a block of rows of one matrix by a block of columns.
    constexpr int64_t columnBlock = 256;
    Value rowBlocks = k.ceilDiv(rows, rowBlock), columnBlocks = k.ceilDiv(cols, columnBlock);
    Value matrices = k.mul(batches.outer, batches.inner);
    auto [begin, end] = k.threadShare(k.mul(matrices, k.mul(rowBlocks, columnBlocks)));
    k.loop(begin, end, 1, [&](Value item) {
      Value rest = k.div(item, columnBlocks);
      Value firstColumn = k.mul(k.sub(item, k.mul(rest, columnBlocks)), columnBlock);
      Value lastColumn = k.min(k.add(firstColumn, columnBlock), cols);
      Value matrix = k.div(rest, rowBlocks);
      Value firstRow = k.mul(k.sub(rest, k.mul(matrix, rowBlocks)), rowBlock);
      Value lastRow = k.min(k.add(firstRow, rowBlock), rows);
      Value outer = k.div(matrix, batches.inner);
      Value inner = k.sub(matrix, k.mul(outer, batches.inner));
      Values offsets = batches.offsets(outer);
      auto base = [&](int i, Value size) {
        Value step = k.mul(inner, batches.innerStrides[size_t(i)]);
        return k.mul(k.add(offsets[size_t(i)], step), size);
      };
      left = base(0, k.mul(rows, depth));
      right = base(1, k.mul(depth, cols));
      out = k.mul(matrix, k.mul(rows, cols));
      Value width = k.mul(k.div(k.sub(lastColumn, firstColumn), lanes), lanes);
      Value whole = k.add(firstColumn, width);
      auto strip = [&](Value row, int64_t count) {
        k.loop(firstColumn, whole, lanes, [&](Value column) { tile(row, count, column, lanes); });
      };
      k.ifElse(
          k.equal(k.sub(lastRow, firstRow), k.idx(rowBlock)), {},
          [&]() -> Values {
            strip(firstRow, rowBlock);
            return {};
          },
          [&]() -> Values {
            k.loop(firstRow, lastRow, 1, [&](Value row) { strip(row, 1); });
            return {};
          });
      k.loop(firstRow, lastRow, 1, [&](Value row) {
        k.loop(whole, lastColumn, 1, [&](Value column) { tile(row, 1, column, 1); });
      });
    });
  }

private:
  static constexpr int64_t rowBlock = 4;

  /// `count` rows from `row` on, `width` columns from `column` on.
  void tile(Value row, int64_t count, Value column, int64_t width) {
    const ElementType type = k.type(0);
    Type computed = k.computeType(type);
    Value zero = k.number(computed, 0);
    Values rowOffsets;
    for (int64_t r = 0; r < count; ++r)
      rowOffsets.push_back(k.add(left, k.mul(k.add(row, r), depth)));
    Values init(size_t(count), width == 1 ? zero : k.splat(zero));
    Values sums = k.loop(k.idx(0), depth, 1, init, [&](Value i, ValueRange v) -> Values {
      Value at = k.add(right, k.add(k.mul(i, cols), column));
      Value loaded = width == 1 ? k.load(k.data(2), at) : k.loadVector(k.data(2), at);
      Value b = convert(k, k.toCompute(loaded, k.type(2)), k.type(2), type);
      Values next;
      for (int64_t r = 0; r < count; ++r) {
        Value element = k.element(1, k.add(rowOffsets[size_t(r)], i));
        Value a = convert(k, element, k.type(1), type);
        a = width == 1 ? a : k.splat(a);
        next.push_back(k.isFloat(0) ? k.fma(a, b, v[size_t(r)])
                                    : k.iadd(v[size_t(r)], k.imul(a, b)));
      }
      return next;
    });
    for (int64_t r = 0; r < count; ++r) {
      Value at = k.add(out, k.add(k.mul(k.add(row, r), cols), column));
      if (width == 1)
        k.store(k.data(0), at, sums[size_t(r)]);
      else
        k.storeVector(k.data(0), at, sums[size_t(r)]);
    }
  }

  TensorKernelBuilder &k;
  Box batches;
  Value rows, cols, depth, left, right, out;
};

} // namespace

void computeMatMul(TensorKernelBuilder &k) { Product(k).run(); }

} // namespace smelt
