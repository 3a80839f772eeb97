// Formulas that kernels of a CPU and of a GPU share, over scalars or vectors.
#include "passes/lower/kernels/formulas.h"

#include "passes/lower/kernels/layout.h"

using namespace mlir;

namespace smelt {

Value combined(ValueBuilder &k, const KernelSpec &spec, Value x,
               const std::function<Value()> &other) {
  switch (spec.elementwise) {
  case ElementwiseKind::Add:
    return k.fadd(x, other());
  case ElementwiseKind::Mul:
    return k.fmul(x, other());
  case ElementwiseKind::Scale:
    return k.fmul(x, k.constantLike(x, spec.scalar));
  case ElementwiseKind::Softcap: { // cap * tanh(x / cap)
    Value ratio = k.fmul(x, k.constantLike(x, 1 / spec.softcap));
    return k.fmul(k.tanh(ratio), k.constantLike(x, spec.softcap));
  }
  case ElementwiseKind::Activation:
    return k.activate(spec.activationKind, x);
  case ElementwiseKind::Gated:
    return k.fmul(k.activate(spec.activationKind, x), other());
  }
  llvm_unreachable("the enumerators are all above");
}

Value inverseOf(ValueBuilder &k, Value scale, double most, double least) {
  Value some = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, scale, k.f32Const(least));
  return k.select(some, k.fdiv(k.f32Const(most), scale), k.f32Const(0));
}

Value limited(ValueBuilder &k, Value v, double most) {
  return k.fmax(k.fmin(v, k.constantLike(v, most)), k.constantLike(v, -most));
}

PositionRange visiblePositions(ValueBuilder &k, const KernelSpec &spec, Value position,
                               const std::function<Value()> &end) {
  PositionRange range{k.idx(0), position};
  if (spec.bidirectional)
    range.last = end();
  if (spec.window) {
    range.first = k.max(k.sub(position, k.idx(spec.window - 1)), k.idx(0));
    if (spec.bidirectional)
      range.last = k.min(range.last, k.add(position, spec.window - 1));
  }
  return range;
}

Value partialOf(ValueBuilder &k, const KernelSpec &spec, Value queryHead, Value block) {
  const int64_t blocks = roundUp(spec.maxContext, attentionBlock) / attentionBlock;
  return k.mul(k.add(k.mul(queryHead, blocks), block), partialStride(spec.headDim));
}

} // namespace smelt
