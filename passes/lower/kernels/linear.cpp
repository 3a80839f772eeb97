// Linear: activations x packed weights -> float rows, for every weight format, activation precision
// and target.
//
// Operands: p0 activations (layout.h), p1 packed weights (formats.h), p2 bias float[rows] or null,
// p3 float out [.][outStride], or activations of spec.result.
//
// One tile is 16 output rows in 16 lanes, so a row's sum never crosses lanes. Inputs are summed in
// dot groups of 32, in formats with groups of 16 of 16, in order. For each:
//   D = sum over the dot group of code * x   (INT8, INT16 activations: exact integers, rounded once
//   to float; float activations: fma in input order from 0)
// where code is, before the product, less 128 in s8c, s8g32 and k8g32, less 8 in s4g32 and the
// table's value in n*g*, and with xs = the activations' scale, S = their sum over the dot group:
//   INT     s8c    A = fma(D, xs, A); a8t: A = (sum of D, rounded once) * xs   y = A * scale
//           s4g32  A = fma(D, scale * xs, A)                 y = A
//           k*g32  A = fma(D - zero S, scale * xs, A)        y = A
//           a*g*   A = fma(D * sc, xs, A), B = fma(mn, xs * S, B)   y = fma(ds, A, -(dm * B))
//           n*g*, s8g32  A = fma(D * sc, xs, A)              y = A * ds
//   a8g64, whose xs is the same for 64 inputs: A = fma(T, xs, A), where T = fma(D, scale or sc, T)
//           (s8c: T + D) over their dot groups, from 0; B as above
//   float   f32, s8c  A = A + D                              y = A, y = A * scale
//           s4g32, k*g32  A = fma(scale, D, A)   (k: code less zero before the product)   y = A
//           a*g*   A = fma(sc, D, A), B = fma(mn, S, B)      y = fma(ds, A, -(dm * B))
//           n*g*, s8g32  A = fma(sc, D, A)                   y = A * ds
// The result does not depend on the number of rows computed together.
#include "passes/lower/kernels/rows.h"
#include "passes/lower/kernels/tile_product.h"

using namespace mlir;

namespace smelt {

namespace {

/// The whole kernel: which tiles and rows this thread computes, and what becomes of the results.
class LinearKernel {
public:
  LinearKernel(KernelBuilder &k)
      : k(k), product(k), out(k.operand(3, k.f32)), bias(k.operand(2, k.f32)),
        gated(k.spec.epilogue == LinearEpilogue::Gated), outputs(k.outputs()),
        outStride(k.outStride()), adds(addsIfShared(k)),
        oneTile(tileBytes(k.spec.format, k.spec.cols)), layout(k.activations()) {}

  void emit() {
    product.begin();
    emitShare();
    product.end();
  }

private:
  KernelBuilder &k;
  TileProduct product;
  Buffer out, bias;
  bool gated;
  Value outputs, outStride;
  Value adds; ///< of a shared kernel: whether results are added to what is there
  int64_t oneTile;
  ActivationLayout layout;

  static Value addsIfShared(KernelBuilder &k) {
    if (!k.spec.shared || k.spec.epilogue != LinearEpilogue::Store)
      return {};
    return k.less(k.idx(0), k.field(FieldAdds));
  }

