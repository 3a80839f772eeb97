// Quantize: float rows -> activations (layout.h).
//
// Operands: p0 float in [.][inStride], p1 activations out, p2 int32 LogitRows when gatherRows
// (input row r = LogitRows[r]).
//
// INT8: scale = amax / 127, q = roundEven(x * (127 / amax)) with amax = max |x| over the group of
// 32 (a8g32) or the row (a8t). An amax below 2^-100 counts as zero: its reciprocal would overflow.
#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/rows.h"

using namespace mlir;

namespace smelt {

namespace {

/// The same bytes seen as another element type.
Buffer viewAs(KernelBuilder &k, Buffer bytes, Type elementType) {
  int64_t size = cast<MemRefType>(bytes.memref.getType()).getDimSize(0);
  auto type = MemRefType::get({size / (elementType.getIntOrFloatBitWidth() / 8)}, elementType);
  return {memref::ViewOp::create(k.b, type, bytes.memref, k.idx(0), ValueRange{})};
}

/// Item `i` of an interleaved array of 4-byte elements at byte `offset` of the block.
Value place(KernelBuilder &k, const ActivationLayout &layout, Value block, int64_t offset, Value i,
            Value row) {
  Value first = k.add(k.div(block, 4), offset / 4);
  return k.add(k.add(first, k.mul(i, layout.interleave)), row);
}

void writeCodes(KernelBuilder &k, Buffer out, const ActivationLayout &layout, Value block,
                Value row, Value group, Value low, Value high, Value inverse, Value scale) {
  auto code = [&](Value x) { return k.toInt(k.roundEven(k.fmul(x, k.splat(inverse)))); };
  Value lowCodes = code(low), highCodes = code(high);
  Value sum =
      vector::ReductionOp::create(k.b, vector::CombiningKind::ADD, k.iadd(lowCodes, highCodes));
  Value bytes = k.concat(k.narrow(lowCodes, k.i8), k.narrow(highCodes, k.i8));
  if (layout.interleave == 1) {
    k.storeVector(out, k.add(block, k.mul(group, groupInputs)), bytes);
  } else {
    Value quads = k.bitcast(bytes, k.vec(groupInputs / 4, k.i32));
    Buffer words = viewAs(k, out, k.i32);
    Value first = place(k, layout, block, 0, k.mul(group, groupInputs / 4), row);
    for (int64_t i = 0; i < groupInputs / 4; ++i)
      k.store(words, k.add(first, i * layout.interleave), k.lane(quads, i));
  }
  Buffer floats = viewAs(k, out, k.f32);
  k.store(floats, place(k, layout, block, layout.scaleOffset, group, row), scale);
  k.store(viewAs(k, out, k.i32), place(k, layout, block, layout.sumOffset, group, row), sum);
  k.store(floats, place(k, layout, block, layout.scaledSumOffset, group, row),
          k.fmul(scale, k.toFloat(sum)));
}

void writeFloats(KernelBuilder &k, Buffer out, const ActivationLayout &layout, Value block,
                 Value row, Value group, Value low, Value high) {
  Buffer floats = viewAs(k, out, k.f32);
  Value first = place(k, layout, block, 0, k.mul(group, groupInputs), row);
  Value sum = k.f32Const(0);
  for (int64_t half = 0; half < 2; ++half) {
    Value v = half ? high : low;
    if (layout.interleave == 1)
      k.storeVector(floats, k.add(first, half * lanes), v);
    for (int64_t i = 0; i < lanes; ++i) {
      Value x = k.lane(v, i);
      sum = k.fadd(sum, x);
      if (layout.interleave != 1)
        k.store(floats, k.add(first, (half * lanes + i) * layout.interleave), x);
    }
  }
  k.store(floats, place(k, layout, block, layout.sumOffset, group, row), sum);
}

} // namespace

std::pair<Value, Value> quantizationScale(KernelBuilder &k, Value amax) {
  Value enough = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, amax, k.f32Const(0x1p-100));
  Value zero = k.f32Const(0), most = k.f32Const(127);
  return {k.select(enough, k.fdiv(amax, most), zero), k.select(enough, k.fdiv(most, amax), zero)};
}

void emitQuantizeGroup(KernelBuilder &k, Buffer out, const ActivationLayout &layout, Value block,
                       Value row, Value group, Value low, Value high, Value inverse, Value scale) {
  if (!layout.quantized)
    return writeFloats(k, out, layout, block, row, group, low, high);
  if (!inverse)
    std::tie(scale, inverse) = quantizationScale(k, k.reduceMax(k.fmax(k.fabs(low), k.fabs(high))));
  writeCodes(k, out, layout, block, row, group, low, high, inverse, scale);
}

void emitActivationRow(KernelBuilder &k, Buffer out, Value row, Value begin, Value end,
                       const std::function<Value(Value, int64_t)> &input) {
  const ActivationLayout layout = activationLayout(k.spec.activation, k.spec.cols, k.spec.one);
  Value inverse, scale;
  if (k.spec.activation == ActivationFormat::A8T) {
    Value most = foldColumns(
        k, k.spec.cols,
        [&](Value acc, Value column, int64_t n) { return k.fmax(k.fabs(input(column, n)), acc); },
        [&](Value a, Value c) { return k.fmax(a, c); });
    std::tie(scale, inverse) = quantizationScale(k, k.reduceMax(most));
  }
  Value block = k.mul(k.div(row, layout.interleave), layout.blockBytes);
  Value rowInBlock = k.rem(row, layout.interleave);
  forUnits(k, k.spec.cols, groupInputs, layout.groups, begin, end, [&](Value column, int64_t n) {
    emitQuantizeGroup(k, out, layout, block, rowInBlock, k.div(column, groupInputs),
                      input(column, n), input(k.add(column, lanes), n - lanes), inverse, scale);
  });
}

void emitQuantize(KernelBuilder &k) {
  Buffer in = k.operand(0, k.f32), out = k.operand(1, k.i8);
  const int64_t groups = activationLayout(k.spec.activation, k.spec.cols, k.spec.one).groups;
  forRows(k, groups, [&](Value row, Value begin, Value end) {
    Value first = k.mul(sourceRow(k, 2, row), k.spec.inStride);
    emitActivationRow(k, out, row, begin, end, [&](Value column, int64_t n) {
      return loadFirst(k, in, k.add(first, column), n);
    });
  });
}

} // namespace smelt
