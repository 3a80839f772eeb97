// Linear on a GPU, for every weight format and activation precision, from the same packed weights
// as the CPU. Operands and formulas: kernels/linear.cpp.
//
// A thread is one output row, and one slice of the inputs: blocks slice, slice + slices, ... of 64.
// It sums A (and B) over its blocks as the CPU does over all of them; the sums of the slices are
// then added in order. With a8t, A is a sum of floats here as everywhere. Many rows on a device
// with a matrix unit: a warp is a slice of all rows of the tile (linear_tiles.cpp), the rest is the
// same; of still more rows, a warp is a tile (linear_wide.cpp).
#include "passes/lower/gpu_kernels/linear.h"
#include "passes/lower/gpu_kernels/linear_dots.h"
#include "passes/lower/gpu_kernels/linear_tiles.h"
#include "passes/lower/gpu_kernels/linear_wide.h"

using namespace mlir;

namespace smelt {

namespace {

/// The part of one tile's product with a block of activation rows that one thread computes.
class SliceProduct {
public:
  SliceProduct(GpuBuilder &k, ActivationWords &x, Value row, Value slice)
      : k(k), x(x), weights(k, k.operand(1), row), dots(k, x, weights), slice(slice),
        count(k.spec.one ? 1 : manyInterleave) {}

  const WeightWords &format() const { return weights; }
  /// Sums A of the rows, then of asymmetric formats B.
  int64_t sums() const { return weights.asymmetric ? 2 * count : count; }

  /// `tile`: its first word.
  Values emit(Value tile) {
    for (int64_t r = 0; r < count; ++r) // rows that are not there repeat the last one
      lanesOf.push_back(k.min(k.idx(r), k.sub(x.width, k.idx(1))));
    return sumOverSlice(k, weights, x.layout.paddedCols, tile, slice,
                        linearSlices(k.spec, k.target), size_t(sums()),
                        [&](Value block, Value dot, Value item, Values &totals) {
                          addDot(block, dot, item, totals);
                        });
  }

private:
  GpuBuilder &k;
  ActivationWords &x;
  WeightWords weights;
  LinearDots dots;
  Value slice;
  const int64_t count;
  Values lanesOf; ///< of the rows

  /// Adds dot product `dot` of a block, `item` of the row.
  void addDot(Value block, Value dot, Value item, Values &totals) {
    Value scale = weights.scale(block, dot);
    Value minimum = weights.asymmetric ? weights.minimum(block, dot) : Value();
    Values sums =
        x.layout.quantized ? floatsOf(integerDots(block, dot, item)) : floatDots(block, dot, item);
    for (int64_t r = 0; r < count; ++r) {
      Value lane = lanesOf[size_t(r)];
      dots.addTo(totals[size_t(r)], sums[size_t(r)], scale, item, lane);
      if (minimum)
        dots.addMinimum(totals[size_t(count + r)], minimum, item, lane);
    }
  }

  Values floatsOf(const Values &integers) {
    Values floats;
    for (Value v : integers)
      floats.push_back(k.toFloat(v));
    return floats;
  }

  /// The exact sums of code * x over a dot product.
  Values integerDots(Value block, Value dot, Value item) {
    const int64_t runs = weights.dotInputs / 8, planes = x.layout.planes;
    Values zeros(size_t(count * planes), k.i32Const(0));
    Values sums = k.loop(k.idx(0), k.idx(runs), 1, zeros, [&](Value r, ValueRange carried) {
      Values next(carried);
      auto [low, high] = weights.run(block, k.add(k.mul(dot, runs), r));
      Value firstQuad = k.mul(k.add(k.mul(item, runs), r), 2);
      for (int64_t plane = 0; plane < planes; ++plane)
        for (int64_t row = 0; row < count; ++row)
          for (int64_t quad = 0; quad < 2; ++quad) {
            Value codes =
                x.word(plane * x.layout.planeBytes, k.add(firstQuad, quad), lanesOf[size_t(row)]);
            Value &sum = next[size_t(plane * count + row)];
            sum = k.addProducts(sum, quad ? high : low, weights.signedBytes, codes);
          }
      return next;
    });
    Value zero = weights.given ? weights.zeroPoint(block, dot) : Value();
    Values totals;
    for (int64_t row = 0; row < count; ++row) {
      Values mine;
      for (int64_t plane = 0; plane < planes; ++plane)
        mine.push_back(sums[size_t(plane * count + row)]);
      totals.push_back(dots.total(mine, zero, item, lanesOf[size_t(row)]));
    }
    return totals;
  }

