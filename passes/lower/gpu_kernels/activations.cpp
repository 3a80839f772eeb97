// Norm and Quantize on a GPU: a workgroup takes a row. Operands and formulas: kernels/norm.cpp,
// kernels/quantize.cpp.
#include "passes/lower/gpu_kernels/activation_words.h"

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t quad = 4; ///< columns of a thread, whose codes are one word
constexpr int64_t quadsOfGroup = groupInputs / quad;

/// amax / most and most / amax with the largest code, both 0 where amax <= 2^-100.
std::pair<Value, Value> quantizationScale(GpuBuilder &k, Value amax) {
  Value enough = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, amax, k.f32Const(0x1p-100));
  Value zero = k.f32Const(0),
        most = k.f32Const(double(activationInfo(k.spec.activation).largestCode()));
  return {k.select(enough, k.fdiv(amax, most), zero), k.select(enough, k.fdiv(most, amax), zero)};
}

/// Four columns of every thread at a time: all threads take part, some of them beyond the row's
/// end.
class RowWriter {
public:
  RowWriter(GpuBuilder &k, Words out, Value row, const ColumnValue &value)
      : k(k), value(value), perBlock(k.spec.one ? 1 : manyInterleave),
        to(k, out, k.div(row, perBlock)), lane(k.rem(row, perBlock)) {}

  void emit() {
    if (k.spec.activation == ActivationFormat::A8T)
      std::tie(rowScale, rowInverse) = quantizationScale(k, rowMaximum());
    const int64_t quads = to.layout.paddedCols / quad;
    const int64_t whole = roundUp(quads, k.launch.threads);
    k.loop(k.idx(0), k.idx(whole), k.launch.threads, [&](Value first) {
      Value at = k.add(first, k.thread());
      isInside = k.less(at, k.idx(quads));
      Values x = columns(at);
      if (to.layout.quantized)
        writeCodes(at, x);
      else
        writeFloats(at, x);
    });
  }

private:
  GpuBuilder &k;
  const ColumnValue &value;
  const int64_t perBlock;
  ActivationWords to;
  Value lane, isInside, rowScale, rowInverse;

  /// Zero beyond the row.
  Values columns(Value at) {
    Values x;
    for (int64_t i = 0; i < quad; ++i) {
      Value column = k.add(k.mul(at, quad), i);
      Value v = value(k.min(column, k.idx(k.spec.cols - 1)));
      x.push_back(k.select(k.less(column, k.idx(k.spec.cols)), v, k.f32Const(0)));
    }
    return x;
  }

  Value larger(Value a, Value c) { return k.fmax(a, c); }
  Value largest(const Values &x) {
    Value most = k.fabs(x[0]);
    for (Value v : llvm::drop_begin(x))
      most = k.fmax(k.fabs(v), most);
    return most;
  }
  Value reduceMax(Value v, int64_t n) {
    return k.reduceOne(v, n, [&](Value a, Value c) { return larger(a, c); });
  }

  Value rowMaximum() {
    const int64_t quads = roundUp(k.spec.cols, quad) / quad;
    Value most = k.loop(k.thread(), k.idx(quads), k.launch.threads, {k.f32Const(0)},
                        [&](Value at, ValueRange carried) -> Values {
                          return {k.fmax(largest(columns(at)), carried[0])};
                        })[0];
    return reduceMax(most, k.launch.threads);
  }

  /// Writes item `i` of an array if this thread is the first of `n` and within the row.
  void writeOf(int64_t n, int64_t offset, Value at, Value v) {
    Value isFirst = k.isEqual(k.rem(k.thread(), n), k.idx(0));
    k.ifThen(k.both(isFirst, isInside), [&] {
      to.setWord(offset, k.div(at, n), lane, v.getType() == k.f32 ? k.asBits(v) : v);
    });
  }

