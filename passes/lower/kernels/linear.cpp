// Linear: activations x packed weights -> float rows, for every weight format, activation precision
// and target.
//
// Operands: p0 activations (layout.h), p1 packed weights (formats.h), p2 bias float[rows] or null,
// p3 float out [.][outStride].
//
// One tile is 16 output rows in 16 lanes, so a row's sum never crosses lanes. For each group of 32
// inputs, in order:
//   D = sum over the group of code * x   (INT8 activations: exact integers; float activations: fma
//   in input order from 0)
// and with xs = the activations' scale, S = their group sum:
//   INT8   s8c   A = fma(D - 128 S, xs, A)           y = A * scale
//          s4g32 A = fma(D - 8 S, scale * xs, A)     y = A
//          a4g32 A = fma(D * sc, xs, A), B = fma(mn, xs * S, B)      y = fma(ds, A, -(dm * B))
//          k*g32 A = fma(D - zero S, scale * xs, A) y = A
//   float  f32   A = A + D                           y = A
//          s8c   A = A + D   (code - 128 is subtracted before the product)   y = A * scale
//          s4g32 A = fma(scale, D, A)  (likewise - 8)                        y = A
//          k*g32 A = fma(scale, D, A)  (likewise - zero)                     y = A
//          a4g32 A = fma(sc, D, A), B = fma(mn, S, B)                        y = fma(ds, A, -(dm *
//          B))
// D * sc is exact: 15 * 127 * 32 * 255 < 2^24. The result does not depend on the number of rows
// computed together.
#include "passes/lower/kernels/builder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace smelt {

namespace {

/// Calls an LLVM intrinsic by name.
Value intrinsic(KernelBuilder &k, StringRef name, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, result, k.b.getStringAttr(name), operands).getResult(0);
}

/// The exact sum over one group of code * x for 16 rows, as each target multiplies bytes best.
class GroupDot {
public:
  /// `signedCodes`: codes need the full byte (s8c); they come offset by 128. Else they are nibbles
  /// 0..15.
  GroupDot(KernelBuilder &k, bool signedCodes) : k(k), wide(signedCodes) {
    auto zero = [&](int64_t n, Type t) -> Value {
      auto type = k.vec(n, t);
      return arith::ConstantOp::create(k.b, type, k.b.getZeroAttr(type));
    };
    switch (k.target.dot) {
    case DotKind::Vnni512:
      sums = {k.splatI(0)};
      break;
    case DotKind::Maddubs256:
      sums.assign(2, wide ? zero(8, k.i32) : zero(16, k.b.getI16Type()));
      break;
    case DotKind::Sdot128:
      sums.assign(4, zero(4, k.i32));
      break;
    }
  }

  /// Adds codes [16 rows x 4 inputs] (64 bytes) times the four bytes of `x` (int32 scalar).
  void add(Value codes, Value x) {
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
      break;
    case DotKind::Sdot128:
      for (int64_t quarter = 0; quarter < 4; ++quarter)
        sums[quarter] = intrinsic(k, "llvm.aarch64.neon.sdot", k.vec(4, k.i32),
                                  {sums[quarter], k.slice(codes, 16 * quarter, 16),
                                   k.bitcast(k.splat(x, 4), k.vec(16, k.i8))});
      break;
    }
  }

  /// The sums as int32 of 16 rows; for wide codes of code - 128 where `correction` is 128 * the
  /// group's sum of x.
  Value finish(Value correction) {
    Value total = combine();
    // Only unsigned dots see the offset; the others took it off the code.
    if (wide && k.target.dot == DotKind::Vnni512)
      total = k.isub(total, correction);
    return total;
  }

