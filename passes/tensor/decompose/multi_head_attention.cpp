// com.microsoft MultiHeadAttention and Attention.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

/// The score that a padding mask adds: 0 for tokens, `filler` for padding, over [B, H, S, T].
/// Forms: lengths [B], tokens [B, T], or [B, S, T].
Value maskBias(Builder &b, Value mask, Value total, double filler) {
  Value isToken;
  switch (b.rank(mask)) {
  case 1:
    isToken = b.make(
        "Less", {b.unsqueeze(b.range(total), {0, 1, 2}), b.unsqueeze(b.toI64(mask), {1, 2, 3})});
    break;
  case 2:
    isToken = b.unsqueeze(b.cast(mask, b.at.getI1Type()), {1, 2});
    break;
  case 3:
    isToken = b.unsqueeze(b.cast(mask, b.at.getI1Type()), {1});
    break;
  default:
    return b.fail("a mask of " + llvm::Twine(b.rank(mask)) + " axes is not supported");
  }
  return b.where(isToken, b.floatScalar(0), b.floatScalar(filler));
}

/// query i (after `past` others) sees key j <= past + i
Value causalMask(Builder &b, Value length, Value total) {
  Value past = b.sub(total, length);
  Value at = b.add(b.unsqueeze(b.range(length), {0, 1, 3}), past);
  return b.make("LessOrEqual", {b.unsqueeze(b.range(total), {0, 1, 2}), at});
}

Value plus(Builder &b, Value a, Value other) {
  return a && other ? b.add(a, other) : a ? a : other;
}

/// Part `index` of a packed axis.
Value part(Builder &b, Value packed, int64_t axis, int64_t index) {
  return b.gather(packed, b.i64(index), axis);
}

} // namespace

// MultiHeadAttention(query, key, value, bias, padding mask, score bias, past key, past value)
Values multiHeadAttention(Builder &b) {
  Value q = b.input(0), k = b.input(1), v = b.input(2), bias = b.input(3);
  Value mask = b.input(4), scoreBias = b.input(5), pastKey = b.input(6), pastValue = b.input(7);
  if (b.input(8) || b.input(9))
    return {b.fail("shared cache buffers are not supported")};
  int64_t heads = b.integer("num_heads", 0);
  if (bias && (b.rank(q) != 3 || b.dim(q, 2) == dynamic))
    return {b.fail("a bias of packed queries is not supported")};
  if (bias) { // [Q | K | V]
    int64_t width = b.dim(q, 2);
    q = b.add(q, b.slice(bias, 0, 0, width));
    if (k && b.rank(k) == 3)
      k = b.add(k, b.slice(bias, 0, width, 2 * width));
    if (v && b.rank(v) == 3)
      v = b.add(v, b.slice(bias, 0, 2 * width, toTheEnd));
  }
  auto headsOf = [&](Value x) { // [B, L, H * D], [B, L, H, D] packed, or [B, H, L, D] already
    return b.rank(x) == 3 ? splitHeads(b, x, heads) : x;
  };
  if (b.rank(q) == 5) { // [B, S, H, 3, D]
    Value packed = q;
    auto turned = [&](int64_t i) { return b.transpose(part(b, packed, 3, i), {0, 2, 1, 3}); };
    q = turned(0);
    k = turned(1);
    v = turned(2);
  } else if (k && b.rank(k) == 5) { // [B, L, H, 2, D]
    Value packed = k;
    q = headsOf(q);
    k = b.transpose(part(b, packed, 3, 0), {0, 2, 1, 3});
    v = b.transpose(part(b, packed, 3, 1), {0, 2, 1, 3});
  } else {
    if (!k || !v)
      return {b.fail("it has no keys or values")};
    q = headsOf(q);
    k = headsOf(k);
    v = headsOf(v);
  }
  if (pastKey && pastValue) {
    k = b.concat({pastKey, k}, 2);
    v = b.concat({pastValue, v}, 2);
  }
  Value total = b.dimOf(k, 2), length = b.dimOf(q, 2);
  Attention core{q, k, v, b.real("scale", 0), 0, {}, {}, {}};
  if (mask)
    core.bias = maskBias(b, mask, total, b.real("mask_filter_value", -10000));
  core.bias = plus(b, core.bias, scoreBias);
  if (b.integer("unidirectional", 0))
    core.allowed = causalMask(b, length, total);
  Attended attended = attend(b, core);
  Values results{joinHeads(b, attended.output), k, v, attended.scores};
  results.resize(b.node()->getNumResults());
  return results;
}

// Attention(x, weights [W, Q + K + V], bias, mask, past [2, B, H, P, D], score bias)
Values contribAttention(Builder &b) {
  Value x = b.input(0), mask = b.input(3), past = b.input(4);
  int64_t heads = b.integer("num_heads", 0), width = b.dim(b.input(1), 1);
  if (b.integer("do_rotary", 0) || b.input(6) || width == dynamic)
    return {b.fail("its rotary form and shared cache buffers are not supported")};
  SmallVector<int64_t> sizes =
      b.ints("qkv_hidden_sizes").value_or(SmallVector<int64_t>(3, width / 3));
  if (sizes.size() != 3)
    return {b.fail("qkv_hidden_sizes needs 3 numbers")};
  Value packed = product(b, x, b.input(1), b.input(2));
  int64_t first = 0;
  Values parts;
  for (int64_t size : sizes) {
    parts.push_back(splitHeads(b, b.slice(packed, 2, first, first + size), heads));
    first += size;
  }
  Value k = parts[1], v = parts[2];
  if (past) {
    k = b.concat({part(b, past, 0, 0), k}, 2);
    v = b.concat({part(b, past, 0, 1), v}, 2);
  }
  Value total = b.dimOf(k, 2), length = b.dimOf(x, 1);
  Attention core{parts[0], k, v, b.real("scale", 0), 0, {}, {}, {}};
  if (mask)
    core.bias = maskBias(b, mask, total, b.real("mask_filter_value", -10000));
  core.bias = plus(b, core.bias, b.input(5));
  if (b.integer("unidirectional", 0))
    core.allowed = causalMask(b, length, total);
  Values results{joinHeads(b, attend(b, core).output)};
  if (b.node()->getNumResults() > 1)
    results.push_back(b.concat({b.unsqueeze(k, {0}), b.unsqueeze(v, {0})}, 0));
  return results;
}

} // namespace smelt::tensor
