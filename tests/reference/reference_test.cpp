// The reference itself on values that can be worked out by hand.
#include "tests/reference/reference.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

namespace smelt {
namespace {

/// A graph whose first value is an embedding that holds the given rows, so that one op can be tried
/// on them.
struct OneOp {
  Graph graph;
  std::vector<std::vector<float>> storage;
  int64_t rows;

  int32_t addWeight(int64_t count, int64_t cols, std::vector<float> values) {
    storage.push_back(std::move(values));
    graph.weights.push_back({"w", nullptr, DataType::F32, count, cols, cols, 1});
    for (size_t i = 0; i < storage.size(); ++i)
      graph.weights[i].data = reinterpret_cast<const std::byte *>(storage[i].data());
    return int32_t(storage.size()) - 1;
  }
  OneOp(int64_t rows, int64_t cols, std::vector<float> values) : rows(rows) {
    addWeight(rows, cols, std::move(values));
    graph.nodes.push_back({NodeKind::Embedding, "input", {}, {0}, cols});
    graph.vocabSize = rows;
  }
  std::vector<double> run(Node node, const ReferenceOptions &options = {},
                          std::vector<int32_t> slots = {}) {
    graph.nodes.push_back(std::move(node));
    EXPECT_TRUE(checkGraph(graph).ok()) << checkGraph(graph).message();
    std::vector<BatchToken> tokens;
    std::vector<int32_t> wanted;
    for (int32_t i = 0; i < rows; ++i) {
      tokens.push_back({i, i, slots.empty() ? 0 : slots[i]});
      wanted.push_back(i);
    }
    return referenceLogits(graph, tokens, wanted, options);
  }
};

void expectNear(const std::vector<double> &got, const std::vector<double> &want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], want[i], tolerance) << i;
}

TEST(Reference, LinearWithPartsAndBias) {
  OneOp op(1, 2, {3, 4});
  Node node{NodeKind::Linear, "linear", {0}, {}, 3};
  node.weights = {op.addWeight(1, 2, {1, 0}), op.addWeight(2, 2, {0, 2, 1, -1}),
                  op.addWeight(1, 3, {10, 20, 30})};
  node.hasBias = true;
  expectNear(op.run(node), {13, 28, 29}, 0);
}

TEST(Reference, SlopesWeighKeysByDistance) {
  // Two tokens with keys 0: their weights at the second token are 1 : exp(-slope).
  OneOp op(2, 1, {0, 0});
  op.graph.nodes.push_back({NodeKind::Embedding, "v", {}, {op.addWeight(2, 1, {1, 3})}, 1});
  Node node{NodeKind::Attention, "attention", {0, 0, 1}, {}, 1};
  node.heads = node.kvHeads = node.headDim = 1;
  node.slopes = {std::log(3.0)};
  expectNear(op.run(node), {1, (1.0 / 3 * 1 + 3) / (4.0 / 3)}, 1e-12);
}

TEST(Reference, LearnedPositions) {
  OneOp op(2, 2, {0, 0, 0, 0});
  Node node{NodeKind::Embedding, "positions", {}, {}, 2};
  node.weights = {op.addWeight(3, 2, {1, 2, 3, 4, 5, 6})};
  node.positionOffset = 1;
  expectNear(op.run(node), {3, 4, 5, 6}, 0);
}

TEST(Reference, Norms) {
  OneOp rms(1, 2, {3, 4});
  Node node{NodeKind::RmsNorm, "rms", {0}, {rms.addWeight(1, 2, {1, 2})}, 2};
  node.epsilon = 0.5;
  expectNear(rms.run(node), {3 / std::sqrt(13.0), 8 / std::sqrt(13.0)}, 1e-15);

  OneOp layer(1, 2, {1, 5}); // mean 3, variance 4
  Node centred{NodeKind::LayerNorm, "layer", {0}, {}, 2};
  centred.weights = {layer.addWeight(1, 2, {1, 2}), layer.addWeight(1, 2, {10, 20})};
  centred.epsilon = 5;
  expectNear(layer.run(centred), {10 - 2 / 3.0, 20 + 4 / 3.0}, 1e-15);

  OneOp head(1, 4, {3, 4, 6, 8});
  Node perHead{NodeKind::HeadNorm, "head", {0}, {head.addWeight(1, 2, {1, 1})}, 4};
  perHead.headDim = 2;
  const double first = std::sqrt(12.5), second = std::sqrt(50.0);
  expectNear(head.run(perHead), {3 / first, 4 / first, 6 / second, 8 / second}, 1e-15);
}

TEST(Reference, RopeBothLayouts) {
  for (bool interleaved : {false, true}) {
    OneOp op(2, 5, {1, 2, 3, 4, 9, 1, 2, 3, 4, 9});
    Node node{NodeKind::Rope, "rope", {0}, {}, 5};
    // Position 1 turns the first pair by a quarter and leaves the second.
    node.weights = {op.addWeight(2, 2, {1, 1, 0, 1}), op.addWeight(2, 2, {0, 0, 1, 0})};
    node.headDim = 5;
    node.rotaryDim = 4;
    node.interleaved = interleaved;
    std::vector<double> want = {1, 2, 3, 4, 9};
    for (double v :
         interleaved ? std::vector<double>{-2, 1, 3, 4, 9} : std::vector<double>{-3, 2, 1, 4, 9})
      want.push_back(v);
    expectNear(op.run(node), want, 0);
  }
}

