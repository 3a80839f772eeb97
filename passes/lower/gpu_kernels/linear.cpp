// Linear on a GPU, for every weight format and activation precision, from the same packed weights
// as the CPU. Operands and formulas: kernels/linear.cpp.
//
// A thread is one output row, and one slice of the inputs: blocks slice, slice + slices, ... of 64.
// It sums A (and B) over its blocks as the CPU does over all of them; the sums of the slices are
// then added in order. With a8t, A is a sum of floats here as everywhere.
#include "passes/lower/gpu_kernels/linear.h"
#include "passes/lower/gpu_kernels/activation_words.h"
#include "passes/lower/gpu_kernels/weight_words.h"

using namespace mlir;

namespace smelt {

namespace {

/// The part of one tile's product with a block of activation rows that one thread computes.
class SliceProduct {
public:
  SliceProduct(GpuBuilder &k, ActivationWords &x, Value row, Value slice)
      : k(k), x(x), weights(k, k.operand(1), row), slice(slice), count(linearRows(k.spec)),
        halves(weights.dotInputs == groupInputs / 2) {}

  const WeightWords &format() const { return weights; }
  /// Sums A of the rows, then of asymmetric formats B.
  int64_t sums() const { return weights.asymmetric ? 2 * count : count; }

  /// `tile`: its first word.
  Values emit(Value tile) {
    const FormatInfo &info = weights.info;
    const int64_t blocks = x.layout.paddedCols / blockInputs;
    const int64_t dots = blockInputs / weights.dotInputs;
    for (int64_t r = 0; r < count; ++r) // rows that are not there repeat the last one
      lanesOf.push_back(k.min(k.idx(r), k.sub(x.width, k.idx(1))));
    Values zeros(size_t(sums()), k.f32Const(0));
    return k.loop(
        slice, k.idx(blocks), linearSlices(k.spec, k.target), zeros,
        [&](Value i, ValueRange before) {
          Value block = k.add(k.add(tile, info.rowHeaderBytes / 4), k.mul(i, info.blockBytes / 4));
          return k.loop(k.idx(0), k.idx(dots), 1, before, [&](Value dot, ValueRange carried) {
            Values next(carried);
            addDot(block, dot, k.add(k.mul(i, dots), dot), next);
            return next;
          });
        });
  }

private:
  GpuBuilder &k;
  ActivationWords &x;
  WeightWords weights;
  Value slice;
  const int64_t count;
  const bool halves;
  Values lanesOf; ///< of the rows

  int64_t sumOffset() const { return halves ? x.layout.halfSumOffset : x.layout.sumOffset; }

