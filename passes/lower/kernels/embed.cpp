// Embed: rows of a packed table -> float rows.
//
// Operands: p0 packed table [rows=vocabulary, cols] (formats.h), p1 int32 tokens, or places of rows
// (positions of a table of positions, types from `firstIndex` on), p2 float out [.][outStride]. Row
// `firstRow` + token is read.
//
// Each element is decoded as unpackTile does and then multiplied by the spec's scalar where that is
// not 1. A token outside the table (which the runtime refuses) reads the nearest row.
#include "passes/lower/kernels/columns.h"

using namespace mlir;

namespace smelt {

namespace {

/// Decodes one row: tile row / 16, lane row % 16.
class TableRow {
public:
  TableRow(KernelBuilder &k, Value row)
      : k(k), format(k.spec.format), info(formatInfo(format)), bytes(k.operand(0, k.i8)),
        words(k.operand(0, k.i32)), halves(k.operand(0, k.f16)), floats(k.operand(0, k.f32)) {
    tile = k.mul(k.div(row, tileRows), tileBytes(format, k.spec.cols));
    lane = k.rem(row, tileRows);
    if (info.scales == ScaleStorage::Row)
      rowScale = k.load(floats, k.add(k.div(tile, 4), lane));
    if (info.scales == ScaleStorage::Code)
      rowScale = rowFactor(0);
    if (info.grid == Grid::Asymmetric)
      rowMinimum = rowFactor(1);
  }

  /// Calls `write(column, vector)` for block i; `cols` of its 64 columns exist. Vectors may pass
  /// the row's end.
  void decode(Value i, int64_t cols, const std::function<void(Value, Value, int64_t)> &write) {
    Value block = k.add(k.add(tile, info.rowHeaderBytes), k.mul(i, info.blockBytes));
    for (int64_t group = 0; group * groupInputs < cols; ++group) {
      loadGroupScale(block, group);
      for (int64_t first = group * groupInputs;
           first < (group + 1) * groupInputs && first < cols;) {
        Value column = k.add(k.mul(i, blockInputs), first);
        int64_t n = std::min<int64_t>(perWord(), cols - first);
        decodeWord(block, first, column, n, write);
        first += perWord();
      }
    }
  }

private:
  KernelBuilder &k;
  WeightFormat format;
  const FormatInfo &info;
  Buffer bytes, words, halves, floats;
  Value tile, lane, rowScale, rowMinimum, groupScale, groupMinimum, groupZero;

  /// A bfloat16 factor of the row as float.
  Value rowFactor(int64_t i) {
    Value at = k.add(k.add(k.div(tile, 2), i * tileRows), lane);
    return k.fromBfloat16(k.load(k.operand(0, k.i16), at));
  }

  int64_t perWord() const { return 32 / info.bits; }

  Value headerByte(Value block, int64_t offset) {
    Value byte = k.load(bytes, k.add(k.add(block, offset), lane));
    return k.toFloat(k.zeroExtend(byte, k.i32));
  }

  void loadGroupScale(Value block, int64_t group) {
    if (format == WeightFormat::S4G32) {
      Value at = k.add(k.add(k.div(block, 2), group * tileRows), lane);
      groupScale = k.extend(k.load(halves, at));
    } else if (info.grid == Grid::Given) {
      groupScale = k.load(floats, k.add(k.add(k.div(block, 4), group * tileRows), lane));
      groupZero =
          k.zeroExtend(k.load(bytes, k.add(k.add(block, 128 + group * tileRows), lane)), k.i32);
    } else if (info.grid == Grid::Asymmetric) {
      groupScale = headerByte(block, group * tileRows);
      groupMinimum = k.fneg(k.fmul(rowMinimum, headerByte(block, 2 * tileRows + group * tileRows)));
    }
  }

  /// The inputs that share one dword of a line: 1 (f32), 4 (8 bits) or 4 low nibbles and 4 high
  /// ones.
  void decodeWord(Value block, int64_t first, Value column, int64_t n,
                  const std::function<void(Value, Value, int64_t)> &write) {
    Value line =
        k.add(k.add(k.div(block, 4), (info.blockHeaderBytes + first / perWord() * 64) / 4), lane);
    if (format == WeightFormat::F32) {
      write(column, k.splat(k.load(floats, line), 1), 1);
      return;
    }
    Value quad = k.bitcast(k.splat(k.load(words, line), 1), k.vec(4, k.i8));
    Value codes = k.zeroExtend(quad, k.i32);
    if (info.bits == 8) {
      write(column, value(codes), n);
      return;
    }
    write(column, value(k.iand(codes, k.splatI(0x0f, 4))), std::min<int64_t>(n, 4));
    if (n > 4)
      write(k.add(column, 4), value(k.shrLogic(codes, 4)), n - 4);
  }

  /// Four codes as floats.
  Value value(Value codes) {
    switch (format) {
    case WeightFormat::S8C:
      return k.fmul(k.splat(rowScale, 4), k.toFloat(k.isub(codes, k.splatI(128, 4))));
    case WeightFormat::S4G32:
      return k.fmul(k.splat(groupScale, 4), k.toFloat(k.isub(codes, k.splatI(8, 4))));
    case WeightFormat::K4G32:
    case WeightFormat::K8G32:
      return k.fmul(k.splat(groupScale, 4), k.toFloat(k.isub(codes, k.splat(groupZero, 4))));
    default: // a4g32: ds * (sc * u) - dm * mn
      return k.fma(k.splat(rowScale, 4), k.fmul(k.splat(groupScale, 4), k.toFloat(codes)),
                   k.splat(groupMinimum, 4));
    }
  }
};

} // namespace

void emitEmbed(KernelBuilder &k) {
  const int64_t cols = k.spec.cols, blocks = roundUp(cols, blockInputs) / blockInputs;
  Buffer tokens = k.operand(1, k.i32), out = k.operand(2, k.f32);
  auto [begin, end] = k.threadShare(k.mul(k.rowCount(), blocks));
  k.loop(begin, end, 1, [&](Value item) {
    Value row = k.div(item, blocks), i = k.rem(item, blocks);
    Value token = k.toIndex(k.load(tokens, k.add(row, k.spec.firstIndex)));
    if (k.spec.firstRow)
      token = k.add(token, k.spec.firstRow);
    token = k.min(k.max(token, k.idx(0)), k.idx(k.spec.rows - 1));
    TableRow table(k, token);
    auto write = [&](Value column, Value v, int64_t n) {
      int64_t width = cast<VectorType>(v.getType()).getNumElements();
      if (k.spec.scalar != 1)
        v = k.fmul(v, k.splatF(k.spec.scalar, width));
      Value at = k.add(k.mul(row, k.spec.outStride), column);
      for (Piece piece : pieces(n))
        k.storeVector(out, k.add(at, piece.first), k.slice(v, piece.first, piece.n));
    };
    if (cols % blockInputs == 0) {
      table.decode(i, blockInputs, write);
      return;
    }
    k.ifElse(
        k.less(i, k.idx(cols / blockInputs)), {},
        [&]() -> Values {
          table.decode(i, blockInputs, write);
          return {};
        },
        [&]() -> Values {
          table.decode(i, cols % blockInputs, write);
          return {};
        });
  });
}

} // namespace smelt
