// Quantize: float rows -> activations (layout.h).
//
// With an activation function, of its values. Operands: p0 float in [.][inStride], p1 activations
// out, p2 int32 LogitRows when gatherRows (input row r = LogitRows[r]).
//
// INT8: scale = amax / 127, q = roundEven(x * (127 / amax)) with amax = max |x| over the group of
// 32 (a8g32) or 64 (a8g64) or the row (a8t). INT16 (a16g32): the same with 32512 = 255 * 127 + 127,
// the largest code of two planes. An amax below 2^-100 counts as zero: its reciprocal would
// overflow.
#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/group_dot.h"
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

/// Where a row lies: its block's byte, its place among the block's rows, and how many lie side by
/// side.
struct RowPlace {
  Value block, lane, width;
};

/// Item `i` of an interleaved array of 4-byte elements at byte `offset` of the block.
Value place(KernelBuilder &k, const RowPlace &row, int64_t offset, Value i) {
  Value first = k.add(k.div(row.block, 4), offset / 4);
  return k.add(k.add(first, k.mul(i, row.width)), row.lane);
}

/// The byte in the first plane where the codes of a row's group begin if its block is of tiles.
Value tileRow(KernelBuilder &k, const ActivationLayout &layout, const RowPlace &row, Value group) {
  constexpr int64_t groups = blockInputs / groupInputs;
  Value line = k.add(k.mul(k.div(group, groups), layout.interleave), row.lane);
  Value inLine = k.mul(k.rem(group, groups), groupInputs);
  return k.add(row.block, k.add(k.mul(line, blockInputs), inLine));
}

/// interleaveOf(): rows side by side in a block of `inBlock` rows.
Value widthOf(KernelBuilder &k, Value inBlock) {
  Value width = k.idx(manyInterleave);
  for (int64_t fits = manyInterleave / 2; fits >= 1; fits /= 2)
    width = k.select(k.lessEqual(inBlock, k.idx(fits)), k.idx(fits), width);
  return width;
}

/// Codes of 16 inputs as int32.
Value codesOf(KernelBuilder &k, Value x, Value inverse) {
  return k.toInt(k.roundEven(k.fmul(x, k.splat(inverse))));
}

/// The planes of INT8 or INT16 codes (vectors of int32), high one first: code = highFactor * high +
/// low with high = code / highFactor to nearest. The float quotient is off by less than 2^-16 while
/// a tie is 1/510 away, so low is within +-127 exactly.
Values planesOf(KernelBuilder &k, const ActivationLayout &layout, Value codes) {
  if (layout.planes == 1)
    return {codes};
  Value high = k.toInt(k.roundEven(k.fmul(k.toFloat(codes), k.splatF(1.0 / highFactor))));
  return {high, k.isub(codes, k.imul(high, k.splatI(highFactor)))};
}

/// The bytes of 32 inputs of each plane.
Values planeBytes(KernelBuilder &k, const ActivationLayout &layout, Value low, Value high) {
  Values bytes;
  for (auto [a, b] : llvm::zip(planesOf(k, layout, low), planesOf(k, layout, high)))
    bytes.push_back(k.concat(k.narrow(a, k.i8), k.narrow(b, k.i8)));
  return bytes;
}

