// Normalisations.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

struct Normalized {
  Value y, mean, inverse;
};

/// (x - mean) / sqrt(var + epsilon) * scale + bias; without `isCentred` the mean counts as 0.
Normalized normalize(Builder &b, Value x, ArrayRef<int64_t> axes, double epsilon, bool isCentred,
                     Value scale, Value bias) {
  Normalized result;
  Value centred = x;
  if (isCentred) {
    result.mean = b.reduce("ReduceMean", x, axes);
    centred = b.sub(x, result.mean);
  }
  Value variance = b.reduce("ReduceMean", b.mul(centred, centred), axes);
  result.inverse = b.unary("Reciprocal", b.unary("Sqrt", b.add(variance, epsilon)));
  result.y = b.mul(centred, result.inverse);
  if (scale)
    result.y = b.mul(result.y, scale);
  if (bias)
    result.y = b.add(result.y, bias);
  return result;
}

SmallVector<int64_t> axesFrom(int64_t first, int64_t rank) {
  SmallVector<int64_t> axes;
  for (int64_t i = first; i < rank; ++i)
    axes.push_back(i);
  return axes;
}

} // namespace

Values layerNorm(Builder &b) {
  Value x = b.input(0);
  int64_t axis = b.axis(b.integer("axis", -1), b.rank(x));
  Normalized n = normalize(b, x, axesFrom(axis, b.rank(x)), b.real("epsilon", 1e-5), true,
                           b.input(1), b.input(2));
  Values results{n.y, n.mean, n.inverse};
  results.resize(b.node()->getNumResults());
  return results;
}

// RMSNormalization(x, w); SimplifiedLayerNormalization(x, w) -> y, 1 / rms
Values rmsNorm(Builder &b) {
  Value x = b.input(0);
  int64_t axis = b.axis(b.integer("axis", -1), b.rank(x));
  Normalized n =
      normalize(b, x, axesFrom(axis, b.rank(x)), b.real("epsilon", 1e-5), false, b.input(1), {});
  Values results{n.y, n.inverse};
  results.resize(b.node()->getNumResults());
  return results;
}

// SkipLayerNormalization(x, skip, gamma, beta, bias) -> y, mean, 1 / std, x + skip + bias
// SkipSimplifiedLayerNormalization(x, skip, gamma, bias) -> the same without mean
Values skipNorm(Builder &b) {
  bool isCentred = b.node().getType() == "SkipLayerNormalization";
  Value sum = b.add(b.input(0), b.input(1));
  if (Value bias = b.input(isCentred ? 4 : 3))
    sum = b.add(sum, bias);
  Normalized n = normalize(b, sum, {b.rank(sum) - 1}, b.real("epsilon", 1e-12), isCentred,
                           b.input(2), isCentred ? b.input(3) : Value());
  Values results{n.y, n.mean, n.inverse, sum};
  results.resize(b.node()->getNumResults());
  return results;
}

// EmbedLayerNormalization(ids, segments, words, positions, segment table, gamma, beta, mask,
// position ids) -> y, valid tokens of each row, sum of the embeddings
Values embedNorm(Builder &b) {
  Value ids = b.input(0), segments = b.input(1), positions = b.input(8);
  if (!positions)
    positions = b.unsqueeze(b.range(b.dimOf(ids, 1)), {0});
  Value sum = b.add(lookUp(b, b.input(2), ids), lookUp(b, b.input(3), positions));
  if (segments)
    sum = b.add(sum, lookUp(b, b.input(4), segments));
  Normalized n = normalize(b, sum, {2}, b.real("epsilon", 1e-12), true, b.input(5), b.input(6));
  Values results{n.y};
  if (b.node()->getNumResults() > 1) {
    Value counts;
    if (b.uses(1)) {
      Value mask = b.input(7);
      counts = mask ? b.reduce("ReduceSum", b.cast(mask, b.at.getI32Type()), {1}, false)
                    : b.fail("its mask index is read, but it has no mask");
    }
    results.push_back(counts);
  }
  if (b.node()->getNumResults() > 2)
    results.push_back(sum);
  return results;
}

Values batchNorm(Builder &b) {
  StringRef type = b.node().getType();
  Value x = b.input(0);
  int64_t rank = b.rank(x);
  auto perChannel = [&](Value v) {
    SmallVector<int64_t> added;
    for (int64_t i = 0; i + 2 < rank; ++i)
      added.push_back(i + 1);
    return b.unsqueeze(v, added);
  };
  double epsilon = b.real("epsilon", 1e-5);
  if (type == "BatchNormalization") { // with the statistics of training
    if (b.integer("training_mode", 0) || rank < 2)
      return {b.fail("only inference of [N, C, ...] is supported")};
    Value inverse = b.unary("Reciprocal", b.unary("Sqrt", b.add(perChannel(b.input(4)), epsilon)));
    Value y = b.mul(b.sub(x, perChannel(b.input(3))), inverse);
    Values results{b.add(b.mul(y, perChannel(b.input(1))), perChannel(b.input(2)))};
    results.resize(b.node()->getNumResults());
    return results;
  }
  if (type == "InstanceNormalization")
    return {normalize(b, x, axesFrom(2, rank), epsilon, true, perChannel(b.input(1)),
                      perChannel(b.input(2)))
                .y};
  // Groups of channels: [N, G, C / G * ...]
  int64_t groups = b.integer("num_groups", 1);
  Value grouped = b.reshape(x, b.concat({b.dimsOf(x, 0, 1), b.i64({groups, -1})}, 0));
  Value y = b.reshape(normalize(b, grouped, {2}, epsilon, true, {}, {}).y, b.shapeOf(x), true);
  if (b.opset() < 21)
    return {b.fail("scales per group, as before opset 21, are not supported")};
  return {b.add(b.mul(y, perChannel(b.input(1))), perChannel(b.input(2)))};
}

} // namespace smelt::tensor