private:
  void addMaddubs(int64_t half, Value codes, Value x) {
    auto words = k.vec(16, k.b.getI16Type());
    if (!wide) { // 8 products of 15 * 127 * 2 stay below 2^15
      sums[half] = k.iadd(sums[half], intrinsic(k, "llvm.x86.avx2.pmadd.ub.sw", words, {codes, x}));
      return;
    }
    // |q| x (sign of q) keeps the byte product within 2 * 127 * 127 < 2^15.
    Value q = k.ixor(codes, splatByte(0x80, 32));
    Value magnitude = math::AbsIOp::create(k.b, q);
    auto bytes = k.vec(32, k.i8);
    Value isNegative =
        arith::CmpIOp::create(k.b, arith::CmpIPredicate::slt, q,
                              arith::ConstantOp::create(k.b, bytes, k.b.getZeroAttr(bytes)));
    Value negated = k.isub(arith::ConstantOp::create(k.b, bytes, k.b.getZeroAttr(bytes)), x);
    Value turned = k.select(isNegative, negated, x);
    Value pairs = intrinsic(k, "llvm.x86.avx2.pmadd.ub.sw", words, {magnitude, turned});
    sums[half] = k.iadd(sums[half], addPairs(pairs));
  }
  Value addPairs(Value words) {
    auto type = k.vec(16, k.b.getI16Type());
    Value ones =
        arith::ConstantOp::create(k.b, DenseElementsAttr::get(type, k.b.getI16IntegerAttr(1)));
    return intrinsic(k, "llvm.x86.avx2.pmadd.wd", k.vec(8, k.i32), {words, ones});
  }
  Value splatByte(int64_t value, int64_t n) {
    return arith::ConstantOp::create(
        k.b, DenseElementsAttr::get(k.vec(n, k.i8), k.b.getI8IntegerAttr(int8_t(value))));
  }
  Value combine() {
    switch (k.target.dot) {
    case DotKind::Vnni512:
      return sums[0];
    case DotKind::Maddubs256:
      return wide ? k.concat(sums[0], sums[1]) : k.concat(addPairs(sums[0]), addPairs(sums[1]));
    case DotKind::Sdot128:
      return k.concat(k.concat(sums[0], sums[1]), k.concat(sums[2], sums[3]));
    }
    return {};
  }

  KernelBuilder &k;
  bool wide;
  Values sums;
};

/// Emits the product of one tile with `rows` activation rows kept in registers.
class TileProduct {
public:
  TileProduct(KernelBuilder &k)
      : k(k), format(k.spec.format), info(formatInfo(k.spec.format)),
        layout(activationLayout(k.spec.activation, k.spec.cols, k.spec.one)),
        asymmetric(info.grid == Grid::Asymmetric), given(info.grid == Grid::Given),
        bytes(k.operand(1, k.i8)), floats(k.operand(1, k.f32)), codes(k.operand(0, k.i32)),
        activations(k.operand(0, k.f32)) {}

  /// y[row] (vector of 16 outputs) for rows [firstRow, firstRow + count) of the activation block at
  /// byte `block`; `tile` is the byte offset of the packed tile.
  Values emit(Value tile, Value block, Value firstRow, int64_t count) {
    Values sums(count, k.splatF(0));
    if (asymmetric)
      sums.append(count, k.splatF(0));
    Value blocks = k.idx(layout.paddedCols / blockInputs);
    Value first = k.add(tile, info.rowHeaderBytes);
    sums = k.loop(k.idx(0), blocks, 1, sums, [&](Value i, ValueRange carried) {
      Values next(carried);
      Value at = k.add(first, k.mul(i, info.blockBytes));
      emitBlock(at, block, firstRow, k.mul(i, 2), count, next);
      return next;
    });
    return finish(tile, sums, count);
  }

private:
  KernelBuilder &k;
  WeightFormat format;
  const FormatInfo &info;
  ActivationLayout layout;
  bool asymmetric, given;
  Buffer bytes, floats, codes, activations;

  Value line(Value at, int64_t offset) { return k.loadVector(bytes, k.add(at, offset), 64, 64); }
  Value masked(Value bytes64, int64_t mask) {
    Value words = k.bitcast(bytes64, k.vec(16, k.i32));
    int64_t word = mask | mask << 8 | mask << 16 | mask << 24;
    return k.bitcast(k.iand(words, k.splatI(word)), k.vec(64, k.i8));
  }
  /// High nibbles as bytes 0..15.
  Value highNibbles(Value bytes64) {
    Value words = k.bitcast(bytes64, k.vec(16, k.i32));
    return masked(k.bitcast(k.shrLogic(words, 4), k.vec(64, k.i8)), 0x0f);
  }
  /// Index (in 4-byte elements) of item `i` of an interleaved array at byte `offset` of the block,
  /// for one row.
  Value place(Value block, int64_t offset, Value i, Value row) {
    Value words = k.add(k.div(block, 4), offset / 4);
    return k.add(k.add(words, k.mul(i, layout.interleave)), row);
  }
  Value rowAt(Value firstRow, int64_t r) { return k.add(firstRow, r); }

