// Norm: rms or layer norm of float rows -> float rows, residual rows or activations.
//
// Operands: p0 float in [.][inStride], p1 weight float[cols], p2 bias float[cols] or null, p3 out
// (not p0), p4 int32 LogitRows when gatherRows, p5 float rows [outStride] of FloatAndActivation.
// out: Float: rows [outStride]; AddToResidual: out += result; Activation and FloatAndActivation:
// layout.h.
//
//   rms:   y = (x * s) * w,           s = 1 / sqrt(sum(x^2) / cols + epsilon)            (Zhang and
//   Sennrich 2019) layer: y = ((x - m) * s) * w + b, m = sum(x) / cols, s likewise of the
//   deviations x - m   (Ba et al. 2016)
#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/rows.h"

using namespace mlir;

namespace smelt {

namespace {

class NormRow {
public:
  NormRow(KernelBuilder &k, Value first)
      : k(k), in(k.operand(0, k.f32)), weight(k.operand(1, k.f32)), bias(k.operand(2, k.f32)),
        first(first) {
    auto join = [&](Value a, Value c) { return k.fadd(a, c); };
    Value count = k.f32Const(double(k.spec.cols));
    if (k.spec.layerNorm) {
      Value sums = foldColumns(
          k, k.spec.cols,
          [&](Value acc, Value column, int64_t n) { return k.fadd(acc, load(column, n)); }, join);
      mean = k.fdiv(k.reduceAdd(sums), count);
    }
    Value squares = foldColumns(
        k, k.spec.cols,
        [&](Value acc, Value column, int64_t n) {
          Value x = keepFirst(k, centred(column, n), n);
          return k.fma(x, x, acc);
        },
        join);
    Value variance = k.fdiv(k.reduceAdd(squares), count);
    scale = k.fdiv(k.f32Const(1), k.fsqrt(k.fadd(variance, k.f32Const(k.spec.epsilon))));
  }

  /// 16 results from `column` of which n exist; the others are zero.
  Value result(Value column, int64_t n) {
    if (n <= 0)
      return k.splatF(0);
    Value y = k.fmul(centred(column, n), k.splat(scale));
    Value w = loadFirst(k, weight, column, n);
    return k.spec.bias ? k.fma(y, w, loadFirst(k, bias, column, n)) : k.fmul(y, w);
  }

private:
  KernelBuilder &k;
  Buffer in, weight, bias;
  Value first, mean, scale;

  Value load(Value column, int64_t n) { return loadFirst(k, in, k.add(first, column), n); }
  Value centred(Value column, int64_t n) {
    Value x = load(column, n);
    return mean ? k.fsub(x, k.splat(mean)) : x;
  }
};

} // namespace

void emitNorm(KernelBuilder &k) {
  const int64_t cols = k.spec.cols;
  const bool both = k.spec.normOutput == NormOutput::FloatAndActivation;
  if (both || k.spec.normOutput == NormOutput::Activation) {
    Buffer rows = both ? k.operand(5, k.f32) : Buffer();
    emitActivations(k, k.operand(3, k.i8), [&](Value row) -> ColumnSource {
      NormRow norm(k, k.mul(sourceRow(k, 4, row), k.spec.inStride));
      Value first = both ? k.mul(row, k.spec.outStride) : Value();
      return [&k, norm, rows, first](Value column, int64_t n) mutable {
        Value y = norm.result(column, n);
        if (first)
          storeFirst(k, rows, k.add(first, column), y, n);
        return y;
      };
    });
    return;
  }
  Buffer out = k.operand(3, k.f32);
  const int64_t units = roundUp(cols, lanes) / lanes;
  forRows(k, k.rowCount(), units, [&](Value row, Value begin, Value end) {
    NormRow norm(k, k.mul(sourceRow(k, 4, row), k.spec.inStride));
    forUnits(k, cols, lanes, units, begin, end, [&](Value column, int64_t n) {
      Value at = k.add(k.mul(row, k.spec.outStride), column);
      Value y = norm.result(column, n);
      if (k.spec.normOutput == NormOutput::AddToResidual)
        y = k.fadd(loadFirst(k, out, at, n), y);
      storeFirst(k, out, at, y, n);
    });
  });
}

} // namespace smelt