  void writeCodes(Value at, const Values &x) {
    Value scale = rowScale, inverse = rowInverse;
    if (!scale)
      std::tie(scale, inverse) =
          quantizationScale(k, reduceMax(largest(x), to.layout.scaleInputs / quad));
    Values codes, high, low;
    Value sum;
    for (Value v : x) {
      Value code = k.toInt(k.roundEven(k.fmul(v, inverse)));
      sum = sum ? k.iadd(sum, code) : code;
      codes.push_back(code);
      if (to.layout.planes == 1)
        continue;
      Value upper = k.toInt(k.roundEven(k.fmul(k.toFloat(code), k.f32Const(1.0 / highFactor))));
      high.push_back(upper);
      low.push_back(k.isub(code, k.imul(upper, k.i32Const(highFactor))));
    }
    k.ifThen(isInside, [&] {
      to.setWord(0, at, lane, k.packBytes(to.layout.planes == 1 ? codes : high));
      if (to.layout.planes == 2)
        to.setWord(to.layout.planeBytes, at, lane, k.packBytes(low));
    });
    auto add = [&](Value a, Value c) { return k.iadd(a, c); };
    auto writeSums = [&](int64_t n, int64_t offset, int64_t scaled, Value total) {
      writeOf(n, offset, at, k.imul(total, k.i32Const(-128)));
      writeOf(n, scaled, at, k.fmul(scale, k.toFloat(total)));
    };
    Value half = k.reduceOne(sum, quadsOfGroup / 2, add);
    writeSums(quadsOfGroup / 2, to.layout.halfSumOffset, to.layout.halfScaledSumOffset, half);
    Value group = k.reduceOne(sum, quadsOfGroup, add);
    writeSums(quadsOfGroup, to.layout.sumOffset, to.layout.scaledSumOffset, group);
    writeOf(quadsOfGroup, to.layout.scaleOffset, at, scale);
  }

  void writeFloats(Value at, const Values &x) {
    k.ifThen(isInside, [&] {
      for (int64_t i = 0; i < quad; ++i)
        to.setNumber(0, k.add(k.mul(at, quad), i), lane, x[size_t(i)]);
    });
    Value sum = x[0];
    for (Value v : llvm::drop_begin(x))
      sum = k.fadd(sum, v);
    auto add = [&](Value a, Value c) { return k.fadd(a, c); };
    writeOf(quadsOfGroup / 2, to.layout.halfSumOffset, at, k.reduceOne(sum, quadsOfGroup / 2, add));
    writeOf(quadsOfGroup, to.layout.sumOffset, at, k.reduceOne(sum, quadsOfGroup, add));
  }
};

/// The results of the norm of one row.
class NormedRow {
public:
  NormedRow(GpuBuilder &k, Value row)
      : k(k), in(k.operand(0)), weight(k.operand(1)), bias(k.operand(2)),
        first(k.mul(k.sourceRow(4, row), k.spec.inStride)) {
    Value count = k.f32Const(double(k.spec.cols));
    if (k.spec.layerNorm)
      mean = k.fdiv(sum([&](Value acc, Value x) { return k.fadd(acc, x); }), count);
    Value squares = sum([&](Value acc, Value x) { return k.fma(x, x, acc); });
    Value variance = k.fdiv(squares, count);
    scale = k.fdiv(k.f32Const(1), k.fsqrt(k.fadd(variance, k.f32Const(k.spec.epsilon))));
  }

  Value result(Value column) {
    Value y = k.fmul(centred(column), scale), w = k.number(weight, column);
    return k.spec.bias ? k.fma(y, w, k.number(bias, column)) : k.fmul(y, w);
  }

private:
  GpuBuilder &k;
  Words in, weight, bias;
  Value first, mean, scale;

  Value centred(Value column) {
    Value x = k.number(in, k.add(first, column));
    return mean ? k.fsub(x, mean) : x;
  }
  Value sum(const std::function<Value(Value, Value)> &step) {
    Value mine = k.loop(k.thread(), k.idx(k.spec.cols), k.launch.threads, {k.f32Const(0)},
                        [&](Value column, ValueRange carried) -> Values {
                          return {step(carried[0], centred(column))};
                        })[0];
    return k.reduceSum(mine);
  }
};

} // namespace

void writeActivations(GpuBuilder &k, Words out, Value row, const ColumnValue &value) {
  RowWriter(k, out, row, value).emit();
}

void emitGpuNorm(GpuBuilder &k) {
  Value row = k.rowGroup();
  NormedRow norm(k, row);
  Words out = k.operand(3);
  const bool both = k.spec.normOutput == NormOutput::FloatAndActivation;
  if (both || k.spec.normOutput == NormOutput::Activation)
    writeActivations(k, out, row, [&](Value column) { return norm.result(column); });
  if (k.spec.normOutput == NormOutput::Activation)
    return;
  Words rows = both ? k.operand(5) : out;
  k.forItems(k.spec.cols, [&](Value column) {
    Value at = k.add(k.mul(row, k.spec.outStride), column);
    Value y = norm.result(column);
    if (k.spec.normOutput == NormOutput::AddToResidual)
      y = k.fadd(k.number(rows, at), y);
    k.setNumber(rows, at, y);
  });
}

void emitGpuQuantize(GpuBuilder &k) {
  Value row = k.rowGroup(), first = k.mul(k.sourceRow(2, row), k.spec.inStride);
  Words in = k.operand(0);
  writeActivations(k, k.operand(1), row, [&](Value column) {
    Value x = k.number(in, k.add(first, column));
    return k.spec.activationKind ? k.activate(k.spec.activationKind, x) : x;
  });
}

} // namespace smelt