  /// The two groups of a block.
  void emitBlock(Value at, Value block, Value firstRow, Value group, int64_t count, Values &sums) {
    Value header = info.blockHeaderBytes && !given ? line(at, 0) : Value();
    for (int64_t j = 0; j < 2; ++j) {
      Value g = k.add(group, j);
      Value zero = given ? zeroPoints(at, j) : Value();
      Values dots = layout.quantized ? integerDots(at, j, block, firstRow, g, count, zero)
                                     : floatDots(at, j, block, firstRow, g, count, zero);
      accumulate(at, header, j, block, firstRow, g, count, dots, sums);
    }
  }

  /// The zero points of group `j` of the block as int32 of 16 rows.
  Value zeroPoints(Value at, int64_t j) {
    return k.zeroExtend(k.loadVector(bytes, k.add(at, 128 + j * tileRows), lanes, 16), k.i32);
  }

  /// D (- offset * S) as float vectors, INT8 activations.
  Values integerDots(Value at, int64_t j, Value block, Value firstRow, Value group, int64_t count,
                     Value zero) {
    const bool wide = info.bits == 8;
    SmallVector<GroupDot> dots;
    for (int64_t r = 0; r < count; ++r)
      dots.emplace_back(k, wide);
    Value firstQuad = k.mul(group, groupInputs / 4);
    auto addQuad = [&](Value weightBytes, int64_t quad) {
      for (int64_t r = 0; r < count; ++r)
        dots[r].add(weightBytes,
                    k.load(codes, place(block, 0, k.add(firstQuad, quad), rowAt(firstRow, r))));
    };
    if (wide) {
      for (int64_t s = 0; s < 8; ++s) {
        Value weightBytes = line(at, info.blockHeaderBytes + (8 * j + s) * 64);
        if (k.target.dot == DotKind::Sdot128) // signed dot: take the offset off the code
          weightBytes = k.ixor(weightBytes, splatBytes(0x80));
        addQuad(weightBytes, s);
      }
    } else {
      for (int64_t s = 0; s < 4; ++s) {
        Value packed = line(at, info.blockHeaderBytes + (4 * j + s) * 64);
        addQuad(masked(packed, 0x0f), 2 * s);
        addQuad(highNibbles(packed), 2 * s + 1);
      }
    }
    Values result;
    for (int64_t r = 0; r < count; ++r) {
      auto sum = [&] {
        return k.splat(k.load(codes, place(block, layout.sumOffset, group, rowAt(firstRow, r))));
      };
      Value total =
          dots[r].finish(wide && k.target.dot == DotKind::Vnni512 ? k.shl(sum(), 7) : Value());
      if (format == WeightFormat::S4G32)
        total = k.isub(total, k.shl(sum(), 3));
      if (zero) // wide sums are of code - 128
        total = k.isub(total, k.imul(wide ? k.isub(zero, k.splatI(128)) : zero, sum()));
      result.push_back(k.toFloat(total));
    }
    return result;
  }

  Value splatBytes(int64_t value) {
    return arith::ConstantOp::create(
        k.b, DenseElementsAttr::get(k.vec(64, k.i8), k.b.getI8IntegerAttr(int8_t(value))));
  }

  /// The weights of input `i` (0..7) of a run of 8 inputs as 16 floats, without group scale;
  /// `words` are the run's lines.
  Value weightColumn(Buffer floatRun, Value runStart, const Values &words, int64_t i, Value zero) {
    if (format == WeightFormat::F32)
      return k.loadVector(floatRun, k.add(runStart, i * lanes), lanes, 64);
    const int64_t inputsPerLine = info.bits == 8 ? 4 : 8;
    int64_t shift = info.bits == 8 ? 8 * (i % 4) : 8 * (i % 4) + (i < 4 ? 0 : 4);
    Value word = words[i / inputsPerLine];
    Value code = k.iand(shift ? k.shrLogic(word, shift) : word, k.splatI((1 << info.bits) - 1));
    if (!asymmetric)
      code = k.isub(code, zero ? zero : k.splatI(1 << (info.bits - 1)));
    return k.toFloat(code);
  }

