// Embed: rows of a packed table -> float rows.
//
// Operands: p0 packed table [rows=vocabulary, cols] (formats.h), p1 int32 tokens, or places of rows
// (positions of a table of positions, types from `firstIndex` on), p2 float out [.][outStride]. Row
// `firstRow` + token is read.
//
// Each element is decoded as unpackTile does and then multiplied by the spec's scalar where that is
// not 1. A token outside the table (which the runtime refuses) reads the nearest row.
#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/weight_block.h"

using namespace mlir;

namespace smelt {

namespace {

/// Decodes one row: tile row / 16, lane row % 16.
class TableRow {
public:
  TableRow(KernelBuilder &k, Value row)
      : k(k), info(formatInfo(k.spec.format)), bytes(k.operand(0, k.i8)),
        words(k.operand(0, k.i32)), halves(k.operand(0, k.f16)), floats(k.operand(0, k.f32)) {
    tile = k.mul(k.div(row, tileRows), tileBytes(k.spec.format, k.spec.cols));
    lane = k.rem(row, tileRows);
    if (info.scales == ScaleStorage::Row)
      rowScale = k.load(floats, k.add(k.div(tile, 4), lane));
    if (info.scales == ScaleStorage::Code)
      rowScale = rowFactor(0);
    if (info.grid == Grid::Asymmetric)
      rowMinimum = rowFactor(1);
  }

  /// Calls `write(column, vector, n)` for block i; `cols` of its 64 columns exist. Vectors may pass
  /// the row's end: n of their elements exist.
  void decode(Value i, int64_t cols, const std::function<void(Value, Value, int64_t)> &write) {
    Value block = k.add(k.add(tile, info.rowHeaderBytes), k.mul(i, info.blockBytes));
    for (int64_t first = 0; first < cols; first += perRun()) {
      if (info.group && first % info.group == 0)
        loadGroupScale(block, first / info.group);
      write(k.add(k.mul(i, blockInputs), first), value(block, first),
            std::min(perRun(), cols - first));
    }
  }

private:
  KernelBuilder &k;
  const FormatInfo &info;
  Buffer bytes, words, halves, floats;
  Value tile, lane, rowScale, rowMinimum, groupScale, groupMinimum, groupZero;

  /// A bfloat16 factor of the row as float.
  Value rowFactor(int64_t i) {
    Value at = k.add(k.add(k.div(tile, 2), i * tileRows), lane);
    return k.fromBfloat16(k.load(k.operand(0, k.i16), at));
  }

  /// Inputs decoded together: those that share a dword of a line.
  int64_t perRun() const { return info.bits == 32 ? 1 : info.bits == 8 ? 4 : 8; }

  Value headerByte(Value block, int64_t offset) {
    return k.load(bytes, k.add(k.add(block, offset), lane));
  }

  void loadGroupScale(Value block, int64_t group) {
    const int64_t at = group * tileRows, all = blockInputs / info.group * tileRows;
    switch (info.scales) {
    case ScaleStorage::None:
    case ScaleStorage::Row:
      return;
    case ScaleStorage::Half:
      groupScale = k.extend(k.load(halves, k.add(k.add(k.div(block, 2), at), lane)));
      return;
    case ScaleStorage::Float:
      groupScale = k.load(floats, k.add(k.add(k.div(block, 4), at), lane));
      groupZero = k.zeroExtend(headerByte(block, 4 * all + at), k.i32);
      return;
    case ScaleStorage::Code:
      Value code = headerByte(block, at);
      groupScale = k.toFloat(info.grid == Grid::Table ? k.signExtend(code, k.i32)
                                                      : k.zeroExtend(code, k.i32));
      if (info.grid == Grid::Asymmetric)
        groupMinimum =
            k.fneg(k.fmul(rowMinimum, k.toFloat(k.zeroExtend(headerByte(block, all + at), k.i32))));
    }
  }

  /// The dword of the row in line `line` of the block, counted after its header.
  Value lineWord(Value block, int64_t line) {
    return k.load(words,
                  k.add(k.add(k.div(block, 4), info.blockHeaderBytes / 4 + line * lanes), lane));
  }

  /// The codes of a run of inputs as int32.
  Value runCodes(Value block, int64_t first) {
    auto asBytes = [&](Value word) { return k.bitcast(k.splat(word, 1), k.vec(4, k.i8)); };
    if (info.bits == 8)
      return k.zeroExtend(asBytes(lineWord(block, first / 4)), k.i32);
    auto both = [&](Value low, Value high) { return k.concat(asBytes(low), asBytes(high)); };
    Value word = lineWord(block, info.highBytes / 64 + first / 8);
    Value nibbles = both(word, k.shrLogic(word, 4)), bits;
    const int64_t count = info.bits - 4;
    int64_t place = 0; // of the run's high bits in each byte
    if (count) {
      const int64_t runsPerLine = 4 / count, run = first / 8;
      bits = lineWord(block, run / runsPerLine);
      place = run % runsPerLine * 2 * count;
    }
    if (info.grid == Grid::Table) {
      auto twice = [&](Value eight) { return k.concat(eight, eight); };
      auto moved = [&](int64_t found) {
        const int64_t wanted = fifthBit(k, lanes);
        return wanted >= found ? k.shl(bits, wanted - found) : k.shrLogic(bits, found - wanted);
      };
      Value fifth;
      if (bits)
        fifth = twice(both(moved(place), moved(place + 1)));
      Value values = lookUpTable(k, info, twice(nibbles), fifth, ByteForm::Signed);
      return k.signExtend(k.slice(values, 0, 8), k.i32);
    }
    Value codes = k.zeroExtend(k.iand(nibbles, splatByte(k, 0x0f, 8)), k.i32);
    if (!bits)
      return codes;
    Value high = both(k.shrLogic(bits, place), k.shrLogic(bits, place + count));
    high = k.zeroExtend(k.iand(high, splatByte(k, (1 << count) - 1, 8)), k.i32);
    return k.ior(codes, k.shl(high, 4));
  }

  /// The values of the run at `first`, as unpackTile gives them.
  Value value(Value block, int64_t first) {
    if (info.grid == Grid::Float)
      return k.splat(k.load(floats, k.add(k.add(k.div(block, 4), first * tileRows), lane)), 1);
    const int64_t n = perRun();
    Value codes = runCodes(block, first);
    if (info.grid == Grid::Symmetric)
      codes = k.isub(codes, k.splatI(1 << (info.bits - 1), n));
    if (info.grid == Grid::Given)
      codes = k.isub(codes, k.splat(groupZero, n));
    Value scaled = k.toFloat(codes);
    if (groupScale)
      scaled = k.fmul(k.splat(groupScale, n), scaled);
    if (info.grid == Grid::Asymmetric)
      return k.fma(k.splat(rowScale, n), scaled, k.splat(groupMinimum, n));
    return rowScale ? k.fmul(k.splat(rowScale, n), scaled) : scaled;
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