void writeCodes(KernelBuilder &k, Buffer out, const ActivationLayout &layout, const RowPlace &row,
                Value group, Value low, Value high, Value inverse, Value scale) {
  Value codes[2] = {codesOf(k, low, inverse), codesOf(k, high, inverse)};
  Buffer words = viewAs(k, out, k.i32), floats = viewAs(k, out, k.f32);
  for (auto [plane, bytes] : llvm::enumerate(planeBytes(k, layout, codes[0], codes[1]))) {
    const int64_t start = int64_t(plane) * layout.planeBytes;
    if (layout.interleave == 1) {
      k.storeVector(out, k.add(k.add(row.block, start), k.mul(group, groupInputs)), bytes);
      continue;
    }
    auto writeInterleaved = [&] {
      Value quads = k.bitcast(bytes, k.vec(groupInputs / 4, k.i32));
      Value first = place(k, row, start, k.mul(group, groupInputs / 4));
      for (int64_t i = 0; i < groupInputs / 4; ++i)
        k.store(words, k.add(first, k.mul(row.width, i)), k.lane(quads, i));
    };
    if (!layout.tiles) {
      writeInterleaved();
      continue;
    }
    k.ifElse(
        k.less(row.width, k.idx(layout.interleave)), {},
        [&]() -> Values {
          writeInterleaved();
          return {};
        },
        [&]() -> Values {
          k.storeVector(out, k.add(tileRow(k, layout, row, group), start), bytes);
          return {};
        });
  }
  k.store(floats, place(k, row, layout.scaleOffset, group), scale);
  auto writeSums = [&](int64_t offset, int64_t scaled, Value item, Value sum) {
    k.store(words, place(k, row, offset, item), k.imul(sum, k.i32Const(-128)));
    k.store(floats, place(k, row, scaled, item), k.fmul(scale, k.toFloat(sum)));
  };
  Value sums[2];
  for (int64_t half = 0; half < 2; ++half) {
    sums[half] = vector::ReductionOp::create(k.b, vector::CombiningKind::ADD, codes[half]);
    writeSums(layout.halfSumOffset, layout.halfScaledSumOffset, k.add(k.mul(group, 2), half),
              sums[half]);
  }
  writeSums(layout.sumOffset, layout.scaledSumOffset, group, k.iadd(sums[0], sums[1]));
}

void writeFloats(KernelBuilder &k, Buffer out, const ActivationLayout &layout, const RowPlace &row,
                 Value group, Value low, Value high) {
  Buffer floats = viewAs(k, out, k.f32);
  Value first = place(k, row, 0, k.mul(group, groupInputs));
  Value sum = k.f32Const(0);
  for (int64_t half = 0; half < 2; ++half) {
    Value v = half ? high : low, halfSum = k.f32Const(0);
    if (layout.interleave == 1)
      k.storeVector(floats, k.add(first, half * lanes), v);
    for (int64_t i = 0; i < lanes; ++i) {
      Value x = k.lane(v, i);
      sum = k.fadd(sum, x);
      halfSum = k.fadd(halfSum, x);
      if (layout.interleave != 1)
        k.store(floats, k.add(first, k.mul(row.width, half * lanes + i)), x);
    }
    k.store(floats, place(k, row, layout.halfSumOffset, k.add(k.mul(group, 2), half)), halfSum);
  }
  k.store(floats, place(k, row, layout.sumOffset, group), sum);
}

/// amax / most and most / amax with the largest code, both 0 where amax <= 2^-100; of a scalar or
/// of every lane.
std::pair<Value, Value> quantizationScale(KernelBuilder &k, ActivationFormat format, Value amax) {
  Value least = k.constantLike(amax, 0x1p-100), zero = k.constantLike(amax, 0);
  Value enough = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, amax, least);
  Value most = k.constantLike(amax, double(activationInfo(format).largestCode()));
  return {k.select(enough, k.fdiv(amax, most), zero), k.select(enough, k.fdiv(most, amax), zero)};
}

/// The largest of all lanes' magnitudes, lane by lane.
Value largestOf(KernelBuilder &k, ArrayRef<Value> x) {
  Value most = k.fabs(x[0]);
  for (Value v : x.drop_front())
    most = k.fmax(most, k.fabs(v));
  return most;
}

/// Groups from `group` on of one row, `x` in vectors of 16; `inverse` and `scale` are the row's for
/// a8t, else null.
void writeGroups(KernelBuilder &k, Buffer out, ActivationFormat format,
                 const ActivationLayout &layout, const RowPlace &row, Value group,
                 ArrayRef<Value> x, Value inverse, Value scale) {
  if (layout.quantized && !inverse)
    std::tie(scale, inverse) = quantizationScale(k, format, k.reduceMax(largestOf(k, x)));
  for (size_t i = 0; i < x.size(); i += 2, group = k.add(group, 1))
    if (layout.quantized)
      writeCodes(k, out, layout, row, group, x[i], x[i + 1], inverse, scale);
    else
      writeFloats(k, out, layout, row, group, x[i], x[i + 1]);
}

