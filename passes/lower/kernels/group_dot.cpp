// The exact integer dot product of each CPU target.
#include "passes/lower/kernels/group_dot.h"

using namespace mlir;

namespace smelt {

ByteForm GroupDot::form(const KernelBuilder &k, const WeightReader &weights) {
  return weights.signedBytes ? signedForm(k) : ByteForm::Code;
}

ByteForm GroupDot::signedForm(const KernelBuilder &k) {
  return k.target.dot == DotKind::Vnni512 ? ByteForm::Offset : ByteForm::Signed;
}

GroupDot::GroupDot(KernelBuilder &k, const WeightReader &weights, Value start)
    : GroupDot(k, weights.signedBytes, weights.info.bits, start, false) {}

GroupDot::GroupDot(KernelBuilder &k, Value start, bool countsUp)
    : GroupDot(k, true, 8, start, countsUp) {}

GroupDot::GroupDot(KernelBuilder &k, bool signedBytes, int bits, Value start, bool countsUp)
    : k(k), signedBytes(signedBytes), countsUp(countsUp), start(start),
      most(signedBytes ? 1 : 32767 / (2 * 127 * ((1 << bits) - 1))) {
  switch (k.target.dot) {
  case DotKind::Vnni512:
    sums = {start ? start : k.splatI(0)};
    break;
  case DotKind::Maddubs256:
    sums.assign(2, {});
    pairs.assign(2, {});
    break;
  case DotKind::Sdot128:
    sums.assign(4, k.splatI(0, 4));
    break;
  }
}

void GroupDot::add(Value codes, Value x) {
  switch (k.target.dot) {
  case DotKind::Vnni512: {
    Value bytes = k.bitcast(k.splat(x), k.vec(64, k.i8));
    sums[0] =
        intrinsic(k, "llvm.x86.avx512.vpdpbusd.512", k.vec(16, k.i32), {sums[0], codes, bytes});
    break;
  }
  case DotKind::Maddubs256:
    for (int64_t half = 0; half < 2; ++half)
      addMaddubs(half, k.slice(codes, 32 * half, 32), k.bitcast(k.splat(x, 8), k.vec(32, k.i8)));
    if (++quads == most)
      widen();
    break;
  case DotKind::Sdot128:
    for (int64_t quarter = 0; quarter < 4; ++quarter)
      sums[quarter] = intrinsic(k, "llvm.aarch64.neon.sdot", k.vec(4, k.i32),
                                {sums[quarter], k.slice(codes, 16 * quarter, 16),
                                 k.bitcast(k.splat(x, 4), k.vec(16, k.i8))});
    break;
  }
}

void GroupDot::addMaddubs(int64_t half, Value codes, Value x) {
  if (countsUp) { // the first factor is unsigned, the second signed
    std::swap(codes, x);
  } else if (signedBytes) { // |q| x (sign of q)
    x = intrinsic(k, "llvm.x86.avx2.psign.b", k.vec(32, k.i8), {x, codes});
    codes = math::AbsIOp::create(k.b, codes);
  }
  Value words = intrinsic(k, "llvm.x86.avx2.pmadd.ub.sw", k.vec(16, k.i16), {codes, x});
  pairs[half] = pairs[half] ? k.iadd(pairs[half], words) : words;
}

/// Adds the int16 sums to those of int32, two words per row.
void GroupDot::widen() {
  auto type = k.vec(16, k.i16);
  Value ones =
      arith::ConstantOp::create(k.b, DenseElementsAttr::get(type, k.b.getI16IntegerAttr(1)));
  for (int64_t half = 0; half < 2; ++half) {
    Value wide = intrinsic(k, "llvm.x86.avx2.pmadd.wd", k.vec(8, k.i32), {pairs[half], ones});
    sums[half] = sums[half] ? k.iadd(sums[half], wide) : wide;
    pairs[half] = {};
  }
  quads = 0;
}

Value GroupDot::finish() {
  Value total;
  switch (k.target.dot) {
  case DotKind::Vnni512:
    return sums[0];
  case DotKind::Maddubs256:
    if (quads)
      widen();
    total = k.concat(sums[0], sums[1]);
    break;
  case DotKind::Sdot128:
    total = k.concat(k.concat(sums[0], sums[1]), k.concat(sums[2], sums[3]));
    break;
  }
  return start ? k.iadd(total, start) : total;
}

} // namespace smelt