  /// Adds dot product `dot` of a block, `item` of the row.
  void addDot(Value block, Value dot, Value item, Values &totals) {
    Value scale = weights.scale(block, dot);
    Value minimum = weights.asymmetric ? weights.minimum(block, dot) : Value();
    Values dots =
        x.layout.quantized ? floatsOf(integerDots(block, dot, item)) : floatDots(block, dot, item);
    Value group = halves ? k.div(item, 2) : item;
    const bool coded = weights.info.scales == ScaleStorage::Code;
    for (int64_t r = 0; r < count; ++r) {
      Value &a = totals[size_t(r)], d = dots[size_t(r)], lane = lanesOf[size_t(r)];
      if (x.layout.quantized) {
        Value xs = x.number(x.layout.scaleOffset, group, lane);
        a = scale && !coded ? k.fma(d, k.fmul(scale, xs), a)
                            : k.fma(scale ? k.fmul(d, scale) : d, xs, a);
      } else {
        a = scale ? k.fma(scale, d, a) : k.fadd(a, d);
      }
      if (!minimum)
        continue;
      const int64_t scaled = halves ? x.layout.halfScaledSumOffset : x.layout.scaledSumOffset;
      Value sum = x.number(x.layout.quantized ? scaled : sumOffset(), item, lane);
      Value &b = totals[size_t(count + r)];
      b = k.fma(minimum, sum, b);
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
      Value total = sums[size_t(row)];
      if (planes == 2)
        total = k.iadd(k.imul(total, k.i32Const(highFactor)), sums[size_t(count + row)]);
      // Offsets are -128 times the sum of the activation codes.
      auto offset = [&] { return x.word(sumOffset(), item, lanesOf[size_t(row)]); };
      if (zero)
        total = k.iadd(total, k.imul(zero, k.shrArith(offset(), 7)));
      else if (weights.info.grid == Grid::Symmetric && !weights.signedBytes)
        total = k.iadd(total, k.shrArith(offset(), 8 - weights.info.bits));
      totals.push_back(total);
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
      : k(k), x(k, k.operand(0), k.rowGroup()), slices(linearSlices(k.spec, k.target)),
        gated(k.spec.epilogue == LinearEpilogue::Gated),
        tileWords(tileBytes(k.spec.format, k.spec.cols) / 4) {}

  void emit() {
    SliceProduct product(k, x, k.rem(k.thread(), tileRows), k.div(k.thread(), tileRows));
    const int64_t parts = gated ? 2 : 1, sums = product.sums();
    Words partial = k.shared(parts * sums * k.launch.threads);
    for (int64_t part = 0; part < parts; ++part) {
      Values mine = product.emit(k.mul(k.add(k.mul(k.group(), parts), part), tileWords));
      for (auto [i, sum] : llvm::enumerate(mine))
        k.setNumber(partial, k.add(k.thread(), (part * sums + int64_t(i)) * k.launch.threads), sum);
    }
    k.barrier();
    k.forItems(linearRows(k.spec) * tileRows, [&](Value item) {
      Value lane = k.div(item, tileRows), row = k.rem(item, tileRows);
      Value column = k.add(k.mul(k.group(), tileRows), row);
      k.ifThen(k.both(k.less(lane, x.rows), k.less(column, k.idx(k.spec.rows))), [&] {
        Value y = finish(partial, sums, 0, lane, row);
        if (gated)
          y = k.fmul(k.activate(k.spec.activationKind, y), finish(partial, sums, 1, lane, row));
        store(column, lane, y);
      });
    });
  }

private:
  GpuBuilder &k;
  ActivationWords x;
  const int64_t slices;
  const bool gated;
  const int64_t tileWords;

  /// The sum of all slices of sum `first` + lane, for an output row.
  Value total(Words partial, int64_t first, Value lane, Value row) {
    Value at = k.add(k.mul(k.add(lane, first), k.launch.threads), row);
    Value sum = k.number(partial, at);
    for (int64_t slice = 1; slice < slices; ++slice)
      sum = k.fadd(sum, k.number(partial, k.add(at, slice * tileRows)));
    return sum;
  }

  /// One result of the gate (part 0) or the up tile.
  Value finish(Words partial, int64_t sums, int64_t part, Value lane, Value row) {
    WeightWords weights(k, k.operand(1), row);
    Value tile = k.mul(k.add(k.mul(k.group(), gated ? 2 : 1), part), tileWords);
    Value y = total(partial, part * sums, lane, row), scale = weights.rowScale(tile);
    if (!weights.asymmetric)
      return scale ? k.fmul(y, scale) : y;
    Value b = total(partial, part * sums + linearRows(k.spec), lane, row);
    return k.fma(scale, y, k.fneg(k.fmul(weights.rowMinimum(tile), b)));
  }

  void store(Value column, Value lane, Value y) {
    Value row = k.add(k.mul(k.rowGroup(), linearRows(k.spec)), lane);
    Value at = k.add(k.mul(row, k.spec.outStride), column);
    Words out = k.operand(3);
    if (k.spec.bias)
      y = k.fadd(y, k.number(k.operand(2), column));
    if (k.spec.epilogue == LinearEpilogue::AddTo)
      y = k.fadd(k.number(out, at), y);
    k.setNumber(out, at, y);
  }
};

} // namespace

void emitGpuLinear(GpuBuilder &k) { LinearKernel(k).emit(); }

} // namespace smelt