/// Columns [column, column + width) in vectors of 16, of which n exist.
Values columnsOf(KernelBuilder &k, const ColumnSource &input, Value column, int64_t width,
                 int64_t n) {
  Values x;
  for (int64_t i = 0; i < width; i += lanes)
    x.push_back(input(k.add(column, i), n - i));
  return x;
}

/// Of scaleInputs, in a row.
int64_t unitsOf(const ActivationLayout &layout) { return layout.paddedCols / layout.scaleInputs; }

/// Scale and inverse of a whole row.
std::pair<Value, Value> rowScale(KernelBuilder &k, const ColumnSource &input) {
  Value most = foldColumns(
      k, k.spec.cols,
      [&](Value acc, Value column, int64_t n) { return k.fmax(k.fabs(input(column, n)), acc); },
      [&](Value a, Value c) { return k.fmax(a, c); });
  return quantizationScale(k, k.spec.activation, k.reduceMax(most));
}

/// Units [begin, end) of scaleInputs of one row; `width` rows of its block lie side by side.
void writeRow(KernelBuilder &k, Buffer out, Value row, Value width, Value begin, Value end,
              const ColumnSource &input) {
  const ActivationLayout layout = k.activations();
  Value inverse, scale;
  if (k.spec.activation == ActivationFormat::A8T)
    std::tie(scale, inverse) = rowScale(k, input);
  const RowPlace at{k.mul(k.div(row, layout.interleave), layout.blockBytes),
                    k.rem(row, layout.interleave), width};
  forUnits(k, k.spec.cols, layout.scaleInputs, unitsOf(layout), begin, end,
           [&](Value column, int64_t n) {
             writeGroups(k, out, k.spec.activation, layout, at, k.div(column, groupInputs),
                         columnsOf(k, input, column, layout.scaleInputs, n), inverse, scale);
           });
}

Value shuffle(KernelBuilder &k, Value a, Value c, ArrayRef<int64_t> mask) {
  return vector::ShuffleOp::create(k.b, a, c, mask);
}

/// Eight vectors of 16 lanes -> one of 8, lane r the combination of vector r's lanes. `combine`
/// must not care about the order.
Value reduceRows(KernelBuilder &k, Values rows, const std::function<Value(Value, Value)> &combine) {
  // Every vector is segments of `segment` lanes, one per row; each round halves them and joins two
  // vectors.
  for (int64_t segment = lanes; segment > 1; segment /= 2) {
    SmallVector<int64_t> low, high;
    const int64_t total = rows.size() > 1 ? 2 * lanes : lanes;
    for (int64_t first = 0; first < total; first += segment)
      for (int64_t i = 0; i < segment / 2; ++i) {
        low.push_back(first + i);
        high.push_back(first + segment / 2 + i);
      }
    Values next;
    for (size_t i = 0; i < rows.size(); i += 2) {
      Value a = rows[i], c = rows[rows.size() > 1 ? i + 1 : i];
      next.push_back(combine(shuffle(k, a, c, low), shuffle(k, a, c, high)));
    }
    rows = next;
  }
  return rows[0];
}

/// Eight vectors of 8 dwords -> the transposed eight.
Values transpose8(KernelBuilder &k, Values rows) {
  // Pairs of dwords, of quadwords, of halves; each step works within what the next one exchanges.
  auto step = [&](int64_t distance, ArrayRef<int64_t> low, ArrayRef<int64_t> high) {
    Values next(8);
    for (int64_t i = 0; i < 8; ++i)
      if (!(i & distance)) {
        next[i] = shuffle(k, rows[i], rows[i + distance], low);
        next[i + distance] = shuffle(k, rows[i], rows[i + distance], high);
      }
    rows = next;
  };
  step(1, {0, 8, 2, 10, 4, 12, 6, 14}, {1, 9, 3, 11, 5, 13, 7, 15});
  step(2, {0, 1, 8, 9, 4, 5, 12, 13}, {2, 3, 10, 11, 6, 7, 14, 15});
  step(4, {0, 1, 2, 3, 8, 9, 10, 11}, {4, 5, 6, 7, 12, 13, 14, 15});
  return rows;
}

