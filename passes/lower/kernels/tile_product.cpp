// Dot products of groups, their scales, and the sums over groups.
#include "passes/lower/kernels/tile_product.h"

using namespace mlir;

namespace smelt {

namespace {

/// From so many rows on, the dot products of a block are a loop.
constexpr int64_t rowsOfLoop = 4;
/// Inputs whose products fit int32 together: 255 * 127 * 2^16 < 2^31.
constexpr int64_t mostWholeInputs = 1 << 16;

} // namespace

TileProduct::TileProduct(KernelBuilder &k)
    : k(k), weights(k, 1), layout(k.activations()), halves(weights.dotInputs < groupInputs),
      words(k.operand(0, k.i32)), floats(k.operand(0, k.f32)),
      wholeRows(k.spec.activation == ActivationFormat::A8T &&
                weights.info.scales == ScaleStorage::Row && layout.paddedCols <= mostWholeInputs),
      sharesScale(layout.scaleInputs == blockInputs) {
  if (layout.tiles)
    unit.emplace(matrixUnit());
  if (k.spec.one || !decodesOnce(manyInterleave))
    return;
  codes = k.scratch(blockInputs * lanes, k.i8);
  for (Buffer &sums : sumsOf)
    sums = k.scratch(manyInterleave * sumsOfRow() * lanes, wholeRows ? k.i32 : k.f32);
}

Values TileProduct::emit(Value tile, Value block, Value firstRow, int64_t count,
                         int64_t interleave) {
  if (unit && interleave == layout.interleave)
    return emitMatrix(tile, block);
  Values sums(count * sumsOfRow(), wholeRows ? k.splatI(0) : k.splatF(0));
  // With many rows the loop costs little beside its body, and unrolled it takes long to compile.
  const bool asLoop = count >= rowsOfLoop && !halves;
  Value blocks = k.idx(layout.paddedCols / blockInputs);
  Value first = k.add(tile, weights.info.rowHeaderBytes);
  sums = k.loop(k.idx(0), blocks, 1, sums, [&](Value i, ValueRange carried) {
    Value at = k.add(first, k.mul(i, weights.info.blockBytes));
    if (!k.spec.one)
      prefetchAhead(at);
    return addBlock(
        asLoop, [&](Value dot) { return placeOf(at, block, firstRow, i, dot, count, interleave); },
        [&](const Place &dot, const Values &before) { return integerDots(dot, before); }, carried);
  });
  if (wholeRows)
    sums = scaledRows(block, firstRow, count, interleave, sums);
  return finish(tile, sums, count);
}

TileProduct::Place TileProduct::placeOf(Value weightBlock, Value block, Value firstRow,
                                        Value inputBlock, Value dot, int64_t count,
                                        int64_t interleave) {
  Value sumIndex = k.add(k.mul(inputBlock, blockInputs / weights.dotInputs), dot);
  Value group = k.div(sumIndex, groupInputs / weights.dotInputs);
  return {weightBlock, block, firstRow, group, sumIndex, dot, count, interleave};
}

/// Takes `state` through the dot products of a block.
Values TileProduct::overDots(bool asLoop, PlaceOfDot placeOf, Values state,
                             function_ref<Values(const Place &at, Values before)> step) {
  const int64_t dots = blockInputs / weights.dotInputs;
  if (asLoop)
    return k.loop(k.idx(0), k.idx(dots), 1, state,
                  [&](Value dot, ValueRange before) { return step(placeOf(dot), before); });
  for (int64_t dot = 0; dot < dots; ++dot)
    state = step(placeOf(k.idx(dot)), state);
  return state;
}

/// One block more of rows in registers.
Values TileProduct::addBlock(bool asLoop, PlaceOfDot placeOf, IntegerDots integers, Values sums) {
  if (wholeRows)
    return overDots(asLoop, placeOf, sums,
                    [&](const Place &at, Values before) { return integers(at, before); });
  if (sharesScale)
    return addShared(asLoop, placeOf, integers, sums);
  return overDots(asLoop, placeOf, sums, [&](const Place &at, Values before) {
    accumulate(at, layout.quantized ? floatsOf(integers(at, {})) : floatDots(at), before);
    return before;
  });
}

/// The same of activations with one scale for the block: sums of products with the weights' scales
/// alone come first.
Values TileProduct::addShared(bool asLoop, PlaceOfDot placeOf, IntegerDots integers, Values sums) {
  const Place first = placeOf(k.idx(0));
  const auto count = size_t(first.count);
  Values parts(count, k.splatF(0));
  parts.append(sums.begin() + count, sums.end());
  parts = overDots(asLoop, placeOf, parts, [&](const Place &at, Values before) {
    Value scale = weights.scale(at.weights, at.dot);
    for (auto [part, dot] : llvm::zip(before, floatsOf(integers(at, {}))))
      part = scale ? k.fma(dot, scale, part) : k.fadd(dot, part);
    addMinimums(at, MutableArrayRef(before).drop_front(count));
    return before;
  });
  for (size_t r = 0; r < count; ++r) {
    Value xs = k.splat(load(floats, first, layout.scaleOffset, first.group, int64_t(r)));
    parts[r] = k.fma(parts[r], xs, sums[r]);
  }
  return parts;
}

void TileProduct::prefetchAhead(Value weightBlock) {
  // With several rows, first-level misses of activations lie among those of the weights, and the
  // processor's own prefetching of the weights breaks off (2 rows of K = 4096: half the bandwidth).
  constexpr int64_t ahead = 4096;
  weights.prefetch(k.add(weightBlock, ahead));
}

/// The integer sums of whole rows times the activations' scales.
Values TileProduct::scaledRows(Value block, Value firstRow, int64_t count, int64_t interleave,
                               const Values &totals) {
  Value zero = k.idx(0);
  const Place place{zero, block, firstRow, zero, zero, zero, count, interleave};
  Values results;
  for (int64_t r = 0; r < count; ++r) {
    Value xs = k.splat(load(floats, place, layout.scaleOffset, place.group, r));
    results.push_back(k.fmul(k.toFloat(totals[r]), xs));
  }
  return results;
}

Values TileProduct::floatsOf(const Values &integers) {
  Values floats;
  for (Value value : integers)
    floats.push_back(k.toFloat(value));
  return floats;
}

/// Element `item` of row `r` in the interleaved array at byte `offset` of the activation block.
Value TileProduct::load(Buffer buffer, const Place &at, int64_t offset, Value item, int64_t r) {
  Value first = k.add(k.div(at.rows, 4), offset / 4);
  Value row = k.add(at.firstRow, r);
  return k.load(buffer, k.add(k.add(first, k.mul(item, at.interleave)), row));
}

/// The integer sums of `runs` with an even number of rows, two at a time.
Values TileProduct::pairTotals(const Place &at, ArrayRef<std::pair<Value, Value>> runs,
                               ArrayRef<Value> starts, int64_t plane, Value firstQuad) {
  Values totals;
  for (int64_t r = 0; r < at.count; r += 2) {
    RowPairDot dot(k);
    auto quad = [&](int64_t i) { // of both rows, side by side
      Value first = k.add(k.div(at.rows, 4), plane * layout.planeBytes / 4);
      Value place = k.add(first, k.mul(k.add(firstQuad, i), at.interleave));
      return k.loadVector(words, k.add(place, k.add(at.firstRow, r)), 2);
    };
    for (auto [i, run] : llvm::enumerate(runs))
      dot.add(run, quad(2 * int64_t(i)), quad(2 * int64_t(i) + 1));
    for (auto [sum, start] : llvm::zip(dot.finish(), starts.slice(r, 2)))
      totals.push_back(start ? k.iadd(sum, start) : sum);
  }
  return totals;
}

/// D (- offset * S) of INT8 and INT16 activations, added to `sums` if there are any (INT8 only).
Values TileProduct::integerDots(const Place &at, const Values &sums) {
  const ByteForm form = GroupDot::form(k, weights);
  Value firstRun = k.mul(at.dot, weights.dotInputs / 8);
  SmallVector<std::pair<Value, Value>> runs;
  for (int64_t i = 0; i < weights.dotInputs / 8; ++i)
    runs.push_back(at.decoded ? decodedRun(k.add(firstRun, i))
                              : weights.run(at.weights, k.add(firstRun, i), form));
  Value firstQuad = k.mul(at.sumIndex, weights.dotInputs / 4);

  // A few rows alone would wait for one long chain of dependent products.
  const bool continues = !sums.empty() && at.count >= rowsOfLoop;
  Values offsets(at.count), totals(at.count);
  for (int64_t r = 0; r < at.count; ++r)
    offsets[r] = load(words, at, sumOffset(), at.sumIndex, r);
  for (int64_t plane = 0; plane < layout.planes; ++plane) {
    const bool last = plane + 1 == layout.planes;
    Values starts;
    for (int64_t r = 0; r < at.count; ++r) {
      // The high plane's sum counts highFactor = 256 - 1 times; with unsigned bytes 128 S comes off
      // at last.
      Value start = totals[r] ? k.isub(k.shl(totals[r], 8), totals[r]) : Value();
      if (last && form == ByteForm::Offset)
        start = start ? k.iadd(start, k.splat(offsets[r])) : k.splat(offsets[r]);
      if (continues)
        start = start ? k.iadd(sums[r], start) : sums[r];
      starts.push_back(start);
    }
    if (at.count % 2 == 0 && k.target.dot == DotKind::Smmla128) {
      totals = pairTotals(at, runs, starts, plane, firstQuad);
      continue;
    }
    SmallVector<GroupDot> dots;
    for (Value start : starts)
      dots.emplace_back(k, weights, start);
    auto addQuad = [&](Value codes, int64_t quad) {
      for (int64_t r = 0; r < at.count; ++r)
        dots[r].add(codes, load(words, at, plane * layout.planeBytes, k.add(firstQuad, quad), r));
    };
    for (auto [i, run] : llvm::enumerate(runs)) {
      addQuad(run.first, 2 * int64_t(i));
      addQuad(run.second, 2 * int64_t(i) + 1);
    }
    for (int64_t r = 0; r < at.count; ++r)
      totals[r] = dots[r].finish();
  }

  totals = centred(at, totals, offsets);
  if (!sums.empty() && !continues)
    for (int64_t r = 0; r < at.count; ++r)
      totals[r] = k.iadd(totals[r], sums[r]);
  return totals;
}

/// Takes off the totals what the codes lie above the values they stand for.
Values TileProduct::centred(const Place &at, Values totals, const Values &offsets) {
  Value zero = weights.given ? weights.zeroPoint(at.weights, at.dot) : Value();
  if (zero && weights.signedBytes)
    zero = k.isub(zero, k.splatI(128));
  const ByteForm form = GroupDot::form(k, weights);
  for (int64_t r = 0; r < at.count; ++r) {
    Value &total = totals[r];
    if (zero) // offsets are -128 S
      total = k.iadd(total, k.imul(zero, k.splat(k.shrArith(offsets[r], 7))));
    else if (form == ByteForm::Raised)
      total = k.iadd(total, k.splat(k.shrArith(offsets[r], 1)));
    else if (weights.info.grid == Grid::Symmetric && !weights.signedBytes)
      total = k.iadd(total, k.splat(k.shrArith(offsets[r], 8 - weights.info.bits)));
  }
  return totals;
}

/// Byte i of every row's four as float, without group scale.
Value TileProduct::weightColumn(Value quad, int64_t i, Value zero) {
  Value word = k.bitcast(quad, k.vec(lanes, k.i32));
  Value code = weights.signedBytes ? k.shrArith(k.shl(word, 24 - 8 * i), 24)
                                   : k.iand(k.shrLogic(word, 8 * i), k.splatI(0xff));
  if (zero)
    code = k.isub(code, zero);
  else if (weights.info.grid == Grid::Symmetric && !weights.signedBytes)
    code = k.isub(code, k.splatI(1 << (weights.info.bits - 1)));
  return k.toFloat(code);
}

/// D as float vectors, float activations; a loop over runs of 8 inputs keeps the code small.
Values TileProduct::floatDots(const Place &at) {
  constexpr int64_t run = 8;
  const int64_t runs = weights.dotInputs / run;
  const ByteForm form = weights.signedBytes ? ByteForm::Signed : ByteForm::Code;
  const bool plain = weights.info.grid == Grid::Float;
  Value zero = weights.given ? weights.zeroPoint(at.weights, at.dot) : Value();
  if (zero && weights.signedBytes)
    zero = k.isub(zero, k.splatI(128));
  Value firstInput = k.mul(at.sumIndex, weights.dotInputs);
  Values zeros(at.count, k.splatF(0));
  return k.loop(k.idx(0), k.idx(runs), 1, zeros, [&](Value r, ValueRange carried) {
    Values dots(carried);
    Value inBlock = k.add(k.mul(at.dot, runs), r);
    std::pair<Value, Value> quads;
    if (!plain)
      quads = weights.run(at.weights, inBlock, form);
    for (int64_t i = 0; i < run; ++i) {
      Value w = plain ? weights.floats(at.weights, k.add(k.mul(inBlock, run), i))
                      : weightColumn(i < 4 ? quads.first : quads.second, i % 4, zero);
      Value input = k.add(k.add(firstInput, k.mul(r, run)), i);
      for (int64_t row = 0; row < at.count; ++row)
        dots[row] = k.fma(w, k.splat(load(floats, at, 0, input, row)), dots[row]);
    }
    return dots;
  });
}

/// Adds the dot products to the sums A and, asymmetric, B behind them.
void TileProduct::accumulate(const Place &at, const Values &dots, Values &sums) {
  Value scale = weights.scale(at.weights, at.dot);
  const bool coded = weights.info.scales == ScaleStorage::Code;
  for (int64_t r = 0; r < at.count; ++r) {
    Value &a = sums[r];
    if (layout.quantized) {
      Value xs = k.splat(load(floats, at, layout.scaleOffset, at.group, r));
      if (scale && !coded)
        a = k.fma(dots[r], k.fmul(scale, xs), a);
      else
        a = k.fma(scale ? k.fmul(dots[r], scale) : dots[r], xs, a);
    } else {
      a = scale ? k.fma(scale, dots[r], a) : k.fadd(a, dots[r]);
    }
  }
  addMinimums(at, MutableArrayRef(sums).drop_front(at.count));
}

/// Of asymmetric formats: what is taken off at last.
void TileProduct::addMinimums(const Place &at, MutableArrayRef<Value> sums) {
  if (!weights.asymmetric)
    return;
  Value minimum = weights.minimum(at.weights, at.dot);
  const int64_t scaled = halves ? layout.halfScaledSumOffset : layout.scaledSumOffset;
  for (int64_t r = 0; r < at.count; ++r) {
    Value sum = load(floats, at, layout.quantized ? scaled : sumOffset(), at.sumIndex, r);
    sums[r] = k.fma(minimum, k.splat(sum), sums[r]);
  }
}

Values TileProduct::finish(Value tile, const Values &sums, int64_t count) {
  Value scale = weights.rowScale(tile);
  Value minimum = weights.asymmetric ? weights.rowMinimum(tile) : Value();
  Values results;
  for (int64_t r = 0; r < count; ++r) {
    Value y = sums[r];
    if (minimum)
      y = k.fma(scale, y, k.fneg(k.fmul(minimum, sums[count + r])));
    else if (scale)
      y = k.fmul(y, scale);
    results.push_back(y);
  }
  return results;
}

} // namespace smelt
