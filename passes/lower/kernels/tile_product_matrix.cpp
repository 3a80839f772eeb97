// Tile products of eight rows on a matrix unit: integers there, scales and sums as everywhere.
//
// A product needs bytes in memory and leaves its integers there, and neither memory nor unit
// answers at once: of a loop over blocks of 64 inputs, each turn decodes the weights of one block,
// multiplies those of an earlier one and scales the products of one before that.
#include "passes/lower/kernels/tile_product.h"

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t rows = manyInterleave;
/// How many blocks decoding and multiplying are ahead of scaling; the weights and products of
/// `slots` blocks are kept.
constexpr int64_t decodeAhead = 4, multiplyAhead = 2, slots = 4;
/// Registers: sums, then activations and weights of two products.
constexpr int sumsCount = 4, activationsOf[] = {4, 6}, weightsOf[] = {5, 7};
constexpr int64_t bytesOfBlock = blockInputs * lanes, wordsOfProduct = rows * lanes;

} // namespace

MatrixUnit TileProduct::matrixUnit() {
  const int64_t inputs = wholeRows ? blockInputs : weights.dotInputs;
  MatrixUnit::Shapes shapes;
  shapes.fill({rows, lanes * int64_t(sizeof(int32_t))});
  for (int matrix : activationsOf)
    shapes[size_t(matrix)] = {rows, inputs};
  for (int matrix : weightsOf)
    shapes[size_t(matrix)] = {inputs / dotBytes, lanes * dotBytes};
  const int64_t products = wholeRows ? sumsCount : slots * productsOfBlock();
  codes = k.scratch(slots * bytesOfBlock, k.i8);
  integers = k.scratch(products * wordsOfProduct, k.i32);
  return MatrixUnit(k, shapes);
}

/// The codes of a block of weights as the unit wants them, into a slot. Bytes need no decoding.
void TileProduct::decode(Value weightBlock, Value slot) {
  prefetchAhead(weightBlock);
  if (weights.info.bits == 8)
    return;
  decodeBlock(weightBlock, k.mul(slot, bytesOfBlock));
}

void TileProduct::loadWeights(int matrix, Value weightBlock, Value slot, int64_t input) {
  const int64_t offset = input * lanes;
  if (weights.info.bits == 8)
    unit->load(matrix, weights.bytes, k.add(weights.byteLines(weightBlock), offset), 64);
  else
    unit->load(matrix, codes, k.add(k.mul(slot, bytesOfBlock), offset), 64);
}

void TileProduct::loadActivations(int matrix, Value activations, Value block, int64_t plane,
                                  int64_t input) {
  Value at = k.add(activations, k.mul(block, rows * blockInputs));
  unit->load(matrix, k.operand(0, k.i8), k.add(at, plane * layout.planeBytes + input), blockInputs);
}

/// The products of all dot groups and planes of a block, into a slot.
void TileProduct::multiply(Value weightBlock, Value activations, Value block, Value slot) {
  Value first = k.mul(slot, productsOfBlock() * wordsOfProduct);
  int64_t product = 0;
  for (int64_t dot = 0; dot < blockInputs / weights.dotInputs; ++dot) {
    const int64_t input = dot * weights.dotInputs;
    const int weightMatrix = weightsOf[dot % 2];
    loadWeights(weightMatrix, weightBlock, slot, input);
    for (int64_t plane = 0; plane < layout.planes; ++plane, ++product) {
      const int sums = int(product % sumsCount), activationMatrix = activationsOf[product % 2];
      loadActivations(activationMatrix, activations, block, plane, input);
      unit->zero(sums);
      unit->multiply(sums, activationMatrix, weightMatrix);
      unit->store(sums, integers, k.add(first, product * wordsOfProduct));
    }
  }
}

/// integerDots() of one dot group whose products lie in a slot.
Values TileProduct::multiplied(const Place &at, Value slot) {
  Value first =
      k.mul(k.add(k.mul(slot, productsOfBlock()), k.mul(at.dot, layout.planes)), wordsOfProduct);
  Values offsets, totals;
  for (int64_t r = 0; r < rows; ++r) {
    offsets.push_back(load(words, at, sumOffset(), at.sumIndex, r));
    Value total = k.loadVector(integers, k.add(first, r * lanes), lanes, 64);
    if (layout.planes == 2) {
      Value low = k.loadVector(integers, k.add(first, wordsOfProduct + r * lanes), lanes, 64);
      total = k.iadd(k.isub(k.shl(total, 8), total), low);
    }
    if (GroupDot::form(k, weights) == ByteForm::Offset)
      total = k.iadd(total, k.splat(offsets.back()));
    totals.push_back(total);
  }
  return centred(at, totals, offsets);
}

