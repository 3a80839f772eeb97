// The float executor against the float64 reference on every kind of model.
#include "calibration/collect.h"
#include "tests/calibration/random_model.h"
#include "tests/reference/reference.h"

#include <cmath>
#include <gtest/gtest.h>

namespace smelt {
namespace {

std::vector<double> exactLogits(const Graph &graph, const std::vector<int32_t> &tokens,
                                const std::vector<int32_t> &rows) {
  std::vector<BatchToken> batch;
  for (size_t i = 0; i < tokens.size(); ++i)
    batch.push_back({tokens[i], int32_t(i), 0});
  return referenceLogits(graph, batch, rows);
}

void expectClose(const ModelShape &shape, int64_t length) {
  RandomModel model = makeRandomModel(shape);
  const std::vector<int32_t> tokens = randomTokens(length, shape.vocab, 3);
  const std::vector<int32_t> rows = {0, int32_t(length / 2), int32_t(length - 1)};
  Result<std::vector<float>> logits = floatLogits(model.graph, tokens, rows, 2);
  ASSERT_TRUE(logits.ok()) << logits.status().message();
  const std::vector<double> exact = exactLogits(model.graph, tokens, rows);
  ASSERT_EQ(logits->size(), exact.size());
  double largest = 0;
  for (double value : exact)
    largest = std::max(largest, std::fabs(value));
  // Rounding errors of some hundred float operations in sequence, relative to the largest logit.
  for (size_t i = 0; i < exact.size(); ++i)
    ASSERT_NEAR((*logits)[i], exact[i], 2e-5 * largest) << i;
}

TEST(FloatModel, Plain) { expectClose({}, 37); }
TEST(FloatModel, LongerThanOneQueryBlock) {
  ModelShape shape;
  shape.layers = 1;
  expectClose(shape, 200);
}
TEST(FloatModel, LayerNormBiasFusedInterleaved) {
  ModelShape shape;
  shape.layerNorm = shape.bias = shape.fusedQkv = shape.interleaved = true;
  expectClose(shape, 20);
}
TEST(FloatModel, HeadNormWindowCapsPartialRotary) {
  ModelShape shape;
  shape.headNorm = true;
  shape.window = 5;
  shape.attentionCap = 3;
  shape.logitCap = 10;
  shape.embeddingScale = 4;
  shape.rotaryDim = 8;
  expectClose(shape, 150);
}
TEST(FloatModel, HalfWeightsTransposedParallel) {
  ModelShape shape;
  shape.transposed = shape.parallel = true;
  for (DataType type : {DataType::F32, DataType::F16, DataType::BF16}) {
    shape.type = type;
    expectClose(shape, 12);
  }
}
TEST(FloatModel, LearnedPositions) {
  ModelShape shape;
  shape.positionOffset = 2;
  expectClose(shape, 30);
}
TEST(FloatModel, Slopes) {
  ModelShape shape;
  shape.slopes = true;
  expectClose(shape, 150);
}
TEST(FloatModel, EveryActivation) {
  for (ActivationKind kind :
       {ActivationKind::Identity, ActivationKind::Relu, ActivationKind::Relu2, ActivationKind::Silu,
        ActivationKind::GeluTanh, ActivationKind::GeluErf})
    for (bool gated : {false, true}) {
      ModelShape shape;
      shape.layers = 1;
      shape.activation = kind;
      shape.gated = gated;
      expectClose(shape, 9);
    }
}

TEST(FloatModel, SameBitsForAnyThreads) {
  ModelShape shape;
  shape.width = 256;
  shape.inner = 400;
  RandomModel model = makeRandomModel(shape);
  const std::vector<int32_t> tokens = randomTokens(300, shape.vocab, 4);
  Result<std::vector<float>> one = floatLogits(model.graph, tokens, {7, 299}, 1);
  Result<std::vector<float>> three = floatLogits(model.graph, tokens, {7, 299}, 3);
  ASSERT_TRUE(one.ok() && three.ok());
  EXPECT_EQ(*one, *three);
}

TEST(FloatModel, RefusesBadInput) {
  RandomModel model = makeRandomModel({});
  EXPECT_FALSE(floatLogits(model.graph, {}, {}, 1).ok());
  EXPECT_FALSE(floatLogits(model.graph, {1, 2}, {2}, 1).ok());
  EXPECT_FALSE(floatLogits(model.graph, {1, 61}, {0}, 1).ok());
  EXPECT_FALSE(floatLogits(model.graph, {1, -1}, {0}, 1).ok());
  Result<std::vector<float>> tooLong = floatLogits(model.graph, randomTokens(701, 61, 1), {0}, 1);
  ASSERT_FALSE(tooLong.ok());
  EXPECT_NE(tooLong.status().message().find("rotation table"), std::string::npos);
}

} // namespace
} // namespace smelt
