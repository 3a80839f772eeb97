// Linear of many token rows by the matrix unit: a warp takes a tile of 16 output rows (a gated
// linear: two) with all 64 token rows of its workgroup, whose activations all warps read from the
// workgroup's memory. A tile's weights are decoded once for all of them.
//
// The sums have the bits of kernels that deal the inputs to slices (linear.cpp): a warp goes
// through the slices one after the other, and adds what it has of each to the total.
//
// What counts is instructions beside the products: for 64 rows, each product of 16 x 8 x 32 has
// four sums a thread, that are to be scaled. A dot product comes as float: the matrix unit begins
// at the bits of 1.5 * 2^23, where floats are integers, and as |dot| < 2^22, the bits of the sum
// are those of 1.5 * 2^23 + dot. Where the scale is a code, dot * code, rounded once, is
// fma(sum, code, -1.5 * 2^23 * code), for the product with the code (8 bits) is exact.
#include "passes/lower/gpu_kernels/linear_wide.h"

#include "passes/lower/gpu_kernels/linear.h"
#include "passes/lower/gpu_kernels/linear_tiles.h"
#include "passes/lower/gpu_kernels/staged_activations.h"

#include <bit>

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t sumsOfThread = 4, tokensOfThread = 2, rowsOfThread = TileRows::rowsOfThread;
constexpr float integers = 0x1.8p23f; ///< where dot products begin

/// What a thread has of a tile's weights for a dot product.
struct DecodedDot {
  Values codes;
  Value scales[rowsOfThread], minima[rowsOfThread], zeros[rowsOfThread]; ///< null: none
};

class WideLinear {
public:
  explicit WideLinear(GpuBuilder &k)
      : k(k), tiles(k.spec), layout(activationLayout(k.spec.activation, k.spec.cols, false)),
        rows(k, &tape), dots(k, layout, rows.low), results(k),
        slices(linearSlices(k.spec, k.target)), count(layout.paddedCols / blockInputs),
        dotsOfBlock(blockInputs / rows.low.dotInputs),
        each(rows.low.asymmetric ? 2 * sumsOfThread : sumsOfThread),
        activations(k, dots, rows.low.dotInputs, k.mul(k.rowGroup(), tiles.rowBlocks),
                    tiles.rowBlocks) {
    Value zero = k.shrArith(arith::IndexCastOp::create(k.b, k.i32, k.rowCount()), 31);
    for (int64_t row = 0; row < rowsOfThread; ++row)
      rows.weights(row).holdTable(zero);
    const int64_t all = roundUp(k.spec.rows, tileRows) / tileRows;
    Value warp = k.div(k.thread(), k.target.subgroup);
    part = k.rem(warp, tiles.parts), ofGroup = k.div(warp, tiles.parts);
    tile = k.add(k.mul(k.group(), tiles.warps / tiles.parts), ofGroup);
    Value there = k.min(tile, k.idx(all - 1)); // warps without a tile repeat the last one
    totals = k.shared(int64_t(sums()) * k.launch.threads);
    firstWord =
        k.mul(k.add(k.mul(there, tiles.parts), part), tileBytes(k.spec.format, k.spec.cols) / 4);
  }

  void emit() {
    multiply();
    finish();
  }

private:
  GpuBuilder &k;
  const WideTiles tiles;
  const ActivationLayout layout;
  WordTape tape;
  TileRows rows;
  DotFormulas dots;
  LinearResults results;
  const int64_t slices, count; ///< blocks of inputs
  const int64_t dotsOfBlock, each;
  StagedActivations activations;
  Value part, ofGroup, tile; ///< of the warp; ofGroup: which of the workgroup's tiles
  Value firstWord;           ///< of its weights
  Words totals;              ///< of slices: float [sums / 4][threads][4], each thread its own

  size_t sums() const { return size_t(tiles.rowBlocks * each); }
  size_t sumOf(int64_t rowBlock, int64_t i) const { return size_t(rowBlock * each + i); }

  //===--- Products

  /// Leaves the sums of all slices in `totals`.
  void multiply() {
    activations.store(activations.load(k.idx(0)), k.idx(0));
    addToTotals(Values(sums(), k.f32Const(0)), /*isFirst=*/true);
    Values state = {k.idx(0)}; // where the next block is, and its weights
    state.append(loadWeights(k.idx(0)));
    k.barrier();
    auto overSlice = [&](Value slice, ValueRange before) -> Values {
      Values inner(sums(), k.f32Const(0));
      llvm::append_range(inner, before);
      // No slice below the bound is empty: the loop of blocks needs no guard.
      inner = k.ValueBuilder::loop(
          slice, k.idx(count), slices, inner,
          [&](Value block, ValueRange carried) { return overBlock(slice, block, carried); });
      addToTotals(ValueRange(inner).take_front(sums()), /*isFirst=*/false);
      return Values(ValueRange(inner).drop_front(sums()));
    };
    k.loop(k.idx(0), k.idx(std::min(slices, count)), 1, state, overSlice);
  }