TEST(Reference, AttentionWeighsByScoresWithinSlotAndWindow) {
  // One head of one column; q = k = v = x.
  const std::vector<float> x = {1, 2, 3};
  Node node{NodeKind::Attention, "attention", {0, 0, 0}, {}, 1};
  node.heads = node.kvHeads = node.headDim = 1;
  node.scalar = 0.5;
  auto weigh = [](double q, std::vector<double> keys, double cap) {
    double total = 0, sum = 0;
    for (double k : keys) {
      double score = 0.5 * q * k;
      if (cap != 0)
        score = cap * std::tanh(score / cap);
      total += std::exp(score);
      sum += std::exp(score) * k;
    }
    return sum / total;
  };
  expectNear(OneOp(3, 1, x).run(node), {1, weigh(2, {1, 2}, 0), weigh(3, {1, 2, 3}, 0)}, 1e-14);
  expectNear(OneOp(3, 1, x).run(node, {}, {0, 1, 0}), {1, 2, weigh(3, {1, 3}, 0)}, 1e-14);
  node.window = 2;
  node.softcap = 0.7;
  expectNear(OneOp(3, 1, x).run(node), {1, weigh(2, {1, 2}, 0.7), weigh(3, {2, 3}, 0.7)}, 1e-14);
}

TEST(Reference, QueryHeadsShareKeys) {
  OneOp op(1, 4, {1, 2, 3, 4}); // one token: attention returns its value
  Node kv{NodeKind::Slice, "kv", {0}, {}, 2};
  kv.first = 1;
  op.graph.nodes.push_back(kv);
  Node node{NodeKind::Attention, "attention", {0, 1, 1}, {}, 4};
  node.heads = 4;
  node.kvHeads = 2;
  node.headDim = 1;
  expectNear(op.run(node), {2, 2, 3, 3}, 1e-15);
}

TEST(Reference, Elementwise) {
  const std::vector<float> x = {-1, 2};
  auto apply = [&](NodeKind kind, ActivationKind activation, double scalar, size_t inputs) {
    Node node{kind, "op", std::vector<int32_t>(inputs, 0), {}, 2};
    node.activation = activation;
    node.scalar = scalar;
    return OneOp(1, 2, x).run(node);
  };
  using A = ActivationKind;
  auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  expectNear(apply(NodeKind::Add, A::Identity, 1, 2), {-2, 4}, 0);
  expectNear(apply(NodeKind::Mul, A::Identity, 1, 2), {1, 4}, 0);
  expectNear(apply(NodeKind::Scale, A::Identity, 2.5, 1), {-2.5, 5}, 0);
  expectNear(apply(NodeKind::Softcap, A::Identity, 3, 1),
             {-3 * std::tanh(1 / 3.0), 3 * std::tanh(2 / 3.0)}, 1e-15);
  expectNear(apply(NodeKind::Activation, A::Relu, 1, 1), {0, 2}, 0);
  expectNear(apply(NodeKind::Activation, A::Relu2, 1, 1), {0, 4}, 0);
  expectNear(apply(NodeKind::Gated, A::Silu, 1, 2), {sigmoid(-1), 4 * sigmoid(2)}, 1e-15);
  // erf(1/sqrt 2) = 0.682689..., erf(2/sqrt 2) = 0.954499...: the shares of a normal within one and
  // two deviations.
  expectNear(apply(NodeKind::Activation, A::GeluErf, 1, 1),
             {-0.5 * (1 - 0.682689492137), 0.5 * 2 * 1.954499736104}, 1e-11);
  // Values of the tanh form from its definition, worked out with 20 digits elsewhere.
  expectNear(apply(NodeKind::Activation, A::GeluTanh, 1, 1), {-0.158808009, 1.954597694}, 1e-9);
}

TEST(Reference, RoundsActivationsAsDeclared) {
  std::vector<double> row(40, 0.0);
  row[0] = 127;
  row[1] = 0.5;  // ties to even: 0
  row[2] = 1.5;  // 2
  row[32] = 254; // second group: scale 2
  row[33] = 3;   // 1.5 ties to 2: 4
  std::vector<double> whole = row;
  roundActivations(ActivationFormat::A8G32, row);
  EXPECT_EQ(row[0], 127);
  EXPECT_EQ(row[1], 0);
  EXPECT_EQ(row[2], 2);
  EXPECT_EQ(row[3], 0);
  EXPECT_EQ(row[32], 254);
  EXPECT_EQ(row[33], 4);
  roundActivations(ActivationFormat::A8T, whole);
  EXPECT_EQ(whole[0], 128); // scale 2: 63.5 ties to 64
  EXPECT_EQ(whole[2], 2);
  std::vector<double> fine = {32512, 0.5, -1.5, -32511};
  roundActivations(ActivationFormat::A16G32, fine);
  EXPECT_EQ(fine, (std::vector<double>{32512, 0, -2, -32511}));
  std::vector<double> exact = {0.1, 0.2};
  roundActivations(ActivationFormat::F32, exact);
  EXPECT_EQ(exact[0], 0.1);
}

TEST(Reference, UsesDeclaredWeights) {
  OneOp op(1, 2, {1, 100});
  Node node{NodeKind::Linear, "linear", {0}, {op.addWeight(1, 2, {1, 1})}, 1};
  ReferenceOptions options;
  options.declared = [](const Node &of) -> std::optional<DeclaredLinear> {
    if (of.kind != NodeKind::Linear)
      return std::nullopt;
    DeclaredLinear declared;
    declared.activation = ActivationFormat::A8G32;
    declared.weightRow = [](int64_t, std::span<float> out) { out[0] = 2, out[1] = 3; };
    return declared;
  };
  const double scale = double(100.0f / 127.0f);
  expectNear(op.run(node, options), {2 * scale + 3 * 127 * scale}, 1e-12);
}

} // namespace
} // namespace smelt
