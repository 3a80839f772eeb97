// Tile products of more rows than the registers hold: of every 64 inputs the weights are decoded
// once, for the rows in turn, whose sums lie in memory meanwhile.
#include "passes/lower/kernels/tile_product.h"

using namespace mlir;

namespace smelt {

/// All codes of a block as dot products take them, to byte `to` of `codes`.
void TileProduct::decodeBlock(Value weightBlock, Value to) {
  const ByteForm form = GroupDot::form(k, weights);
  for (int64_t run = 0; run < blockInputs / 8; ++run) {
    auto [low, high] = weights.run(weightBlock, k.idx(run), form);
    k.storeVector(codes, k.add(to, 2 * run * 64), low, 64);
    k.storeVector(codes, k.add(to, (2 * run + 1) * 64), high, 64);
  }
}

std::pair<Value, Value> TileProduct::decodedRun(Value run) {
  Value first = k.mul(run, 2 * 64);
  return {k.loadVector(codes, first, 64, 64), k.loadVector(codes, k.add(first, 64), 64, 64)};
}

/// A's of the rows, then B's, as emit() has them in registers.
Values TileProduct::loadSums(Value firstRow, int64_t count, int set) {
  Values sums;
  for (int64_t kind = 0; kind < sumsOfRow(); ++kind)
    for (int64_t r = 0; r < count; ++r) {
      Value at = k.mul(k.add(firstRow, kind * manyInterleave + r), lanes);
      sums.push_back(k.loadVector(sumsOf[set], at, lanes, 64));
    }
  return sums;
}

void TileProduct::storeSums(Value firstRow, const Values &sums, int64_t count, int set) {
  for (auto [i, sum] : llvm::enumerate(sums)) {
    const int64_t row = int64_t(i) / count * manyInterleave + int64_t(i) % count;
    k.storeVector(sumsOf[set], k.mul(k.add(firstRow, row), lanes), sum, 64);
  }
}

void TileProduct::sumBlock(Value tile, Value block, Value inBlock, int64_t interleave, int set) {
  const int64_t count = k.target.rowBlock;
  Value none = k.idx(0), first = k.add(tile, weights.info.rowHeaderBytes);
  const Values zeros(count * sumsOfRow(), wholeRows ? k.splatI(0) : k.splatF(0));
  k.loop(none, inBlock, count, [&](Value row) { storeSums(row, zeros, count, set); });
  k.loop(none, k.idx(layout.paddedCols / blockInputs), 1, [&](Value inputBlock) {
    Value weightBlock = k.add(first, k.mul(inputBlock, weights.info.blockBytes));
    prefetchAhead(weightBlock);
    decodeBlock(weightBlock, none);
    k.loop(none, inBlock, count, [&](Value row) {
      Values sums = loadSums(row, count, set);
      auto dotAt = [&](Value dot) {
        Place place = placeOf(weightBlock, block, row, inputBlock, dot, count, interleave);
        place.decoded = true;
        return place;
      };
      auto integers = [&](const Place &at, const Values &before) {
        return integerDots(at, before);
      };
      sums = addBlock(/*asLoop=*/false, dotAt, integers, sums);
      storeSums(row, sums, count, set);
    });
  });
}

Values TileProduct::summed(Value tile, Value block, Value firstRow, int64_t count,
                           int64_t interleave, int set) {
  Values sums = loadSums(firstRow, count, set);
  if (wholeRows)
    sums = scaledRows(block, firstRow, count, interleave, sums);
  return finish(tile, sums, count);
}

} // namespace smelt
