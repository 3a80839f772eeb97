// What becomes of the dot products of a linear, the same however they are computed. Formulas:
// kernels/linear.cpp.
#pragma once

#include "passes/lower/gpu_kernels/activation_words.h"
#include "passes/lower/gpu_kernels/weight_words.h"

namespace smelt {

/// Calls `add(block, dot, item, totals)` for the dot products of a slice of a row: the first word
/// of their block of weights, which one of the block, which one of the row, and `sums` so far,
/// which it adds to. `tile`: first word; `paddedCols`: inputs. Returns the sums, which begin at 0.
inline Values
sumOverSlice(GpuBuilder &k, const WeightWords &weights, int64_t paddedCols, Value tile, Value slice,
             int64_t slices, size_t sums,
             const std::function<void(Value block, Value dot, Value item, Values &totals)> &add) {
  const FormatInfo &info = weights.info;
  const int64_t dots = blockInputs / weights.dotInputs;
  Values zeros(sums, k.f32Const(0));
  return k.loop(
      slice, k.idx(paddedCols / blockInputs), slices, zeros, [&](Value i, ValueRange before) {
        Value block = k.add(k.add(tile, info.rowHeaderBytes / 4), k.mul(i, info.blockBytes / 4));
        return k.loop(k.idx(0), k.idx(dots), 1, before, [&](Value dot, ValueRange carried) {
          Values totals(carried);
          add(block, dot, k.add(k.mul(i, dots), dot), totals);
          return totals;
        });
      });
}

/// Dot products of one output row with the rows of a block of activations.
class LinearDots {
public:
  LinearDots(GpuBuilder &k, ActivationWords &x, const WeightWords &weights)
      : k(k), x(x), weights(weights), halves(weights.dotInputs == groupInputs / 2) {}

  /// The exact sum of weight * code from `planes`, the sums of weight code * activation code of
  /// each plane. `zero`: zeroPoint() or null; `item`: which dot product of the row; `lane`: which
  /// row.
  Value total(ValueRange planes, Value zero, Value item, Value lane) {
    Value sum = planes[0];
    if (planes.size() == 2)
      sum = k.iadd(k.imul(sum, k.i32Const(highFactor)), planes[1]);
    // Offsets are -128 times the sum of the activation codes.
    auto offset = [&] { return x.word(sumOffset(), item, lane); };
    if (zero)
      sum = k.iadd(sum, k.imul(zero, k.shrArith(offset(), 7)));
    else if (weights.info.grid == Grid::Symmetric && !weights.signedBytes)
      sum = k.iadd(sum, k.shrArith(offset(), 8 - weights.info.bits));
    return sum;
  }

  /// Adds a dot product (as float) to the row's sum A.
  void addScaled(Value &a, Value dot, Value scale, Value item, Value lane) {
    if (!x.layout.quantized) {
      a = scale ? k.fma(scale, dot, a) : k.fadd(a, dot);
      return;
    }
    Value xs = x.number(x.layout.scaleOffset, halves ? k.div(item, 2) : item, lane);
    const bool coded = weights.info.scales == ScaleStorage::Code;
    a = scale && !coded ? k.fma(dot, k.fmul(scale, xs), a)
                        : k.fma(scale ? k.fmul(dot, scale) : dot, xs, a);
  }

  /// Adds to the row's sum B, of asymmetric formats.
  void addMinimum(Value &b, Value minimum, Value item, Value lane) {
    const int64_t scaled = halves ? x.layout.halfScaledSumOffset : x.layout.scaledSumOffset;
    b = k.fma(minimum, x.number(x.layout.quantized ? scaled : sumOffset(), item, lane), b);
  }

private:
  GpuBuilder &k;
  ActivationWords &x;
  const WeightWords &weights;
  const bool halves;

  int64_t sumOffset() const { return halves ? x.layout.halfSumOffset : x.layout.sumOffset; }
};

} // namespace smelt