  /// D as float vectors, float activations; a loop over runs of 8 inputs keeps the code small.
  Values floatDots(Value at, int64_t j, Value block, Value firstRow, Value group, int64_t count,
                   Value zero) {
    constexpr int64_t run = 8;
    const int64_t runBytes = run * tileRows * info.bits / 8;
    Value firstInput = k.mul(group, groupInputs);
    Value codesAt = k.add(at, info.blockHeaderBytes + j * groupInputs / run * runBytes);
    Values zeros(count, k.splatF(0));
    return k.loop(k.idx(0), k.idx(groupInputs / run), 1, zeros, [&](Value r, ValueRange carried) {
      Values dots(carried);
      Value runAt = k.add(codesAt, k.mul(r, runBytes));
      Values words;
      for (int64_t l = 0; format != WeightFormat::F32 && l < runBytes / 64; ++l)
        words.push_back(k.bitcast(line(runAt, l * 64), k.vec(16, k.i32)));
      for (int64_t i = 0; i < run; ++i) {
        Value w = weightColumn(floats, k.div(runAt, 4), words, i, zero);
        Value input = k.add(k.add(firstInput, k.mul(r, run)), i);
        for (int64_t row = 0; row < count; ++row) {
          Value x = k.load(activations, place(block, 0, input, rowAt(firstRow, row)));
          dots[row] = k.fma(w, k.splat(x), dots[row]);
        }
      }
      return dots;
    });
  }

  /// Unsigned bytes 16 i .. of the header line as floats.
  Value headerBytes(Value header, int64_t i) {
    return k.toFloat(k.zeroExtend(k.slice(header, 16 * i, 16), k.i32));
  }

  void accumulate(Value at, Value header, int64_t j, Value block, Value firstRow, Value group,
                  int64_t count, const Values &dots, Values &sums) {
    Value scale, minimum;
    if (format == WeightFormat::S4G32)
      scale = k.extend(k.slice(k.bitcast(header, k.vec(32, k.f16)), 16 * j, 16));
    if (given)
      scale = k.loadVector(floats, k.add(k.div(at, 4), j * lanes), lanes, 64);
    if (asymmetric) {
      scale = headerBytes(header, j);
      minimum = headerBytes(header, 2 + j);
    }
    auto perRow = [&](int64_t offset, int64_t r) {
      return k.splat(k.load(activations, place(block, offset, group, rowAt(firstRow, r))));
    };
    for (int64_t r = 0; r < count; ++r) {
      Value &a = sums[r];
      if (layout.quantized) {
        Value xs = perRow(layout.scaleOffset, r);
        if (scale && !asymmetric)
          a = k.fma(dots[r], k.fmul(scale, xs), a);
        else
          a = k.fma(asymmetric ? k.fmul(dots[r], scale) : dots[r], xs, a);
      } else {
        a = scale ? k.fma(scale, dots[r], a) : k.fadd(a, dots[r]);
      }
      if (asymmetric) {
        Value &m = sums[count + r];
        m = k.fma(minimum, perRow(layout.quantized ? layout.scaledSumOffset : layout.sumOffset, r),
                  m);
      }
    }
  }

  /// The bfloat16 factors of 16 rows as floats.
  Value rowFactor(Value tile, int64_t i) {
    return k.fromBfloat16(
        k.loadVector(k.operand(1, k.i16), k.add(k.div(tile, 2), i * lanes), lanes, 32));
  }

  Values finish(Value tile, const Values &sums, int64_t count) {
    Value scale, minimum;
    if (info.scales == ScaleStorage::Row)
      scale = k.loadVector(floats, k.div(tile, 4), lanes, 64);
    if (asymmetric) {
      scale = rowFactor(tile, 0);
      minimum = rowFactor(tile, 1);
    }
    Values results;
    for (int64_t r = 0; r < count; ++r) {
      Value y = sums[r];
      if (asymmetric)
        y = k.fma(scale, y, k.fneg(k.fmul(minimum, sums[count + r])));
      else if (scale)
        y = k.fmul(y, scale);
      results.push_back(y);
    }
    return results;
  }
};

