// Scaled dot product attention in primitive steps.
#include "passes/tensor/decompose/decompose.h"

#include <cmath>

using namespace mlir;

namespace smelt::tensor {

Value splitHeads(Builder &b, Value x, int64_t heads) {
  if (b.failed())
    return {};
  if (b.rank(x) != 3 || heads <= 0)
    return b.fail("it needs [batch, sequence, heads * size] and the number of heads");
  int64_t width = b.dim(x, 2);
  if (width != dynamic && width % heads)
    return b.fail(llvm::Twine(heads) + " heads do not divide " + llvm::Twine(width) + " columns");
  Value size = width != dynamic ? b.i64(ArrayRef<int64_t>(width / heads))
                                : b.div(b.dimsOf(x, 2, 1), double(heads));
  Value shape = b.concat({b.dimsOf(x, 0, 2), b.i64(ArrayRef<int64_t>(heads)), size}, 0);
  return b.transpose(b.reshape(x, shape, true), {0, 2, 1, 3});
}

Value joinHeads(Builder &b, Value x) {
  if (b.failed())
    return {};
  Value turned = b.transpose(x, {0, 2, 1, 3});
  int64_t heads = b.dim(x, 1), size = b.dim(x, 3);
  Value width = heads != dynamic && size != dynamic ? b.i64(ArrayRef<int64_t>(heads * size))
                                                    : b.mul(b.dimsOf(x, 1, 1), b.dimsOf(x, 3, 1));
  return b.reshape(turned, b.concat({b.dimsOf(turned, 0, 2), width}, 0), true);
}

Attended attend(Builder &b, const Attention &attention) {
  Attended result;
  Value q = attention.query, k = attention.key, v = attention.value;
  if (b.rank(q) != 4 || b.rank(k) != 4 || b.rank(v) != 4) {
    b.fail("attention needs queries, keys and values of 4 axes");
    return result;
  }
  // score = scale * q . k; the queries of the heads that share keys count as rows of one product
  Value scale = attention.scale != 0 ? b.like(q, attention.scale) : Value();
  if (!scale && b.dim(q, 3) != dynamic)
    scale = b.like(q, 1 / std::sqrt(double(b.dim(q, 3))));
  if (!scale)
    scale = b.unary("Reciprocal", b.unary("Sqrt", b.toFloat(b.dimOf(q, 3))));
  q = b.mul(q, scale);
  bool isGrouped = b.dim(q, 1) == dynamic || b.dim(q, 1) != b.dim(k, 1);
  Value batch = b.dimsOf(q, 0, 1), heads = b.dimsOf(q, 1, 1), length = b.dimsOf(q, 2, 1);
  Value shared = b.dimsOf(k, 1, 1), total = b.dimsOf(k, 2, 1);
  Value grouped = b.concat({batch, shared, b.mul(b.div(heads, shared), length)}, 0);
  if (isGrouped)
    q = b.reshape(q, b.concat({grouped, b.dimsOf(q, 3, 1)}, 0), true);
  Value scores = b.matmul(q, b.transpose(k, {0, 1, 3, 2}));
  if (isGrouped)
    scores = b.reshape(scores, b.concat({batch, heads, length, total}, 0), true);
  result.scores = scores;
  // softcap * tanh(score / softcap)
  if (attention.softcap != 0)
    scores = b.mul(b.unary("Tanh", b.div(scores, attention.softcap)), attention.softcap);
  result.capped = scores;
  if (attention.bias)
    scores = b.add(scores, attention.bias);
  if (attention.allowed)
    scores = b.where(attention.allowed, scores, b.like(scores, -INFINITY));
  result.biased = scores;
  // e^(score - max) / (sum e^(score - max) + e^(sink - max)); a row that sees nothing gives zeros
  Value most = b.reduce("ReduceMax", scores, {3});
  if (attention.sink)
    most = b.make("Max", {most, attention.sink});
  most = b.make("Max", {most, b.like(scores, -3.4e38)});
  Value weights = b.unary("Exp", b.sub(scores, most));
  Value sum = b.reduce("ReduceSum", weights, {3});
  if (attention.sink)
    sum = b.add(sum, b.unary("Exp", b.sub(attention.sink, most)));
  weights = b.div(weights, b.make("Max", {sum, b.like(sum, 1e-30)}));
  result.probabilities = weights;
  if (isGrouped)
    weights = b.reshape(weights, b.concat({grouped, total}, 0), true);
  Value output = b.matmul(weights, v);
  if (isGrouped)
    output = b.reshape(output, b.concat({batch, heads, length, b.dimsOf(v, 3, 1)}, 0), true);
  result.output = output;
  return result;
}

} // namespace smelt::tensor
