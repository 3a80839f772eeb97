// The exact integer dot product of each CPU target.
#include "passes/lower/kernels/group_dot.h"

using namespace mlir;

namespace smelt {

ByteForm GroupDot::form(const KernelBuilder &k, const WeightReader &weights) {
  if (!weights.signedBytes)
    return ByteForm::Code;
  // Unsigned bytes of 7 bits are multiplied as they are, where others take signs off and on.
  const bool inPairs = k.target.dot == DotKind::Maddubs256 || k.target.dot == DotKind::Maddubs128;
  const bool isTableOf32 = weights.info.grid == Grid::Table && weights.info.bits == 5;
  return inPairs && isTableOf32 ? ByteForm::Raised : signedForm(k);
}

ByteForm GroupDot::signedForm(const KernelBuilder &k) {
  switch (k.target.dot) {
  case DotKind::Vnni512:
  case DotKind::Vnni256:
  case DotKind::Words:
    return ByteForm::Offset;
  default:
    return ByteForm::Signed;
  }
}

GroupDot::GroupDot(KernelBuilder &k, const WeightReader &weights, Value start)
    : GroupDot(k, weights.signedBytes && form(k, weights) != ByteForm::Raised,
               form(k, weights) == ByteForm::Raised ? 7 : weights.info.bits, start) {}

GroupDot::GroupDot(KernelBuilder &k, Value start) : GroupDot(k, true, 8, start) {}

GroupDot::GroupDot(KernelBuilder &k, bool signedBytes, int bits, Value start)
    : k(k), signedBytes(signedBytes), start(start),
      parts(k.target.dot == DotKind::Words ? 1 : 64 / k.target.vectorBytes), sums(parts),
      pairs(parts), most(signedBytes ? 1 : 32767 / (2 * 127 * ((1 << bits) - 1))) {
  if (parts == 1)
    std::swap(sums[0], this->start); // nothing is added at the end
}

/// `part` of 64 bytes, and the four bytes of `x` as often as they meet it, multiplied and added to
/// the int32 of `name`'s first operand; `xFirst`: in the other order.
static Value accumulate(KernelBuilder &k, StringRef name, Value sum, Value codes, Value x,
                        int64_t part, bool xFirst = false) {
  const int64_t width = k.target.vectorBytes;
  Value bytes = k.bitcast(k.splat(x, width / 4), k.vec(width, k.i8));
  Value slice = width == 64 ? codes : k.slice(codes, width * part, width);
  if (xFirst)
    std::swap(bytes, slice);
  return intrinsic(k, name, k.vec(width / 4, k.i32),
                   {sum ? sum : k.splatI(0, width / 4), slice, bytes});
}

/// Unsigned times signed bytes; the narrow one is AVX-VNNI's instruction where there is no AVX-512.
static StringRef vnniName(const KernelTarget &target) {
  return target.dot == DotKind::Vnni512 ? "llvm.x86.avx512.vpdpbusd.512"
                                        : "llvm.x86.avx512.vpdpbusd.256";
}

void GroupDot::add(Value codes, Value x) {
  StringRef name;
  switch (k.target.dot) {
  case DotKind::Vnni512:
  case DotKind::Vnni256:
    name = vnniName(k.target);
    break;
  case DotKind::Smmla128:
  case DotKind::Sdot128:
    name = "llvm.aarch64.neon.sdot";
    break;
  case DotKind::Maddubs256:
  case DotKind::Maddubs128: {
    const int64_t width = k.target.vectorBytes;
    Value bytes = k.bitcast(k.splat(x, width / 4), k.vec(width, k.i8));
    for (int64_t part = 0; part < parts; ++part)
      addMaddubs(part, k.slice(codes, width * part, width), bytes);
    if (++quads == most)
      widen();
    return;
  }
  case DotKind::Smull128:
    for (int64_t part = 0; part < parts; ++part)
      addPairs(part, k.slice(codes, 16 * part, 16), k.bitcast(k.splat(x, 4), k.vec(16, k.i8)));
    return;
  case DotKind::Words:
    addWords(codes, x, true);
    return;
  }
  for (int64_t part = 0; part < parts; ++part)
    sums[part] = accumulate(k, name, sums[part], codes, x, part);
}

void GroupDot::addUnsigned(Value codes, Value x) {
  if (k.target.dot == DotKind::Words)
    return addWords(codes, x, false);
  for (int64_t part = 0; part < parts; ++part)
    sums[part] = accumulate(k, vnniName(k.target), sums[part], codes, x, part, true);
}

void GroupDot::addMaddubs(int64_t part, Value codes, Value x) {
  const bool wide = k.target.dot == DotKind::Maddubs256;
  Type bytes = codes.getType();
  if (signedBytes) { // |q| x (sign of q)
    x = intrinsic(k, wide ? "llvm.x86.avx2.psign.b" : "llvm.x86.ssse3.psign.b.128", bytes,
                  {x, codes});
    codes = math::AbsIOp::create(k.b, codes);
  }
  Value words = intrinsic(k, wide ? "llvm.x86.avx2.pmadd.ub.sw" : "llvm.x86.ssse3.pmadd.ub.sw.128",
                          k.vec(k.target.vectorBytes / 2, k.i16), {codes, x});
  pairs[part] = pairs[part] ? k.iadd(pairs[part], words) : words;
}

/// Adds the int16 sums to those of int32, two words per row.
void GroupDot::widen() {
  const bool wide = k.target.dot == DotKind::Maddubs256;
  auto type = k.vec(k.target.vectorBytes / 2, k.i16);
  Value ones =
      arith::ConstantOp::create(k.b, DenseElementsAttr::get(type, k.b.getI16IntegerAttr(1)));
  for (int64_t part = 0; part < parts; ++part) {
    Value sum = intrinsic(k, wide ? "llvm.x86.avx2.pmadd.wd" : "llvm.x86.sse2.pmadd.wd",
                          k.vec(k.target.vectorBytes / 4, k.i32), {pairs[part], ones});
    sums[part] = sums[part] ? k.iadd(sums[part], sum) : sum;
    pairs[part] = {};
  }
  quads = 0;
}

/// Products of 16 bits, of which two make no more than 2 * 128 * 127, are added in pairs, the pairs
/// in pairs of 32 bits.
void GroupDot::addPairs(int64_t part, Value codes, Value x) {
  auto products = [&](int64_t first) {
    return intrinsic(k, "llvm.aarch64.neon.smull", k.vec(8, k.i16),
                     {k.slice(codes, first, 8), k.slice(x, first, 8)});
  };
  Value pairs = intrinsic(k, "llvm.aarch64.neon.addp", k.vec(8, k.i16), {products(0), products(8)});
  Value sum = intrinsic(k, "llvm.aarch64.neon.saddlp", k.vec(4, k.i32), pairs);
  sums[part] = sums[part] ? k.iadd(sums[part], sum) : sum;
}

/// Each of the four bytes of a row by itself, widened to int32.
void GroupDot::addWords(Value codes, Value x, bool unsignedCodes) {
  Value sum = sums[0] ? sums[0] : k.splatI(0);
  Value rows = k.bitcast(codes, k.vec(lanes, k.i32));
  auto unsignedByte = [&](Value words, int64_t byte) {
    Value shifted = k.shrLogic(words, 8 * byte);
    return k.shrLogic(k.shl(shifted, 24), 24);
  };
  auto signedByte = [&](Value words, int64_t byte) {
    return k.shrArith(k.shl(words, 24 - 8 * byte), 24);
  };
  sums[0] = k.callOnce(unsignedCodes ? "dot" : "dot_signed", {sum, rows, x}, [&](ValueRange in) {
    Value total = in[0];
    for (int64_t byte = 0; byte < 4; ++byte) {
      Value code = unsignedCodes ? unsignedByte(in[1], byte) : signedByte(in[1], byte);
      Value factor = unsignedCodes ? signedByte(in[2], byte) : unsignedByte(in[2], byte);
      total = k.iadd(total, k.imul(code, k.splat(factor)));
    }
    return total;
  });
}

Value GroupDot::finish() {
  if (quads)
    widen();
  Values joined = sums;
  while (joined.size() > 1) {
    for (size_t i = 0; i < joined.size() / 2; ++i)
      joined[i] = k.concat(joined[2 * i], joined[2 * i + 1]);
    joined.resize(joined.size() / 2);
  }
  return start ? k.iadd(joined[0], start) : joined[0];
}

RowPairDot::RowPairDot(KernelBuilder &k) : k(k), sums(lanes / 2, k.splatI(0, 4)) {}

/// Elements of `a` and, behind them, `b`.
static Value pick(KernelBuilder &k, Value a, Value b, ArrayRef<int64_t> elements) {
  return vector::ShuffleOp::create(k.b, a, b, elements);
}

void RowPairDot::add(const std::pair<Value, Value> &run, Value low, Value high) {
  auto bytes = [&](Value words) { return k.bitcast(words, k.vec(16, k.i8)); };
  Value first = k.bitcast(run.first, k.vec(lanes, k.i32));
  Value second = k.bitcast(run.second, k.vec(lanes, k.i32));
  Value x = bytes(pick(k, low, high, {0, 2, 1, 3}));
  for (int64_t i = 0; i < lanes / 2; ++i) {
    Value rows =
        bytes(pick(k, first, second, {2 * i, lanes + 2 * i, 2 * i + 1, lanes + 2 * i + 1}));
    sums[size_t(i)] =
        intrinsic(k, "llvm.aarch64.neon.smmla", k.vec(4, k.i32), {sums[size_t(i)], rows, x});
  }
}

Values RowPairDot::finish() {
  Values totals;
  for (int64_t row = 0; row < 2; ++row) {
    Values fours;
    for (size_t i = 0; i < sums.size(); i += 2)
      fours.push_back(pick(k, sums[i], sums[i + 1], {row, row + 2, row + 4, row + 6}));
    totals.push_back(k.concat(k.concat(fours[0], fours[1]), k.concat(fours[2], fours[3])));
  }
  return totals;
}

} // namespace smelt