/// Stores one plane of a group of eight rows; returns it as [quads of inputs][8 rows].
Values writeCodes(KernelBuilder &k, Buffer out, const ActivationLayout &layout, const RowPlace &all,
                  Value group, int64_t plane, const Values &codes) {
  constexpr int64_t rows = manyInterleave;
  Values quads;
  for (Value bytes : codes)
    quads.push_back(k.bitcast(bytes, k.vec(groupInputs / 4, k.i32)));
  quads = transpose8(k, quads);
  if (layout.tiles) {
    Value first = k.add(tileRow(k, layout, all, group), plane * layout.planeBytes);
    for (int64_t r = 0; r < rows; ++r)
      k.storeVector(out, k.add(first, r * blockInputs), codes[r], groupInputs);
    return quads;
  }
  Value first = place(k, all, plane * layout.planeBytes, k.mul(group, groupInputs / 4));
  for (auto [i, quad] : llvm::enumerate(quads))
    k.storeVector(viewAs(k, out, k.i32), k.add(first, int64_t(i) * rows), quad, rows * 4);
  return quads;
}

/// Sums of the codes of [8 quads of inputs][8 rows]: the 8 rows of the first half of the inputs,
/// then those of the second.
Value halfSums(KernelBuilder &k, const Values &quads) {
  constexpr int32_t ones = 0x01010101;
  GroupDot sum(k, Value());
  const size_t half = quads.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    Value codes = k.bitcast(k.concat(quads[i], quads[half + i]), k.vec(4 * lanes, k.i8));
    if (GroupDot::signedForm(k) == ByteForm::Offset)
      sum.addUnsigned(codes, k.i32Const(ones));
    else
      sum.add(codes, k.i32Const(ones));
  }
  return sum.finish();
}

/// Units [begin, end) of a block of eight rows as INT8 or INT16: the same codes as row by row, with
/// the exchange of rows and columns in registers.
void writeBlock(KernelBuilder &k, Buffer out, Value rowBlock, Value begin, Value end,
                ArrayRef<ColumnSource> inputs) {
  const ActivationLayout layout = k.activations();
  constexpr int64_t rows = manyInterleave;
  Buffer words = viewAs(k, out, k.i32), floats = viewAs(k, out, k.f32);
  Value none = k.idx(0);
  const RowPlace all{k.mul(rowBlock, layout.blockBytes), none, k.idx(rows)};
  Value wholeScale, wholeInverse;
  if (k.spec.activation == ActivationFormat::A8T) {
    Values scales, inverses;
    for (const ColumnSource &input : inputs) {
      auto [scale, inverse] = rowScale(k, input);
      scales.push_back(scale);
      inverses.push_back(inverse);
    }
    wholeScale = vector::FromElementsOp::create(k.b, k.vec(rows, k.f32), scales);
    wholeInverse = vector::FromElementsOp::create(k.b, k.vec(rows, k.f32), inverses);
  }
  auto writeSums = [&](int64_t offset, int64_t scaled, Value item, Value sum, Value scale) {
    const int64_t n = cast<VectorType>(sum.getType()).getNumElements();
    k.storeVector(words, place(k, all, offset, item), k.imul(sum, k.splatI(-128, n)));
    k.storeVector(floats, place(k, all, scaled, item), k.fmul(scale, k.toFloat(sum)));
  };
  auto writeOne = [&](Value group, ArrayRef<Value> low, ArrayRef<Value> high, Value inverse,
                      Value scale) {
    SmallVector<Values> codes(layout.planes); // [planes][rows]
    for (int64_t r = 0; r < rows; ++r) {
      Value factor = k.lane(inverse, r);
      Value first = codesOf(k, low[r], factor), second = codesOf(k, high[r], factor);
      for (auto [plane, bytes] : llvm::enumerate(planeBytes(k, layout, first, second)))
        codes[plane].push_back(bytes);
    }
    Value halves; // [2][rows]
    for (int64_t plane = 0; plane < layout.planes; ++plane) {
      Value sums = halfSums(k, writeCodes(k, out, layout, all, group, plane, codes[plane]));
      halves = halves ? k.iadd(k.imul(halves, k.splatI(highFactor)), sums) : sums;
    }
    k.storeVector(floats, place(k, all, layout.scaleOffset, group), scale);
    writeSums(layout.halfSumOffset, layout.halfScaledSumOffset, k.mul(group, 2), halves,
              k.concat(scale, scale));
    writeSums(layout.sumOffset, layout.scaledSumOffset, group,
              k.iadd(k.slice(halves, 0, rows), k.slice(halves, rows, rows)), scale);
  };
  forUnits(k, k.spec.cols, layout.scaleInputs, unitsOf(layout), begin, end,
           [&](Value column, int64_t n) {
             Value scale = wholeScale, inverse = wholeInverse;
             SmallVector<Values> x(layout.scaleInputs / lanes); // [vectors][rows]
             Values most;
             for (const ColumnSource &input : inputs) {
               const Values row = columnsOf(k, input, column, layout.scaleInputs, n);
               most.push_back(scale ? Value() : largestOf(k, row));
               for (auto [vectors, v] : llvm::zip(x, row))
                 vectors.push_back(v);
             }
             if (!scale) {
               Value amax = reduceRows(k, most, [&](Value a, Value c) { return k.fmax(a, c); });
               std::tie(scale, inverse) = quantizationScale(k, k.spec.activation, amax);
             }
             Value group = k.div(column, groupInputs);
             for (size_t i = 0; i < x.size(); i += 2, group = k.add(group, 1))
               writeOne(group, x[i], x[i + 1], inverse, scale);
           });
}

} // namespace