  void emitShare() {
    if (k.spec.result)
      return emitResultGroups();
    auto [begin, end] = k.threadShare(k.ceilDiv(outputs, tileRows));
    if (k.spec.one) {
      Value block = k.mul(copyOfThread(k), layout.blockBytes);
      k.loop(begin, end, 1,
             [&](Value tile) { emitTile(tile, block, k.idx(0), k.idx(0), k.idx(1), 1, 1, false); });
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

  /// The tiles of what shares a scale at a time, whose results become activations where they are
  /// made.
  void emitResultGroups() {
    const int64_t together = inputsWrittenTogether(*k.spec.result);
    const int64_t tiles = together / tileRows;
    Buffer group = k.scratch(together, k.f32);
    Value block = k.mul(copyOfThread(k), layout.blockBytes);
    auto [begin, end] = k.threadShare(k.idx(k.spec.rows / together));
    k.loop(begin, end, 1, [&](Value item) {
      k.loop(k.idx(0), k.idx(tiles), 1, [&](Value part) {
        Values y = emitResults(k.add(k.mul(item, tiles), part), block, k.idx(0), 1, 1, false);
        k.storeVector(group, k.mul(part, tileRows), y[0]);
      });
      Values x;
      for (int64_t part = 0; part < tiles; ++part)
        x.push_back(k.loadVector(group, k.idx(part * tileRows)));
      writeResults(k, k.operand(3, k.i8), k.spec.rows, k.mul(item, together), x);
    });
  }

  /// The rows of one block, as many at a time as the registers hold: the last few together with
  /// repetitions that are not stored, so that every weight is read once. Six have code of their own
  /// where eight are held: five or six rows are common when drafts are verified.
  void emitRowBlock(Value tile, Value block, Value firstRow, Value inBlock) {
    SmallVector<int64_t> widths{manyInterleave, 4, 2, 1};
    if (k.target.rowBlock == manyInterleave && !product.multipliesBlocks())
      widths.insert(widths.begin() + 1, 6);
    for (auto [i, width] : llvm::enumerate(widths)) {
      const int64_t fewer = i + 1 < widths.size() ? widths[i + 1] : 0;
      Value mine = k.iand(k.less(k.idx(fewer), inBlock), k.lessEqual(inBlock, k.idx(width)));
      const int64_t count = std::min(width, k.target.rowBlock);
      const int64_t interleave = int64_t(llvm::bit_ceil(uint64_t(width)));
      k.ifThen(mine, [&] {
        if (product.decodesOnce(width))
          emitSums(tile, block, inBlock, interleave);
        k.loop(k.idx(0), inBlock, count, [&](Value row) {
          emitTile(tile, block, firstRow, row, inBlock, count, interleave,
                   product.decodesOnce(width));
        });
      });
    }
  }

  int parts() const { return gated ? 2 : 1; }
  /// Byte of the packed tile; those of gate (part 0) and up alternate.
  Value packedTile(Value tile, int part) {
    return k.add(k.mul(tile, parts() * oneTile), part * oneTile);
  }

  void emitSums(Value tile, Value block, Value inBlock, int64_t interleave) {
    for (int part = 0; part < parts(); ++part)
      product.sumBlock(packedTile(tile, part), block, inBlock, interleave, part);
  }

  /// `row` is the first row within the block; `summed`: after emitSums().
  Values emitResults(Value tile, Value block, Value row, int64_t count, int64_t interleave,
                     bool summed) {
    auto rowsOf = [&](int part) {
      Value at = packedTile(tile, part);
      return summed ? product.summed(at, block, row, count, interleave, part)
                    : product.emit(at, block, row, count, interleave);
    };
    Values results = rowsOf(0);
    if (gated) {
      Values up = rowsOf(1);
      for (int64_t r = 0; r < count; ++r)
        results[r] = k.fmul(k.activate(k.spec.activationKind, results[r]), up[r]);
    }
    return results;
  }

  /// The first row is firstRow + row within the batch.
  void emitTile(Value tile, Value block, Value firstRow, Value row, Value inBlock, int64_t count,
                int64_t interleave, bool summed) {
    Values results = emitResults(tile, block, row, count, interleave, summed);
    Value column = k.mul(tile, tileRows);
    for (int64_t r = 0; r < count; ++r) {
      Value inRow = k.add(row, r);
      k.ifThen(k.less(inRow, inBlock),
               [&] { storeRow(column, k.add(firstRow, inRow), results[r]); });
    }
  }

  void storeRow(Value column, Value row, Value y) {
    Value at = k.add(k.mul(row, outStride), column);
    auto write = [&](auto load, auto store) {
      if (k.spec.bias)
        y = k.fadd(y, load(bias, column));
      if (adds)
        y = k.ifElse(
            adds, y.getType(), [&]() -> Values { return {k.fadd(load(out, at), y)}; },
            [&]() -> Values { return {y}; })[0];
      else if (k.spec.epilogue == LinearEpilogue::AddTo)
        y = k.fadd(load(out, at), y);
      store(at, y);
    };
    if (k.spec.rows % tileRows == 0) {
      write([&](Buffer m, Value i) { return k.loadVector(m, i); },
            [&](Value i, Value v) { k.storeVector(out, i, v); });
      return;
    }
    Value count = k.min(k.sub(outputs, column), k.idx(tileRows));
    write([&](Buffer m, Value i) { return k.loadPartial(m, i, count); },
          [&](Value i, Value v) { k.storePartial(out, i, v, count); });
  }
};

} // namespace

void emitLinear(KernelBuilder &k) { LinearKernel(k).emit(); }

} // namespace smelt