/// The integer sums of whole rows: the unit adds up, in several registers lest each product wait
/// for the one before.
Values TileProduct::multipliedRows(Value first, Value activations) {
  const int64_t blocks = layout.paddedCols / blockInputs;
  const int64_t whole = blocks / sumsCount * sumsCount;
  for (int sums = 0; sums < sumsCount; ++sums)
    unit->zero(sums);
  auto add = [&](Value block, int sums) {
    Value weightBlock = k.add(first, k.mul(block, weights.info.blockBytes));
    decode(weightBlock, {});
    loadWeights(weightsOf[sums % 2], weightBlock, {}, 0);
    loadActivations(activationsOf[sums % 2], activations, block, 0, 0);
    unit->multiply(sums, activationsOf[sums % 2], weightsOf[sums % 2]);
  };
  k.loop(k.idx(0), k.idx(whole), sumsCount, [&](Value block) {
    for (int sums = 0; sums < sumsCount; ++sums)
      add(k.add(block, sums), sums);
  });
  for (int64_t block = whole; block < blocks; ++block)
    add(k.idx(block), int(block - whole));
  for (int sums = 0; sums < sumsCount; ++sums)
    unit->store(sums, integers, k.idx(sums * wordsOfProduct));

  Value firstOffset = k.add(k.div(activations, 4), layout.sumOffset / 4);
  Value offsets = k.loop(k.idx(0), k.idx(layout.groups), 1, k.splatI(0, rows),
                         [&](Value group, ValueRange sum) -> Values {
                           Value at = k.add(firstOffset, k.mul(group, rows));
                           return {k.iadd(sum[0], k.loadVector(words, at, rows))};
                         })[0];
  Values totals;
  for (int64_t r = 0; r < rows; ++r) {
    Value total = k.splat(k.lane(offsets, r));
    for (int sums = 0; sums < sumsCount; ++sums)
      total = k.iadd(total,
                     k.loadVector(integers, k.idx(sums * wordsOfProduct + r * lanes), lanes, 64));
    totals.push_back(total);
  }
  return totals;
}

Values TileProduct::emitMatrix(Value tile, Value activations) {
  Value first = k.add(tile, weights.info.rowHeaderBytes), none = k.idx(0);
  if (wholeRows)
    return finish(
        tile, scaledRows(activations, none, rows, rows, multipliedRows(first, activations)), rows);
  const int64_t blocks = layout.paddedCols / blockInputs;
  auto weightBlock = [&](Value block) {
    return k.add(first, k.mul(block, weights.info.blockBytes));
  };
  auto decodeAt = [&](Value block) { decode(weightBlock(block), k.rem(block, slots)); };
  auto multiplyAt = [&](Value block) {
    multiply(weightBlock(block), activations, block, k.rem(block, slots));
  };
  for (int64_t block = 0; block < std::min(decodeAhead, blocks); ++block)
    decodeAt(k.idx(block));
  for (int64_t block = 0; block < std::min(multiplyAhead, blocks); ++block)
    multiplyAt(k.idx(block));
  Values sums(rows * sumsOfRow(), k.splatF(0));
  sums = k.loop(none, k.idx(blocks), 1, sums, [&](Value block, ValueRange carried) {
    auto ifThere = [&](int64_t ahead, const std::function<void(Value)> &work) {
      Value later = k.add(block, ahead);
      k.ifThen(k.less(later, k.idx(blocks)), [&] { work(later); });
    };
    ifThere(decodeAhead, decodeAt);
    ifThere(multiplyAhead, multiplyAt);
    auto dotAt = [&](Value dot) {
      return placeOf(weightBlock(block), activations, none, block, dot, rows, rows);
    };
    auto integers = [&](const Place &at, const Values &before) {
      Values totals = multiplied(at, k.rem(block, slots));
      for (auto [total, sum] : llvm::zip(totals, before))
        total = k.iadd(total, sum);
      return totals;
    };
    return addBlock(/*asLoop=*/true, dotAt, integers, carried);
  });
  return finish(tile, sums, rows);
}

} // namespace smelt
