// Walking the columns of a row: in 16 lanes with the row's end known at compile time.
#pragma once

#include "passes/lower/kernels/builder.h"

namespace smelt {

/// Lanes [first, first + n) of a row, n a power of two up to 16.
struct Piece {
  int64_t first, n;
};
/// Cuts `count` columns into whole vectors and one each of 8, 4, 2, 1 for what is left: no masks,
/// no access beyond the end.
inline llvm::SmallVector<Piece> pieces(int64_t count, int64_t largest = lanes) {
  llvm::SmallVector<Piece> result;
  int64_t first = 0;
  for (int64_t n = largest; n >= 1; n /= 2)
    for (; count - first >= n; first += n)
      result.push_back({first, n});
  return result;
}

/// First n of 16 lanes, n known at compile time; the rest of a load is zero, of a store untouched.
inline Value loadFirst(KernelBuilder &k, Buffer buffer, Value at, int64_t n) {
  if (n >= lanes)
    return k.loadVector(buffer, at);
  return n <= 0 ? k.splatF(0) : k.loadPartial(buffer, at, k.idx(n));
}
inline void storeFirst(KernelBuilder &k, Buffer buffer, Value at, Value value, int64_t n) {
  if (n >= lanes)
    k.storeVector(buffer, at, value);
  else if (n > 0)
    k.storePartial(buffer, at, value, k.idx(n));
}

/// `v` with zero in all lanes from n on.
inline Value keepFirst(KernelBuilder &k, Value v, int64_t n) {
  if (n >= lanes)
    return v;
  Value inside =
      mlir::arith::CmpIOp::create(k.b, mlir::arith::CmpIPredicate::slt, k.laneIds(), k.splatI(n));
  return k.select(inside, v, k.splatF(0));
}

/// Folds the columns of a row into 16 lanes. Chunk c of 16 columns goes to accumulator c % 4, in
/// order; the accumulators start at zero and are joined (0 1) (2 3). `step(acc, column, n)` adds
/// the chunk at `column`, of which the first n lanes exist.
inline Value foldColumns(KernelBuilder &k, int64_t cols,
                         const std::function<Value(Value, Value, int64_t)> &step,
                         const std::function<Value(Value, Value)> &join) {
  constexpr int64_t ways = 4;
  const int64_t whole = cols / (ways * lanes) * (ways * lanes);
  Values sums(ways, k.splatF(0));
  if (whole)
    sums =
        k.loop(k.idx(0), k.idx(whole), ways * lanes, sums, [&](Value column, ValueRange carried) {
          Values next;
          for (int64_t c = 0; c < ways; ++c)
            next.push_back(step(carried[c], k.add(column, c * lanes), lanes));
          return next;
        });
  for (int64_t c = 0; whole + c * lanes < cols; ++c) {
    int64_t first = whole + c * lanes;
    sums[c] = step(sums[c], k.idx(first), std::min(lanes, cols - first));
  }
  return join(join(sums[0], sums[1]), join(sums[2], sums[3]));
}

/// Calls `body(first column, n)` for the units of `unit` columns (a multiple of 16) in [begin, end)
/// counted in units; n is how many of the unit's columns exist (0 in a unit that is only padding).
/// Ends of rows are separate code, known at compile time.
inline void forUnits(KernelBuilder &k, int64_t cols, int64_t unit, int64_t units, Value begin,
                     Value end, const std::function<void(Value, int64_t)> &body) {
  const int64_t whole = std::min(units, cols / unit);
  k.loop(begin, k.min(end, k.idx(whole)), 1, [&](Value u) { body(k.mul(u, unit), unit); });
  for (int64_t u = whole; u < units; ++u) {
    Value mine = k.iand(k.lessEqual(begin, k.idx(u)), k.less(k.idx(u), end));
    k.ifThen(mine, [&] { body(k.idx(u * unit), std::clamp<int64_t>(cols - u * unit, 0, unit)); });
  }
}

} // namespace smelt