void emitActivations(KernelBuilder &k, Buffer out,
                     const std::function<ColumnSource(Value row)> &open) {
  const ActivationLayout layout = k.activations();
  Value rows = k.rowCount();
  if (k.spec.ownCopy)
    return writeRow(k, out, copyOfThread(k), k.idx(1), k.idx(0), k.idx(unitsOf(layout)),
                    open(k.idx(0)));
  if (k.spec.one || !layout.quantized) {
    forRows(k, rows, unitsOf(layout), [&](Value row, Value begin, Value end) {
      Value firstOfBlock = k.sub(row, k.rem(row, layout.interleave));
      Value width = k.spec.one ? k.idx(1) : widthOf(k, k.sub(rows, firstOfBlock));
      writeRow(k, out, row, width, begin, end, open(row));
    });
    return;
  }
  // The last block of eight rows may be short: what lies beside its rows repeats the last one, for
  // it is multiplied too.
  Value last = k.sub(rows, k.idx(1));
  forRows(k, k.ceilDiv(rows, manyInterleave), unitsOf(layout),
          [&](Value rowBlock, Value begin, Value end) {
            Value first = k.mul(rowBlock, manyInterleave);
            k.ifElse(
                k.less(k.add(first, manyInterleave / 2), rows), {},
                [&]() -> Values {
                  SmallVector<ColumnSource> inputs;
                  for (int64_t r = 0; r < manyInterleave; ++r)
                    inputs.push_back(open(k.min(k.add(first, r), last)));
                  writeBlock(k, out, rowBlock, begin, end, inputs);
                  return {};
                },
                [&]() -> Values {
                  Value width = widthOf(k, k.sub(rows, first));
                  k.loop(k.idx(0), width, 1, [&](Value lane) {
                    Value row = k.add(first, lane);
                    writeRow(k, out, row, width, begin, end, open(k.min(row, last)));
                  });
                  return {};
                });
          });
}

void writeResults(KernelBuilder &k, Buffer out, int64_t cols, Value column, ArrayRef<Value> x) {
  const RowPlace only{k.idx(0), k.idx(0), k.idx(1)};
  writeGroups(k, out, *k.spec.result, activationLayout(*k.spec.result, cols, true), only,
              k.div(column, groupInputs), x, {}, {});
}

void emitQuantize(KernelBuilder &k) {
  Buffer in = k.operand(0, k.f32), out = k.operand(1, k.i8);
  emitActivations(k, out, [&](Value row) -> ColumnSource {
    Value first = k.mul(sourceRow(k, 2, row), k.spec.inStride);
    return [&k, in, first](Value column, int64_t n) {
      Value x = loadFirst(k, in, k.add(first, column), n);
      return n > 0 && k.spec.activationKind ? k.activate(k.spec.activationKind, x) : x;
    };
  });
}

} // namespace smelt