  /// Where sums i .. i + 3 of the thread are among the totals, of this or the next warp.
  Value place(size_t i, int64_t warp = 0) {
    Value thread = k.add(k.thread(), warp * k.target.subgroup);
    return k.add(k.mul(thread, sumsOfThread), int64_t(i) * k.launch.threads);
  }
  void addToTotals(ValueRange sums, bool isFirst) {
    for (size_t i = 0; i < sums.size(); i += sumsOfThread) {
      Values words;
      if (!isFirst)
        words = k.wordsTogether(totals, place(i), sumsOfThread);
      for (size_t n = 0; n < sumsOfThread; ++n) {
        if (isFirst)
          words.push_back(k.asBits(sums[i + n]));
        else
          words[n] = k.asBits(k.fadd(k.asFloat(words[n]), sums[i + n]));
      }
      k.setWordsTogether(totals, place(i), words);
    }
  }

  /// Adds block `block` to the sums of a slice, and brings the next one.
  Values overBlock(Value slice, Value block, ValueRange carried) {
    Value further = k.add(block, slices);
    Value next = k.select(k.less(further, k.idx(count)), further, k.add(slice, 1));
    next = k.min(next, k.idx(count - 1)); // the last one once more
    const Values loaded = activations.load(next), words = loadWeights(next);

    Value stage = carried[sums()], other = k.sub(k.idx(1), stage);
    tape.replay(carried.drop_front(sums() + 1));
    Values after = multiplied(decode(block), stage, carried.take_front(sums()));

    activations.store(loaded, other);
    k.barrier();
    after.push_back(other);
    after.append(words);
    return after;
  }

  /// The words of block `i` of the tile.
  Values loadWeights(Value i) {
    tape.record();
    decode(i);
    return tape.recorded();
  }

  SmallVector<DecodedDot, 4> decode(Value i) {
    const FormatInfo &info = rows.low.info;
    Value block = k.add(k.add(firstWord, info.rowHeaderBytes / 4), k.mul(i, info.blockBytes / 4));
    SmallVector<DecodedDot, 4> decoded;
    for (int64_t dot = 0; dot < dotsOfBlock; ++dot) {
      DecodedDot &made = decoded.emplace_back();
      made.codes = rows.codes(block, k.idx(dot));
      for (int64_t row = 0; row < rowsOfThread; ++row) {
        WeightWords &weights = rows.weights(row);
        made.scales[row] = weights.scale(block, k.idx(dot));
        if (weights.asymmetric)
          made.minima[row] = weights.minimum(block, k.idx(dot));
        if (weights.given)
          made.zeros[row] = weights.zeroPoint(block, k.idx(dot));
      }
    }
    return decoded;
  }

  /// Sums with the products of a block of inputs added.
  Values multiplied(ArrayRef<DecodedDot> weights, Value stage, ValueRange before) {
    Values sums(before);
    for (int64_t j = 0; j < tiles.rowBlocks; ++j) {
      SmallVector<Values, 2> codes;
      for (int64_t plane = 0; plane < layout.planes; ++plane)
        codes.push_back(activations.codes(stage, plane, j, rows.group, rows.inGroup));
      const auto scales = activations.scales(stage, j, rows.inGroup);
      StagedActivations::OfRows scaledSums, codeSums;
      if (rows.low.asymmetric)
        scaledSums = activations.scaledSums(stage, j, rows.inGroup);
      if (dots.areCorrected())
        codeSums = activations.sums(stage, j, rows.inGroup);
      for (int64_t dot = 0; dot < dotsOfBlock; ++dot) {
        const DecodedDot &w = weights[size_t(dot)];
        const Values products = productsOf(w, codes, codeSums, dot);
        for (int64_t i = 0; i < sumsOfThread; ++i) {
          const int64_t row = i / tokensOfThread, token = i % tokensOfThread;
          Value scale = k.asFloat(scales.at(token, dot, dotsOfBlock));
          add(sums[sumOf(j, i)], products[size_t(i)], w.scales[row], scale);
          if (!rows.low.asymmetric)
            continue;
          Value &b = sums[sumOf(j, sumsOfThread + i)];
          b = k.fma(w.minima[row], k.asFloat(scaledSums.at(token, dot, dotsOfBlock)), b);
        }
      }
    }
    return sums;
  }

  bool beginAtIntegers() const { return layout.planes == 1; }