/// The whole kernel: which tiles and rows this thread computes, and what becomes of the results.
class LinearKernel {
public:
  LinearKernel(KernelBuilder &k)
      : k(k), product(k), out(k.operand(3, k.f32)), bias(k.operand(2, k.f32)),
        gated(k.spec.epilogue == LinearEpilogue::Gated),
        outputTiles(roundUp(k.spec.rows, tileRows) / tileRows),
        oneTile(tileBytes(k.spec.format, k.spec.cols)),
        layout(activationLayout(k.spec.activation, k.spec.cols, k.spec.one)) {}

  void emit() {
    auto [begin, end] = k.threadShare(k.idx(outputTiles));
    if (k.spec.one) {
      k.loop(begin, end, 1, [&](Value tile) { emitTile(tile, k.idx(0), k.idx(0), k.idx(0), 1); });
      return;
    }
    // A panel of tiles stays in the second-level cache while all blocks of rows pass over it.
    const int64_t panel = std::max<int64_t>(1, 128 * 1024 / (oneTile * (gated ? 2 : 1)));
    Value rows = k.rowCount();
    Value rowBlocks = k.ceilDiv(rows, manyInterleave);
    k.loop(begin, end, panel, [&](Value firstTile) {
      Value lastTile = k.min(k.add(firstTile, panel), end);
      k.loop(k.idx(0), rowBlocks, 1, [&](Value rowBlock) {
        Value firstRow = k.mul(rowBlock, manyInterleave);
        Value inBlock = k.min(k.sub(rows, firstRow), k.idx(manyInterleave));
        Value block = k.mul(rowBlock, layout.blockBytes);
        k.loop(firstTile, lastTile, 1,
               [&](Value tile) { emitRowBlock(tile, block, firstRow, inBlock); });
      });
    });
  }

private:
  KernelBuilder &k;
  TileProduct product;
  Buffer out, bias;
  bool gated;
  int64_t outputTiles, oneTile;
  ActivationLayout layout;

  /// Up to 8 rows of one block, as many at a time as the registers hold, the rest by halves.
  void emitRowBlock(Value tile, Value block, Value firstRow, Value inBlock) {
    const int64_t most = k.target.rowBlock;
    Value whole = k.mul(k.div(inBlock, most), most);
    k.loop(k.idx(0), whole, most, [&](Value row) { emitTile(tile, block, firstRow, row, most); });
    Value done = whole;
    for (int64_t count = most / 2; count >= 1; count /= 2) {
      Value fits = k.lessEqual(k.add(done, count), inBlock);
      k.ifThen(fits, [&] { emitTile(tile, block, firstRow, done, count); });
      done = k.select(fits, k.add(done, count), done);
    }
  }

  /// `row` is the first row within the block, firstRow + row within the batch.
  void emitTile(Value tile, Value block, Value firstRow, Value row, int64_t count) {
    Values results;
    if (gated) {
      Value at = k.mul(tile, 2 * oneTile);
      Values gate = product.emit(at, block, row, count);
      Values up = product.emit(k.add(at, oneTile), block, row, count);
      for (int64_t r = 0; r < count; ++r)
        results.push_back(k.fmul(k.activate(k.spec.activationKind, gate[r]), up[r]));
    } else {
      results = product.emit(k.mul(tile, oneTile), block, row, count);
    }
    Value column = k.mul(tile, tileRows);
    for (int64_t r = 0; r < count; ++r)
      storeRow(column, k.add(k.add(firstRow, row), r), results[r]);
  }

  void storeRow(Value column, Value row, Value y) {
    Value at = k.add(k.mul(row, k.spec.outStride), column);
    auto write = [&](auto load, auto store) {
      if (k.spec.bias)
        y = k.fadd(y, load(bias, column));
      if (k.spec.epilogue == LinearEpilogue::AddTo)
        y = k.fadd(load(out, at), y);
      store(at, y);
    };
    if (k.spec.rows % tileRows == 0) {
      write([&](Buffer m, Value i) { return k.loadVector(m, i); },
            [&](Value i, Value v) { k.storeVector(out, i, v); });
      return;
    }
    Value count = k.min(k.sub(k.idx(k.spec.rows), column), k.idx(tileRows));
    write([&](Buffer m, Value i) { return k.loadPartial(m, i, count); },
          [&](Value i, Value v) { k.storePartial(out, i, v, count); });
  }
};

} // namespace

void emitLinear(KernelBuilder &k) { LinearKernel(k).emit(); }

} // namespace smelt
