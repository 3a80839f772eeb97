// What scores become on a GPU, the same for one thread a position and for tiles: formulas of
// kernels/attention_block.h.
#pragma once

#include "passes/lower/gpu_kernels/builder.h"
#include "passes/lower/kernels/attention_block.h"
#include "passes/lower/kernels/formulas.h"

#include <limits>
#include <numbers>

namespace smelt {

/// How a group of a query becomes bytes; `most`: its largest magnitude.
struct QueryScale {
  Value scale, inverse;
  Value codeOf(GpuBuilder &k, Value x) const {
    return k.toInt(limited(k, k.roundEven(k.fmul(x, inverse)), mostCode));
  }
};
inline QueryScale queryScale(GpuBuilder &k, Value most) {
  Value scale = k.fdiv(most, k.f32Const(mostCode));
  return {scale, inverseOf(k, scale)};
}

/// Of a position of 8-bit values.
struct ValueScale {
  Value log, inverse;
};
inline ValueScale valueScale(GpuBuilder &k, Value scale) {
  Value z = k.fmax(scale, k.f32Const(leastScale));
  return {k.coarseLog2(z), k.fdiv(k.f32Const(1), z)};
}

/// Of a score of at most `most`. `scale`: of the position, null where values are not bytes.
inline Value weightOf(GpuBuilder &k, Value score, Value most, const ValueScale *scale) {
  Value v = k.fsub(score, most);
  return scale ? k.coarseExp2OfNegative(v, mostWeight) : k.exp2OfNegative(v);
}

/// Of a weight of 8-bit values: 0 .. mostWeight.
inline Value weightCode(GpuBuilder &k, Value weight) {
  Value rounded = k.toInt(k.roundEven(k.fsub(weight, k.f32Const(double(weightOffset)))));
  return k.iadd(rounded, k.i32Const(weightOffset));
}

/// As a power of two. `slope`: null where the spec has none.
inline Value finishedScore(GpuBuilder &k, Value score, Value t, Value position, Value slope) {
  constexpr double log2e = std::numbers::log2e;
  const double cap = k.spec.softcap;
  Value s = k.fmul(score, k.f32Const(k.spec.scalar * (cap != 0 ? 1 / cap : log2e)));
  if (cap != 0)
    s = k.fmul(k.tanh(s), k.f32Const(cap * log2e));
  if (slope) {
    Value distance = mlir::arith::IndexCastOp::create(k.b, k.i32, k.sub(t, position));
    s = k.fma(k.fmul(slope, k.f32Const(log2e)), k.toFloat(distance), s);
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
  Value keep = k.exp2OfNegative(k.fsub(before.most, after.most));
  Value take = k.exp2OfNegative(k.fsub(block.most, after.most));
  after.sum = k.fma(before.sum, keep, k.fmul(block.sum, take));
  for (auto [o, part] : llvm::zip(before.out, block.out))
    after.out.push_back(k.fma(o, keep, k.fmul(part, take)));
  return after;
}

} // namespace smelt