  Values floatDots(Value block, Value dot, Value item) {
    const int64_t runs = weights.dotInputs / 8;
    const bool plain = weights.info.grid == Grid::Float;
    Value zero = weights.given ? weights.zeroPoint(block, dot) : Value();
    Values zeros(size_t(count), k.f32Const(0));
    return k.loop(k.idx(0), k.idx(runs), 1, zeros, [&](Value r, ValueRange carried) {
      Values next(carried);
      Value inBlock = k.add(k.mul(dot, runs), r), first = k.mul(k.add(k.mul(item, runs), r), 8);
      std::pair<Value, Value> quads;
      if (!plain)
        quads = weights.run(block, inBlock);
      for (int64_t i = 0; i < 8; ++i) {
        Value w = plain ? weights.number(block, k.add(k.mul(inBlock, 8), i))
                        : weights.codeValue(i < 4 ? quads.first : quads.second, i % 4, zero);
        for (int64_t row = 0; row < count; ++row) {
          Value input = x.number(0, k.add(first, i), lanesOf[size_t(row)]);
          next[size_t(row)] = k.fma(w, input, next[size_t(row)]);
        }
      }
      return next;
    });
  }
};

/// The whole kernel: products of all slices, their sums, and what becomes of them.
class LinearKernel {
public:
  explicit LinearKernel(GpuBuilder &k)
      : k(k), results(k), slices(linearSlices(k.spec, k.target)),
        gated(k.spec.epilogue == LinearEpilogue::Gated), parts(gated ? 2 : 1),
        tileWords(tileBytes(k.spec.format, k.spec.cols) / 4) {}

  void emit() {
    if (linearByTiles(k.spec, k.target))
      return emitTiles();
    ActivationWords x(k, k.operand(0), k.rowGroup());
    SliceProduct product(k, x, k.rem(k.thread(), tileRows), k.div(k.thread(), tileRows));
    reserve(product.sums());
    for (int64_t part = 0; part < parts; ++part)
      for (auto [i, sum] : llvm::enumerate(product.emit(firstWord(part))))
        k.setNumber(partial, k.add(k.thread(), (part * sums + int64_t(i)) * sumWords()), sum);
    k.barrier();
    finishBlock(x, k.rowGroup());
  }

private:
  GpuBuilder &k;
  LinearResults results;
  const int64_t slices;
  const bool gated;
  const int64_t parts, tileWords; ///< a gated tile is two: gate and up
  Words partial;                  ///< [parts][sums][slices][16]
  int64_t sums = 0;               ///< of a block of rows: A, then B

  int64_t sumWords() const { return slices * tileRows; }
  void reserve(int64_t sumsOfBlock) {
    sums = sumsOfBlock;
    partial = k.shared(parts * sums * sumWords());
  }
  Value firstWord(int64_t part) { return k.mul(k.add(k.mul(k.group(), parts), part), tileWords); }

  void emitTiles() {
    const int64_t count = linearRowBlocks(k.spec, k.target);
    Value lastBlock = k.div(k.sub(k.rowCount(), k.idx(1)), manyInterleave);
    std::deque<ActivationWords> blocks;
    Values numbers;
    for (int64_t j = 0; j < count; ++j) {
      numbers.push_back(k.add(k.mul(k.rowGroup(), count), j));
      blocks.emplace_back(k, k.operand(0), k.min(numbers.back(), lastBlock));
    }
    Value slice = k.div(k.thread(), k.target.subgroup);
    TileProduct product(k, blocks, slice);
    reserve(product.sums());
    SmallVector<Values> all;
    for (int64_t part = 0; part < parts; ++part)
      all.push_back(product.emit(firstWord(part)));
    for (int64_t j = 0; j < count; ++j) {
      if (j > 0)
        k.barrier();
      for (int64_t part = 0; part < parts; ++part)
        product.forSums(all[size_t(part)], j, [&](Value sum, Value row, Value value) {
          Value at = k.mul(k.add(sum, part * sums), sumWords());
          k.setNumber(partial, k.add(k.add(at, k.mul(slice, tileRows)), row), value);
        });
      k.barrier();
      k.ifThen(k.lessEqual(numbers[size_t(j)], lastBlock),
               [&] { finishBlock(blocks[size_t(j)], numbers[size_t(j)]); });
    }
  }

  /// The outputs of a block of rows, whose sums all slices have written.
  void finishBlock(ActivationWords &x, Value block) {
    const int64_t rows = k.spec.one ? 1 : manyInterleave;
    k.forItems(rows * tileRows, [&](Value item) {
      Value lane = k.div(item, tileRows), row = k.rem(item, tileRows);
      Value column = k.add(k.mul(k.group(), tileRows), row);
      k.ifThen(k.both(k.less(lane, x.rows), k.less(column, k.idx(k.spec.rows))), [&] {
        Value y = finish(0, lane, row);
        if (gated)
          y = results.gated(y, finish(1, lane, row));
        results.store(column, k.add(k.mul(block, rows), lane), y);
      });
    });
  }

  /// The sum of all slices of sum `first` + lane, for an output row.
  Value total(int64_t first, Value lane, Value row) {
    Value at = k.add(k.mul(k.add(lane, first), sumWords()), row);
    Value sum = k.number(partial, at);
    for (int64_t slice = 1; slice < slices; ++slice)
      sum = k.fadd(sum, k.number(partial, k.add(at, slice * tileRows)));
    return sum;
  }

  /// One result of the gate (part 0) or the up tile.
  Value finish(int64_t part, Value lane, Value row) {
    WeightWords weights(k, k.operand(1), row);
    Value tile = firstWord(part);
    Value a = total(part * sums, lane, row);
    Value b = weights.asymmetric ? total(part * sums + sums / 2, lane, row) : Value();
    return results.product(LinearResults::factorsOf(weights, tile), a, b);
  }
};

} // namespace

void emitGpuLinear(GpuBuilder &k) {
  if (k.spec.wide)
    return emitWideLinear(k);
  LinearKernel(k).emit();
}

} // namespace smelt
