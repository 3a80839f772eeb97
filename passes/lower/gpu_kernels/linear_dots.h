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

/// What becomes of the dot products of one output row with a row of activations.
class DotFormulas {
public:
  DotFormulas(GpuBuilder &k, const ActivationLayout &layout, const WeightWords &weights)
      : layout(layout), k(k), weights(weights), halves(weights.dotInputs == groupInputs / 2) {}

  const ActivationLayout &layout;

  bool isAsymmetric() const { return weights.asymmetric; }
  /// Whether codes stand for less than their number: their dot products want a correction.
  bool areCorrected() const {
    return weights.given || (weights.info.grid == Grid::Symmetric && !weights.signedBytes);
  }
  /// `zero`: zeroPoint() or null; `offset`: -128 times the sum of the activation codes.
  Value correction(Value zero, Value offset) {
    return zero ? k.imul(zero, k.shrArith(offset, 7)) : k.shrArith(offset, 8 - weights.info.bits);
  }
  /// The sum of weight code * activation code from those of each plane.
  Value ofPlanes(ValueRange planes) {
    if (planes.size() == 1)
      return planes[0];
    return k.iadd(k.imul(planes[0], k.i32Const(highFactor)), planes[1]);
  }

  /// Whether a dot product is multiplied by the code of the weights' scale first.
  bool areScalesCodes() const { return weights.info.scales == ScaleStorage::Code; }
  /// Adds a dot product (as float) to the row's sum A; `activationScale`: null of float ones.
  void addScaled(Value &a, Value dot, Value scale, Value activationScale) {
    if (!layout.quantized) {
      a = scale ? k.fma(scale, dot, a) : k.fadd(a, dot);
      return;
    }
    a = scale && !areScalesCodes() ? k.fma(dot, k.fmul(scale, activationScale), a)
                                   : k.fma(scale ? k.fmul(dot, scale) : dot, activationScale, a);
  }

  /// Where the activations' sums of each dot product are: of codes times -128, or of floats; and
  /// what sum B of asymmetric formats adds minimum times.
  int64_t sumOffset() const { return halves ? layout.halfSumOffset : layout.sumOffset; }
  int64_t scaledSumOffset() const {
    if (!layout.quantized)
      return sumOffset();
    return halves ? layout.halfScaledSumOffset : layout.scaledSumOffset;
  }
  /// Of dot product `item` of the row.
  Value scaleItem(Value item) { return halves ? k.div(item, 2) : item; }

protected:
  GpuBuilder &k;
  const WeightWords &weights;
  const bool halves;
};

/// Dot products of one output row with the rows of a block of activations.
class LinearDots : public DotFormulas {
public:
  LinearDots(GpuBuilder &k, ActivationWords &x, const WeightWords &weights)
      : DotFormulas(k, x.layout, weights), x(x) {}

  /// The exact sum of weight * code from `planes`, the sums of weight code * activation code of
  /// each plane. `zero`: zeroPoint() or null; `item`: which dot product of the row; `lane`: which
  /// row.
  Value total(ValueRange planes, Value zero, Value item, Value lane) {
    Value sum = ofPlanes(planes);
    return areCorrected() ? k.iadd(sum, correction(zero, x.word(sumOffset(), item, lane))) : sum;
  }

  /// Adds a dot product (as float) to the row's sum A.
  void addTo(Value &a, Value dot, Value scale, Value item, Value lane) {
    Value own = layout.quantized ? x.number(layout.scaleOffset, scaleItem(item), lane) : Value();
    addScaled(a, dot, scale, own);
  }

  /// Adds a dot product (as float) to the row's sum B, of asymmetric formats.
  void addMinimum(Value &b, Value minimum, Value item, Value lane) {
    b = k.fma(minimum, x.number(scaledSumOffset(), item, lane), b);
  }

private:
  ActivationWords &x;
};

/// What becomes of the sums of output rows.
class LinearResults {
public:
  explicit LinearResults(GpuBuilder &k) : k(k) {}

  /// Of an output row: what its sums A and B are multiplied by, null where nothing is.
  struct Factors {
    Value a, b;
  };
  static Factors factorsOf(WeightWords &weights, Value tile) {
    return {weights.rowScale(tile), weights.asymmetric ? weights.rowMinimum(tile) : Value()};
  }
  Value product(const Factors &factors, Value a, Value b) {
    if (factors.b)
      return k.fma(factors.a, a, k.fneg(k.fmul(factors.b, b)));
    return factors.a ? k.fmul(a, factors.a) : a;
  }
  Value gated(Value gate, Value up) { return k.fmul(k.activate(k.spec.activationKind, gate), up); }

  void store(Value column, Value row, Value y) {
    Value at = k.add(k.mul(row, k.spec.outStride), column);
    Words out = k.operand(3);
    if (k.spec.bias)
      y = k.fadd(y, k.number(k.operand(2), column));
    if (k.spec.epilogue == LinearEpilogue::AddTo)
      y = k.fadd(k.number(out, at), y);
    k.setNumber(out, at, y);
  }

private:
  GpuBuilder &k;
};

} // namespace smelt