  /// The four dot products of a thread with a block of rows, as integers from where they begin.
  Values productsOf(const DecodedDot &w, ArrayRef<Values> codes,
                    const StagedActivations::OfRows &codeSums, int64_t dot) {
    const size_t words = w.codes.size() / rowsOfThread;
    Values begin;
    for (int64_t i = 0; i < sumsOfThread; ++i) {
      Value start = k.i32Const(beginAtIntegers() ? std::bit_cast<int32_t>(integers) : 0);
      if (dots.areCorrected()) {
        Value sum = codeSums.at(i % tokensOfThread, dot, dotsOfBlock);
        start = k.iadd(start, dots.correction(w.zeros[i / tokensOfThread], sum));
      }
      begin.push_back(start);
    }
    SmallVector<Values, 2> planes;
    for (const Values &plane : codes) {
      const bool isLast = planes.size() + 1 == codes.size();
      const ValueRange inputs = ValueRange(plane).slice(size_t(dot) * words, words);
      planes.push_back(k.addTileProduct(isLast ? begin : Values(sumsOfThread, k.i32Const(0)),
                                        w.codes, rows.low.signedBytes, inputs));
    }
    Values products;
    for (size_t i = 0; i < sumsOfThread; ++i) {
      Values mine;
      for (const Values &plane : planes)
        mine.push_back(plane[i]);
      products.push_back(dots.ofPlanes(mine));
    }
    return products;
  }

  /// Adds a product to a sum A.
  void add(Value &a, Value product, Value scale, Value activationScale) {
    if (!beginAtIntegers())
      return dots.addScaled(a, k.toFloat(product), scale, activationScale);
    Value begun = k.asFloat(product);
    if (!dots.areScalesCodes())
      return dots.addScaled(a, k.fsub(begun, k.f32Const(integers)), scale, activationScale);
    Value scaled = k.fma(begun, scale, k.fmul(scale, k.f32Const(-integers)));
    a = k.fma(scaled, activationScale, a);
  }

  //===--- Results

  /// Of a gated linear, warps with a tile of the gate take what the next warps have summed of the
  /// other tile.
  void finish() {
    LinearResults::Factors factors[2][rowsOfThread];
    for (int64_t p = 0; p < tiles.parts; ++p)
      for (int64_t row = 0; row < rowsOfThread; ++row) {
        WeightWords weights(k, k.operand(1), rows.row(row));
        Value first = k.add(firstWord, p * tileBytes(k.spec.format, k.spec.cols) / 4);
        factors[p][row] = LinearResults::factorsOf(weights, first);
      }
    if (tiles.parts == 1)
      return store(factors[0], nullptr);
    k.barrier();
    k.ifThen(k.isEqual(part, k.idx(0)), [&] { store(factors[0], factors[1]); });
  }

  /// The results of a thread with a block of rows before the activation.
  Values resultsOf(int64_t rowBlock, int64_t warp, const LinearResults::Factors *factors) {
    const size_t first = sumOf(rowBlock, 0);
    const Values a = k.wordsTogether(totals, place(first, warp), sumsOfThread);
    Values b, y;
    if (rows.low.asymmetric)
      b = k.wordsTogether(totals, place(first + sumsOfThread, warp), sumsOfThread);
    for (size_t i = 0; i < sumsOfThread; ++i)
      y.push_back(results.product(factors[i / tokensOfThread], k.asFloat(a[i]),
                                  b.empty() ? Value() : k.asFloat(b[i])));
    return y;
  }

  /// `up`: null of linears without a gate.
  void store(const LinearResults::Factors *factors, const LinearResults::Factors *up) {
    Value tokens = k.rowCount(), firstToken = k.mul(k.rowGroup(), k.launch.rowsPerGroup);
    for (int64_t j = 0; j < tiles.rowBlocks; ++j) {
      Values y = resultsOf(j, 0, factors);
      if (up)
        for (auto [gate, other] : llvm::zip(y, resultsOf(j, 1, up)))
          gate = results.gated(gate, other);
      for (int64_t i = 0; i < sumsOfThread; ++i) {
        Value within =
            k.add(k.mul(rows.inGroup, tokensOfThread), j * manyInterleave + i % tokensOfThread);
        Value token = k.add(firstToken, within);
        Value column = k.add(k.mul(tile, tileRows), rows.row(i / tokensOfThread));
        k.ifThen(k.both(k.less(token, tokens), k.less(column, k.idx(k.spec.rows))),
                 [&] { results.store(column, token, y[size_t(i)]); });
      }
    }
  }
};

} // namespace

void emitWideLinear(GpuBuilder &k) { WideLinear(k).emit(); }

} // namespace smelt
