// What scores become on a GPU, the same for one thread a position and for tiles: formulas of
// kernels/attention_block.h, scores times log2(e) aside.
#pragma once

#include "passes/lower/gpu_kernels/builder.h"
#include "passes/lower/kernels/formulas.h"

#include <limits>

namespace smelt {

/// How a group of a query becomes bytes; `most`: its largest magnitude.
struct QueryScale {
  Value scale, inverse;
  Value codeOf(GpuBuilder &k, Value x) const {
    return k.toInt(limited(k, k.roundEven(k.fmul(x, inverse)), 127));
  }
};
inline QueryScale queryScale(GpuBuilder &k, Value most) {
  Value scale = k.fdiv(most, k.f32Const(127));
  return {scale, inverseOf(k, scale)};
}

/// How the weights of a block of 8-bit values, times the values' scales, become bytes; `most`: the
/// largest of them.
struct WeightScale {
  static constexpr int64_t largest = 254, offset = 127;

  WeightScale(GpuBuilder &k, Value most)
      : factor(k.fmul(most, k.f32Const(1.0 / largest))),
        inverse(inverseOf(k, most, double(largest), 1e-30)) {}

  Value factor; ///< of sums of code times code
  Value codeOf(GpuBuilder &k, Value weight) const {
    Value shifted = k.fma(weight, inverse, k.f32Const(-double(offset)));
    return k.iadd(k.toInt(k.roundEven(shifted)), k.i32Const(offset));
  }

private:
  Value inverse;
};

/// `slope`: null where the spec has none.
inline Value finishedScore(GpuBuilder &k, Value score, Value t, Value position, Value slope) {
  Value s = k.fmul(score, k.f32Const(k.spec.scalar));
  if (k.spec.softcap != 0)
    s = k.fmul(k.tanh(k.fmul(s, k.f32Const(1 / k.spec.softcap))), k.f32Const(k.spec.softcap));
  if (slope) {
    Value distance = mlir::arith::IndexCastOp::create(k.b, k.i32, k.sub(t, position));
    s = k.fma(slope, k.toFloat(distance), s);
  }
  return s;
}

inline Value noMaximum(GpuBuilder &k) {
  return k.f32Const(-std::numeric_limits<double>::infinity());
}

/// Running maximum, sum and numbers of one head: kernels/attention.cpp.
struct Running {
  Value most, sum;
  Values out;
};
inline Running merged(GpuBuilder &k, const Running &before, const Running &block) {
  Running after;
  after.most = k.fmax(before.most, block.most);
  Value keep = k.exp(k.fsub(before.most, after.most));
  Value take = k.exp(k.fsub(block.most, after.most));
  after.sum = k.fma(before.sum, keep, k.fmul(block.sum, take));
  for (auto [o, part] : llvm::zip(before.out, block.out))
    after.out.push_back(k.fma(o, keep, k.fmul(part, take)));
  return after;
}

} // namespace smelt
