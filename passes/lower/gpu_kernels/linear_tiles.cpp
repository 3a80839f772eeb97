// Products of tiles by mma.sync (PTX ISA 7.0, 9.7.13.4: matrix fragments of m16n8k32 and m16n8k16
// with integers). With lane = 4 group + i, a thread has
//
//   codes:  rows group and group + 8, inputs 4i .. 4i + 3 and, of 32, 16 + 4i .. 16 + 4i + 3, in
//           the order (row, inputs): first, first of the row below, second, second of it
//   inputs: activation row `group`, the same inputs
//   sums:   rows group and group + 8, activation rows 2i and 2i + 1, row by row
//
// In which order the inputs of a dot product are numbered does not matter as long as both sides
// agree: of 32 inputs a thread takes 8i .. 8i + 7, which are decoded together. Nor does the order
// of rows: those of a thread are 2 group and 2 group + 1 of the tile, whose words are neighbours.
#include "passes/lower/gpu_kernels/linear_tiles.h"

#include "passes/lower/gpu_kernels/linear.h"

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t sumsOfThread = 4, tokensOfThread = 2, groupThreads = 4;
constexpr int64_t rowsOfThread = TileRows::rowsOfThread;

Value laneOf(GpuBuilder &k) { return k.rem(k.thread(), k.target.subgroup); }

} // namespace

TileRows::TileRows(GpuBuilder &k, WordTape *tape)
    : inGroup(k.rem(laneOf(k), groupThreads)), group(k.div(laneOf(k), groupThreads)),
      low(k, k.operand(1), k.mul(group, rowsOfThread), tape),
      high(k, k.operand(1), k.add(k.mul(group, rowsOfThread), 1), tape), k(k) {}

Values TileRows::codes(Value block, Value dot) {
  if (low.dotInputs == groupInputs) {
    Value run = k.add(k.mul(dot, groupThreads), inGroup);
    auto [first, second] = low.run(block, run);
    auto [firstBelow, secondBelow] = high.run(block, run);
    return {first, firstBelow, second, secondBelow};
  }
  // 16 inputs are two runs: a thread takes half of one.
  Value run = k.add(k.mul(dot, groupThreads / 2), k.div(inGroup, 2));
  Value isFirst = k.isEqual(k.rem(inGroup, 2), k.idx(0));
  auto [first, second] = low.run(block, run);
  auto [firstBelow, secondBelow] = high.run(block, run);
  return {k.select(isFirst, first, second), k.select(isFirst, firstBelow, secondBelow)};
}

TileProduct::TileProduct(GpuBuilder &k, std::deque<ActivationWords> &blocks, Value slice)
    : k(k), blocks(blocks), slice(slice), rows(k),
      each(rows.low.asymmetric ? 2 * sumsOfThread : sumsOfThread) {
  for (int64_t i = 0; i < tokensOfThread; ++i)
    tokens.push_back(k.add(k.mul(rows.inGroup, tokensOfThread), i));
}

Values TileProduct::emit(Value tile) {
  return sumOverSlice(k, rows.low, blocks.front().layout.paddedCols, tile, slice,
                      linearSlices(k.spec, k.target), blocks.size() * size_t(each),
                      [&](Value block, Value dot, Value item, Values &totals) {
                        addDot(block, dot, item, totals);
                      });
}

void TileProduct::forSums(const Values &all, int64_t block,
                          const std::function<void(Value, Value, Value)> &write) {
  for (int64_t i = 0; i < each; ++i) {
    const int64_t row = i % sumsOfThread / tokensOfThread, token = i % tokensOfThread;
    Value sum = k.add(tokens[size_t(token)], i / sumsOfThread * manyInterleave);
    write(sum, rows.row(row), all[size_t(block * each + i)]);
  }
}

/// The sums of code * x over a dot product, of each plane the four that a thread has.
void TileProduct::integerDots(ActivationWords &x, ValueRange codes, Value item,
                              SmallVector<Values> &planes) {
  const int64_t quadsOfThread = int64_t(codes.size()) / rowsOfThread;
  // Rows that are not there repeat the last one.
  Value token = k.min(rows.group, k.sub(x.width, k.idx(1)));
  Value firstQuad = k.mul(k.add(k.mul(item, groupThreads), rows.inGroup), quadsOfThread);
  for (int64_t plane = 0; plane < x.layout.planes; ++plane) {
    Values inputs;
    for (int64_t quad = 0; quad < quadsOfThread; ++quad)
      inputs.push_back(x.word(plane * x.layout.planeBytes, k.add(firstQuad, quad), token));
    planes.push_back(
        k.addTileProduct(Values(sumsOfThread, k.i32Const(0)), codes, rows.low.signedBytes, inputs));
  }
}

/// Adds dot product `dot` of a block, `item` of the row.
void TileProduct::addDot(Value block, Value dot, Value item, Values &totals) {
  const Values codes = rows.codes(block, dot);
  Value scales[rowsOfThread], minima[rowsOfThread], zeros[rowsOfThread];
  for (int64_t row = 0; row < rowsOfThread; ++row) {
    WeightWords &weights = rows.weights(row);
    scales[row] = weights.scale(block, dot);
    minima[row] = weights.asymmetric ? weights.minimum(block, dot) : Value();
    zeros[row] = weights.given ? weights.zeroPoint(block, dot) : Value();
  }
  for (size_t j = 0; j < blocks.size(); ++j) {
    ActivationWords &x = blocks[j];
    SmallVector<Values> planes;
    integerDots(x, codes, item, planes);
    for (int64_t i = 0; i < sumsOfThread; ++i) {
      const int64_t row = i / tokensOfThread;
      Value token = k.min(tokens[size_t(i % tokensOfThread)], k.sub(x.width, k.idx(1)));
      Values mine;
      for (const Values &plane : planes)
        mine.push_back(plane[size_t(i)]);
      LinearDots dots(k, x, rows.weights(row));
      Value sum = k.toFloat(dots.total(mine, zeros[row], item, token));
      const size_t at = j * size_t(each) + size_t(i);
      dots.addTo(totals[at], sum, scales[row], item, token);
      if (minima[row])
        dots.addMinimum(totals[at + sumsOfThread], minima[row], item, token);
    }
  }
}

} // namespace smelt
