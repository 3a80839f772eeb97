// Attention over keys and values of 8 bits: queries and weights are rounded too, and products are
// exact integers.
#include "passes/lower/kernels/attention_block.h"

using namespace mlir;

namespace smelt {

namespace {

/// Words of a pair's weights.
constexpr int64_t weightWordsOfPair = attentionBlock / dotBytes;

/// Whether weights are multiplied as unsigned bytes; elsewhere weightOffset is taken off them.
bool hasUnsignedWeights(const KernelBuilder &k) {
  return GroupDot::signedForm(k) == ByteForm::Offset;
}

/// What takes the offset of bytes in Offset form off a dot product; none in Signed form.
Value startOf(KernelBuilder &k, Buffer offsets, Value at) {
  return GroupDot::signedForm(k) == ByteForm::Offset ? k.splat(k.load(offsets, at)) : Value();
}

/// 64 stored bytes (q + 128) in the form that the target multiplies.
Value inForm(KernelBuilder &k, Value bytes) {
  return GroupDot::signedForm(k) == ByteForm::Offset ? bytes
                                                     : k.ixor(bytes, splatByte(k, 0x80, 64));
}

/// The low halves of the elements of two vectors, 128 bits of the one and of the other in turn.
Value halves(KernelBuilder &k, Value a, Value c) {
  auto type = cast<VectorType>(a.getType());
  const int64_t n = type.getNumElements(), perTurn = 128 / type.getElementTypeBitWidth();
  VectorType half = k.vec(2 * n, k.b.getIntegerType(unsigned(type.getElementTypeBitWidth()) / 2));
  SmallVector<int64_t> mask;
  for (int64_t turn = 0; turn < n; turn += perTurn)
    for (int64_t of : {int64_t(0), n})
      for (int64_t i = 0; i < perTurn; ++i)
        mask.push_back(2 * (of + turn + i));
  return vector::ShuffleOp::create(k.b, k.bitcast(a, half), k.bitcast(c, half), mask);
}

} // namespace

// --- Scores: lanes are positions.

void AttentionBlock::encodeQuery(Value pair, Buffer from, Value at) {
  auto group = [&](Value g, int64_t dims) {
    Values x;
    Value most;
    for (int64_t d = 0; d < dims; d += lanes) {
      Value first = k.add(k.add(at, k.mul(g, keyGroup)), d);
      x.push_back(limited(k, loadFirst(k, from, first, std::min(lanes, dims - d))));
      Value magnitude = k.fabs(x.back());
      most = most ? k.fmax(most, magnitude) : magnitude;
    }
    Value scale = k.fdiv(k.reduceMax(most), k.f32Const(mostCode)), sum;
    Value inverse = k.splat(inverseOf(k, scale));
    for (auto [i, values] : llvm::enumerate(x)) {
      Value code = limited(k, k.roundEven(k.fmul(values, inverse)), mostCode);
      sum = sum ? k.fadd(sum, code) : code; // small whole numbers: exact
      Value words = k.bitcast(k.narrow(k.toInt(code), k.i8), k.vec(lanes / dotBytes, k.i32));
      Value to = k.add(k.mul(pair, wordsOfQuery()), k.mul(g, keyGroup / dotBytes));
      k.storeVector(queryWords, k.add(to, int64_t(i) * lanes / dotBytes), words);
    }
    Value place = k.add(k.mul(pair, queryGroups()), g);
    k.store(queryScales, place, k.fmul(scale, k.f32Const(queryFactor())));
    k.store(queryOffsets, place, k.toInt(k.fmul(k.reduceAdd(sum), k.f32Const(-128))));
  };
  const int64_t whole = k.spec.headDim / keyGroup, rest = k.spec.headDim % keyGroup;
  k.loop(k.idx(0), k.idx(whole), 1, [&](Value g) { group(g, keyGroup); });
  if (rest)
    group(k.idx(whole), rest);
}

void AttentionBlock::integerScoreTile(Value head, Value start, Value chunk, Value firstPair,
                                      int64_t held, int64_t chunks) {
  const int64_t chunkBytes = cache.keyStride() * lanes;
  Value first = k.add(cache.keyLines(head, start), k.mul(chunk, chunkBytes));
  auto group = [&](Value g, int64_t dims, ValueRange carried) {
    SmallVector<GroupDot> dots;
    for (int64_t p = 0; p < held; ++p) {
      Value place = k.add(g, k.mul(k.add(firstPair, p), queryGroups()));
      for (int64_t c = 0; c < chunks; ++c)
        dots.emplace_back(k, startOf(k, queryOffsets, place));
    }
    for (int64_t quad = 0; quad < roundUp(dims, dotBytes) / dotBytes; ++quad) {
      Value word = k.add(k.mul(g, keyGroup / dotBytes), quad);
      Values keys;
      for (int64_t c = 0; c < chunks; ++c)
        keys.push_back(inForm(
            k, k.loadVector(cache.keys,
                            k.add(k.add(first, k.mul(word, dotBytes * lanes)), c * chunkBytes), 64,
                            64)));
      for (int64_t p = 0; p < held; ++p) {
        Value x = k.load(queryWords, k.add(word, k.mul(k.add(firstPair, p), wordsOfQuery())));
        for (int64_t c = 0; c < chunks; ++c)
          dots[p * chunks + c].add(keys[c], x);
      }
    }
    Values sums, scales;
    for (int64_t c = 0; c < chunks; ++c) {
      Value position = k.add(start, k.mul(k.add(chunk, c), lanes));
      scales.push_back(cache.loadScales(cache.keyScales, cache.keyScaleAt(head, position, g)));
    }
    for (int64_t p = 0; p < held; ++p) {
      Value scale =
          k.splat(k.load(queryScales, k.add(g, k.mul(k.add(firstPair, p), queryGroups()))));
      for (int64_t c = 0; c < chunks; ++c)
        sums.push_back(k.fma(k.toFloat(dots[p * chunks + c].finish()), k.fmul(scales[c], scale),
                             carried[p * chunks + c]));
    }
    return sums;
  };
  Values acc(held * chunks, k.splatF(0));
  const int64_t whole = k.spec.headDim / keyGroup, rest = k.spec.headDim % keyGroup;
  acc = k.loop(k.idx(0), k.idx(whole), 1, acc,
               [&](Value g, ValueRange carried) { return group(g, keyGroup, carried); });
  if (rest)
    acc = group(k.idx(whole), rest, acc);
  for (int64_t p = 0; p < held; ++p)
    for (int64_t c = 0; c < chunks; ++c)
      storeScores(k.add(firstPair, p), k.add(chunk, c), acc[p * chunks + c]);
}

// --- Values: lanes are dimensions.

AttentionBlock::ValueScales AttentionBlock::integerValueScales(Value head, Value start) {
  ValueScales scales;
  for (int64_t c = 0; c < chunksOfBlock; ++c) {
    Value at = cache.valueScaleAt(head, k.add(start, c * lanes), k.idx(0));
    Value scale = k.fmax(cache.loadScales(cache.valueScales, at), k.splatF(leastScale));
    // What it is off by changes the weight of a position, in sum and output alike.
    scales.logs.push_back(k.coarseLog2(scale));
    scales.inverses.push_back(k.fdiv(k.splatF(1), scale));
  }
  return scales;
}

/// The weights p_t of neighbouring pairs, rounded, in the form that the target multiplies.
void AttentionBlock::encodeWeights(Value firstPair, ArrayRef<Values> weights) {
  // Adding 1.5 * 2^23 rounds to the integer and leaves it in the low bits of the sum.
  const double magic = 12582912 - (hasUnsignedWeights(k) ? 0 : weightOffset);
  for (auto [p, ofPair] : llvm::enumerate(weights)) {
    Values codes;
    for (Value weight : ofPair)
      codes.push_back(k.bitcast(k.fadd(weight, k.splatF(magic)), k.vec(lanes, k.i32)));
    // Word 4 i + c is quad i of chunk c, as halving leaves them.
    Value words = halves(k, halves(k, codes[0], codes[1]), halves(k, codes[2], codes[3]));
    k.storeVector(weightWords, k.mul(k.add(firstPair, int64_t(p)), weightWordsOfPair),
                  k.bitcast(words, k.vec(weightWordsOfPair, k.i32)), 64);
  }
}

void AttentionBlock::integerValues(Value head, Value start, Value first, Value count,
                                   const TileWriter &write) {
  const int64_t headDim = k.spec.headDim, ones = hasUnsignedWeights(k) ? 0 : 1;
  // Four pairs and four vectors take half a load a product (24 and one: a whole one, 4 % slower).
  const int64_t pairStep =
      fitsRegisters(k.target, 4 * 4, 4) ? std::min<int64_t>(pairs, 4) : pairsAtOnce(1);
  Value row = cache.valueRow(head, start);
  forPairs(pairStep, [&](Value firstPair, int64_t held) {
    int64_t together = std::max<int64_t>(1, std::min<int64_t>(4, headDim / lanes));
    while (together > 1 && !fitsRegisters(k.target, (held + ones) * together, together))
      --together;
    auto tile = [&](Value column, int64_t vectors, int64_t dims) {
      integerValueTile(row, first, count, firstPair, held, column, vectors, dims, write);
    };
    const int64_t step = lanes * together, whole = headDim / step * step;
    k.loop(k.idx(0), k.idx(whole), step, [&](Value column) { tile(column, together, step); });
    for (int64_t column = whole; column < headDim; column += lanes)
      tile(k.idx(column), 1, std::min(lanes, headDim - column));
  });
}

/// `vectors` of 16 dimensions from `column` on, of which `dims` exist: what is read for the others
/// lies within the cache.
void AttentionBlock::integerValueTile(Value row, Value first, Value count, Value firstPair,
                                      int64_t held, Value column, int64_t vectors, int64_t dims,
                                      const TileWriter &write) {
  const int64_t headDim = k.spec.headDim, quadsOfChunk = lanes / dotBytes;
  const bool areUnsigned = hasUnsignedWeights(k);
  auto pairAt = [&](int64_t p) { return k.add(firstPair, p); };
  // Row `held` has weights 1: times the offset, it gives back what was taken off the others.
  const int64_t rows = areUnsigned ? held : held + 1;
  Values sums(rows * vectors, k.splatI(0));
  Value begin = k.div(first, lanes), end = k.ceilDiv(k.add(first, count), lanes);
  // Positions of the first and last chunk that are not asked for have weight 0.
  sums = k.loop(begin, end, 1, sums, [&](Value chunk, ValueRange carried) {
    SmallVector<GroupDot> dots;
    for (Value sum : carried)
      dots.emplace_back(k, sum);
    for (int64_t i = 0; i < quadsOfChunk; ++i) {
      Value quad = k.add(k.mul(chunk, quadsOfChunk), i);
      Value from = k.add(k.add(row, k.mul(quad, headDim * dotBytes)), k.mul(column, dotBytes));
      Values codes;
      for (int64_t v = 0; v < vectors; ++v)
        codes.push_back(k.ixor(k.loadVector(cache.values, k.add(from, v * lanes * dotBytes), 64,
                                            headDim % lanes == 0 ? 64 : 4),
                               splatByte(k, 0x80, 64)));
      for (int64_t p = 0; p < rows; ++p) {
        Value at = k.add(k.add(chunk, i * chunksOfBlock), k.mul(pairAt(p), weightWordsOfPair));
        Value x = p < held ? k.load(weightWords, at) : k.i32Const(0x01010101);
        for (int64_t v = 0; v < vectors; ++v) {
          GroupDot &dot = dots[p * vectors + v];
          areUnsigned ? dot.addUnsigned(codes[v], x) : dot.add(codes[v], x);
        }
      }
    }
    Values next;
    for (GroupDot &dot : dots)
      next.push_back(dot.finish());
    return next;
  });
  Values given;
  for (int64_t v = 0; v < vectors && !areUnsigned; ++v)
    given.push_back(k.imul(sums[held * vectors + v], k.splatI(weightOffset)));
  for (int64_t p = 0; p < held; ++p)
    for (int64_t v = 0; v < vectors; ++v) {
      Value sum = sums[p * vectors + v];
      Value o = k.toFloat(areUnsigned ? sum : k.iadd(sum, given[v]));
      for (Piece piece : pieces(std::clamp<int64_t>(dims - v * lanes, 0, lanes)))
        write(pairAt(p), k.add(column, v * lanes + piece.first),
              piece.n == lanes ? o : k.slice(o, piece.first, piece.n));
    }
}

} // namespace smelt
