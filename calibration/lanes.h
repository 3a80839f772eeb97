// Vectors of sixteen rows: the arithmetic that the hot loops of quantization share.
//
// Included by files that are compiled once per instruction set level (SMELT_LEVEL names the
// namespace): everything has internal linkage and nothing instantiates a shared inline function of
// the standard library. A vector of 16 floats is one lane per row; the compiler splits it to what
// the level has.
#pragma once

#include "calibration/tile_kernels.h"

namespace smelt::SMELT_LEVEL {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Ints = int __attribute__((vector_size(64)));
using Bytes = int8_t __attribute__((vector_size(16)));
using Shorts = int16_t __attribute__((vector_size(32)));
using Doubles = double __attribute__((vector_size(128)));

constexpr int64_t lanes = tileRows;
/// Most inputs that share a step, whole rows apart.
constexpr int64_t largestGroup = blockInputs;
/// Weights below this are taken for zero: their steps and reciprocals would leave the range of
/// normal floats.
constexpr float tiny = 1e-30f;

inline Lanes load(const float *at) {
  Lanes value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}
inline void store(float *at, Lanes value) { __builtin_memcpy(at, &value, sizeof value); }
inline Lanes splat(float value) { return value - Lanes{}; }
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes magnitude(Lanes a) { return a < 0 ? -a : a; }
/// To the nearest integer, ties to even, for |a| < 2^22: the sum has no fraction bits.
inline Lanes nearest(Lanes a) {
  const Lanes shift = splat(12582912.0f);
  return (a + shift) - shift;
}
inline Lanes clamped(Lanes a, Lanes low, Lanes high) { return larger(smaller(a, high), low); }
/// 1 / a, and 0 where a is zero or too small to divide by.
inline Lanes reciprocal(Lanes a) {
  Lanes safe = magnitude(a) < tiny ? splat(1.0f) : a;
  return magnitude(a) < tiny ? Lanes{} : 1.0f / safe;
}
inline Doubles toDoubles(Lanes a) { return __builtin_convertvector(a, Doubles); }
inline bool anySet(Ints mask) {
  int any = 0;
  for (int64_t row = 0; row < lanes; ++row)
    any |= mask[row];
  return any != 0;
}

inline void storeCodes(int8_t *at, Lanes a) {
  Bytes bytes = __builtin_convertvector(__builtin_convertvector(a, Ints), Bytes);
  __builtin_memcpy(at, &bytes, sizeof bytes);
}
inline Lanes loadCodes(const int8_t *at) {
  Bytes bytes;
  __builtin_memcpy(&bytes, at, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, Ints), Lanes);
}
inline void storeCodes(int16_t *at, Lanes a) {
  Shorts shorts = __builtin_convertvector(__builtin_convertvector(a, Ints), Shorts);
  __builtin_memcpy(at, &shorts, sizeof shorts);
}
inline Lanes loadCodes(const int16_t *at) {
  Shorts shorts;
  __builtin_memcpy(&shorts, at, sizeof shorts);
  return __builtin_convertvector(__builtin_convertvector(shorts, Ints), Lanes);
}

inline Lanes roundToBfloat16(Lanes a) {
  for (int64_t row = 0; row < lanes; ++row)
    a[row] = bfloat16ToFloat(floatToBfloat16(a[row]));
  return a;
}
inline Lanes roundToHalf(Lanes a) {
  for (int64_t row = 0; row < lanes; ++row)
    a[row] = halfToFloat(floatToHalf(a[row]));
  return a;
}

/// Nearest of the integers from low to high.
struct UniformLevels {
  Lanes low, high;
  explicit UniformLevels(const GridKind &kind)
      : low(splat(kind.lowest)), high(splat(kind.highest)) {}
  Lanes operator()(Lanes a) const { return clamped(nearest(a), low, high); }
};

/// Nearest of the values of a table: as many gaps are added to the lowest as there are midpoints
/// below.
template <int count> struct TableLevels {
  const int8_t (&levels)[count];
  Lanes operator()(Lanes a) const {
    Lanes level = splat(float(levels[0]));
    for (int i = 0; i + 1 < count; ++i) {
      const float low = float(levels[i]), high = float(levels[i + 1]);
      level += a > 0.5f * (low + high) ? splat(high - low) : Lanes{};
    }
    return level;
  }
};

/// Calls `work` with the rounding of the grid's kind.
template <typename Work> inline void withLevels(const GridKind &kind, const Work &work) {
  if (kind.grid != Grid::Table)
    work(UniformLevels(kind));
  else if (kind.bits == 4)
    work(TableLevels<16>{tableOf16});
  else
    work(TableLevels<32>{tableOf32});
}

template <int64_t number> struct TileCount { static constexpr int64_t value = number; };

/// Tiles that are worked on side by side: with 32 registers, four accumulators of each of four
/// tiles stay in them while a number of the matrix serves all four.
#ifdef __AVX512F__
constexpr int64_t mostTogether = 4;
#else
constexpr int64_t mostTogether = 1;
#endif

/// sums[t][i] += sum over k in [from, to) of matrix[i, k] * vectors[t][k] for four rows of a
/// matrix, `stride` floats apart, and the vectors of `tiles` tiles. Each sum is in the order of k.
template <int64_t tiles>
inline void addFourProducts(const float *matrix, int64_t stride, int64_t from, int64_t to,
                            const float *const *vectors, Lanes (*sums)[4]) {
  Lanes all[tiles][4];
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t i = 0; i < 4; ++i)
      all[t][i] = sums[t][i];
  for (int64_t k = from; k < to; ++k)
    for (int64_t t = 0; t < tiles; ++t) {
      const Lanes v = load(vectors[t] + k * lanes);
      for (int64_t i = 0; i < 4; ++i)
        all[t][i] += matrix[i * stride + k] * v;
    }
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t i = 0; i < 4; ++i)
      sums[t][i] = all[t][i];
}

/// Calls `work` with runs of mostTogether tiles and then, one by one, with the rest: the number of
/// them as a constant, and the first.
template <typename Work>
inline void byTilesTogether(const TileWork *tiles, int64_t count, const Work &work) {
  int64_t first = 0;
  for (; first + mostTogether <= count; first += mostTogether)
    work(TileCount<mostTogether>(), tiles + first);
  for (; first < count; ++first)
    work(TileCount<1>(), tiles + first);
}

/// The same for one row.
inline Lanes product(const float *row, int64_t from, int64_t to, const float *vectors) {
  Lanes sum{};
  for (int64_t k = from; k < to; ++k)
    sum += row[k] * load(vectors + k * lanes);
  return sum;
}

} // namespace

// The algorithms, one file each; tile_kernels.cpp makes the table of them.
void searchScales(const TileProblem &problem, bool search, const TileGrid &grid);
void roundFeedback(const TileWork *tiles, int64_t count, const FeedbackOrder &feedback);
void feedbackLoss(const TileWork *tiles, int64_t count, const FeedbackOrder &feedback);
void polish(const TileWork *tiles, int64_t count, const float *moments);

} // namespace smelt::SMELT_LEVEL
