// Rotary embeddings of the standard and of com.microsoft.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

// half-split: (a, c) = (x[: r], x[r : 2r]); interleaved: (x[0::2], x[1::2])
// (a cos - c sin, c cos + a sin), the columns from 2r on stay
Value rotate(Builder &b, Value x, Value cos, Value sin, bool isInterleaved) {
  if (b.rank(x) != 4 || b.rank(cos) != 3 || b.rank(sin) != 3)
    return b.fail("it needs [batch, heads, sequence, size] and tables of 3 axes");
  Value half = b.dimsOf(cos, 2, 1), whole = b.mul(half, 2.0);
  Value first = b.i64(ArrayRef<int64_t>{0}), end = b.i64(ArrayRef<int64_t>(toTheEnd));
  Value rest;
  if (b.dim(cos, 2) == dynamic || 2 * b.dim(cos, 2) != b.dim(x, 3)) {
    rest = b.slice(x, 3, whole, end);
    x = b.slice(x, 3, first, whole);
  }
  Value left, right;
  if (isInterleaved) {
    left = b.slice(x, 3, 0, toTheEnd, 2);
    right = b.slice(x, 3, 1, toTheEnd, 2);
  } else {
    left = b.slice(x, 3, first, half);
    right = b.slice(x, 3, half, end);
  }
  cos = b.unsqueeze(cos, {1});
  sin = b.unsqueeze(sin, {1});
  Value real = b.sub(b.mul(left, cos), b.mul(right, sin));
  Value imaginary = b.add(b.mul(right, cos), b.mul(left, sin));
  Value y;
  if (isInterleaved) {
    y = b.concat({b.unsqueeze(real, {4}), b.unsqueeze(imaginary, {4})}, 4);
    y = b.reshape(y, b.concat({b.dimsOf(x, 0, 3), whole}, 0), true);
  } else {
    y = b.concat({real, imaginary}, 3);
  }
  return rest ? b.concat({y, rest}, 3) : y;
}

Value tableRows(Builder &b, Value table, Value positions) { return b.gather(table, positions, 0); }

namespace {

/// Calls `turn` on x as [B, H, S, D] and gives its result x's own form.
Value onHeads(Builder &b, Value x, int64_t heads, llvm::function_ref<Value(Value)> turn) {
  if (b.rank(x) == 4)
    return turn(x);
  if (b.rank(x) != 3)
    return b.fail("it needs 3 or 4 axes");
  if (heads <= 0)
    return b.fail("it has 3 axes, but does not say how many heads there are");
  return joinHeads(b, turn(splitHeads(b, x, heads)));
}

} // namespace

// RotaryEmbedding(x, cos, sin[, positions]): tables by token, or by position if positions are given
Values rotaryEmbedding(Builder &b) {
  Value cos = b.input(1), sin = b.input(2), positions = b.input(3);
  if (positions) {
    cos = tableRows(b, cos, positions);
    sin = tableRows(b, sin, positions);
  }
  return {onHeads(b, b.input(0), b.integer("num_heads", 0), [&](Value x) {
    return rotate(b, x, cos, sin, b.integer("interleaved", 0) != 0);
  })};
}

// com.microsoft: RotaryEmbedding(x, positions [B, S] or one offset, cos, sin)
Values contribRotaryEmbedding(Builder &b) {
  Value x = b.input(0), positions = b.input(1), cos = b.input(2), sin = b.input(3);
  if (b.integer("is_packed_batching", 0) || b.real("scale", 1) != 1)
    return {b.fail("packed batches and scales are not supported")};
  int64_t heads = b.integer("num_heads", 0);
  if (b.rank(x) == 3 && heads == 0 && b.dim(cos, 1) > 0 && b.dim(x, 2) != dynamic)
    heads = b.dim(x, 2) / (2 * b.dim(cos, 1)); // the tables cover a whole head
  if (b.rank(positions) == 1) {
    Value steps = b.range(b.dimOf(x, b.rank(x) == 4 ? 2 : 1));
    positions = b.unsqueeze(b.add(steps, b.toI64(positions)), {0});
  }
  cos = tableRows(b, cos, positions);
  sin = tableRows(b, sin, positions);
  return {onHeads(b, x, heads, [&](Value heads) {
    return rotate(b, heads, cos, sin, b.integer("interleaved", 0) != 0);
  })};
}

} // namespace smelt::tensor
