// ai.onnx Attention: https://onnx.ai/onnx/operators/onnx__Attention.html
#include "passes/tensor/decompose/decompose.h"

#include <cmath>

using namespace mlir;

namespace smelt::tensor {

namespace {

/// Key j as [1, 1, 1, T], query i as [1, 1, S, 1].
Value keyIndex(Builder &b, Value total) { return b.unsqueeze(b.range(total), {0, 1, 2}); }
Value queryIndex(Builder &b, Value length) { return b.unsqueeze(b.range(length), {0, 1, 3}); }

/// The mask up to T keys: what it lacks is not seen.
Value padMask(Builder &b, Value mask, Value total, bool isBoolean) {
  Value missing = b.sub(total, b.dimOf(mask, -1));
  if (b.constantInteger(missing) == 0)
    return mask;
  int64_t rank = b.rank(mask);
  SmallVector<int64_t> none(size_t(2 * rank - 1), 0);
  Value pads = b.concat({b.i64(none), b.unsqueeze(missing, {0})}, 0);
  Value filler = isBoolean ? b.like(mask, 0) : b.like(mask, -INFINITY);
  return b.make("Pad", {mask, pads, filler}, Attributes().integer("mode", 0).ints("axes", {}));
}

Value both(Builder &b, Value left, Value right) {
  return left ? b.make("And", {left, right}) : right;
}

} // namespace

Values attention(Builder &b) {
  Value q = b.input(0), k = b.input(1), v = b.input(2), mask = b.input(3);
  Value pastKey = b.input(4), pastValue = b.input(5), lengths = b.input(6);
  bool isFlat = b.rank(q) == 3;
  if (isFlat) {
    q = splitHeads(b, q, b.integer("q_num_heads", 0));
    k = splitHeads(b, k, b.integer("kv_num_heads", 0));
    v = splitHeads(b, v, b.integer("kv_num_heads", 0));
  }
  Value offset = b.i64(0); // keys before the first query
  if (pastKey && pastValue) {
    offset = b.dimOf(pastKey, 2);
    k = b.concat({pastKey, k}, 2);
    v = b.concat({pastValue, v}, 2);
  }
  Value total = b.dimOf(k, 2), length = b.dimOf(q, 2);
  if (lengths) {
    lengths = b.unsqueeze(b.toI64(lengths), {1, 2, 3}); // [B, 1, 1, 1]
    if (!pastKey)
      offset = b.sub(lengths, length);
  }
  Attention core{q, k, v, b.real("scale", 0), b.real("softcap", 0), {}, {}, {}};
  if (mask) {
    bool isBoolean = b.element(mask).isInteger(1);
    mask = padMask(b, mask, total, isBoolean);
    (isBoolean ? core.allowed : core.bias) = mask;
  }
  // key j <= query i + offset; window: i + offset - left <= j <= i + offset + right
  Value at = b.add(queryIndex(b, length), offset), key = keyIndex(b, total);
  int64_t left = b.integer("left_window_size", -1), right = b.integer("right_window_size", -1);
  if (b.integer("is_causal", 0))
    core.allowed = both(b, core.allowed, b.make("LessOrEqual", {key, at}));
  if (left >= 0)
    core.allowed = both(b, core.allowed, b.make("LessOrEqual", {b.sub(at, double(left)), key}));
  if (right >= 0)
    core.allowed = both(b, core.allowed, b.make("LessOrEqual", {key, b.add(at, double(right))}));
  if (lengths)
    core.allowed = both(b, core.allowed, b.make("Less", {key, lengths}));
  Attended attended = attend(b, core);
  Values results{isFlat ? joinHeads(b, attended.output) : attended.output, k, v};
  if (b.node()->getNumResults() > 3) {
    Value shown[] = {attended.scores, attended.capped, attended.biased, attended.probabilities};
    int64_t mode = b.integer("qk_matmul_output_mode", 0);
    if (mode < 0 || mode > 3)
      return {b.fail("qk_matmul_output_mode " + llvm::Twine(mode) + " is not known")};
    results.push_back(shown[mode]);
  }
  results.resize(b.node()->getNumResults());
  return results;
}

} // namespace smelt::tensor
