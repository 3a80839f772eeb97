// Predicted divergences against those of the float64 reference with the same errors.
#include "calibration/sensitivity.h"
#include "tests/calibration/random_model.h"
#include "tests/reference/reference.h"

#include <cmath>
#include <gtest/gtest.h>

namespace smelt {
namespace {

/// Single tokens, so that errors at other tokens play no part and the estimate has no bias.
std::vector<std::vector<int32_t>> singleTokens(int64_t count, int64_t vocab) {
  std::vector<std::vector<int32_t>> samples;
  for (int32_t token : randomTokens(count, vocab, 9))
    samples.push_back({token});
  return samples;
}

/// Row `row` of a node's matrix with random errors, as some format might store it.
void storedRow(const Graph &graph, int32_t index, int64_t row, float *out) {
  const Node &node = graph.nodes[index];
  size_t part = 0;
  int64_t at = row;
  while (node.kind == NodeKind::Linear && at >= graph.weights[node.weights[part]].rows)
    at -= graph.weights[node.weights[part++]].rows;
  const WeightView &view = graph.weights[node.weights[part]];
  readRows(view, at, 1, out);
  std::mt19937_64 random(uint64_t(index) * 1000 + uint64_t(row));
  std::normal_distribution<float> normal(0, 0.002f);
  for (int64_t k = 0; k < view.cols; ++k)
    out[k] += normal(random);
}

StoredRows storedRows(const Graph &graph) {
  return [&graph](int32_t node, int64_t first, int64_t count, float *out) -> Status {
    const int64_t cols = graph.weights[graph.nodes[node].weights[0]].cols;
    for (int64_t row = 0; row < count; ++row)
      storedRow(graph, node, first + row, out + row * cols);
    return {};
  };
}

/// Mean divergence of every row of logits from the exact ones.
double divergence(const std::vector<double> &exact, const std::vector<double> &other,
                  int64_t vocab) {
  double total = 0;
  for (size_t row = 0; row < exact.size(); row += size_t(vocab)) {
    double exactSum = 0, otherSum = 0;
    for (int64_t k = 0; k < vocab; ++k) {
      exactSum += std::exp(exact[row + k]);
      otherSum += std::exp(other[row + k]);
    }
    for (int64_t k = 0; k < vocab; ++k) {
      const double logP = exact[row + k] - std::log(exactSum);
      total += std::exp(logP) * (logP - (other[row + k] - std::log(otherSum)));
    }
  }
  return total / double(exact.size() / size_t(vocab));
}

class Oracle {
public:
  Oracle(const Graph &graph, const std::vector<std::vector<int32_t>> &samples) : graph(graph) {
    for (size_t slot = 0; slot < samples.size(); ++slot)
      for (size_t i = 0; i < samples[slot].size(); ++i) {
        rows.push_back(int32_t(batch.size()));
        batch.push_back({samples[slot][i], int32_t(i), int32_t(slot)});
      }
    exact = referenceLogits(graph, batch, rows);
  }

  /// Of one node with stored weights, or with rounded inputs.
  double kl(int32_t index, std::optional<ActivationFormat> activation) const {
    ReferenceOptions options;
    options.declared = [&](const Node &node) -> std::optional<DeclaredLinear> {
      if (&node != &graph.nodes[index])
        return std::nullopt;
      DeclaredLinear declared;
      if (activation)
        declared.activation = *activation;
      else
        declared.weightRow = [&](int64_t row, std::span<float> out) {
          storedRow(graph, index, row, out.data());
        };
      return declared;
    };
    return divergence(exact, referenceLogits(graph, batch, rows, options), graph.vocabSize);
  }

private:
  const Graph &graph;
  std::vector<BatchToken> batch;
  std::vector<int32_t> rows;
  std::vector<double> exact;
};

ModelShape shape() {
  ModelShape shape;
  shape.vocab = 12;
  shape.width = 40; // more than one group of inputs
  shape.layers = 1;
  shape.heads = 4;
  shape.kvHeads = 2;
  shape.headDim = shape.rotaryDim = 10;
  shape.inner = 48;
  shape.fusedQkv = true;
  return shape;
}

/// Its logits spread over about one unit, so that no label is certain.
RandomModel uncertainModel() {
  RandomModel model = makeRandomModel(shape());
  const WeightView &table = model.graph.weights[model.graph.nodes[0].weights[0]];
  float *values = const_cast<float *>(reinterpret_cast<const float *>(table.data));
  for (int64_t i = 0; i < table.rows * table.cols; ++i)
    values[i] *= 0.15f;
  return model;
}

TEST(Sensitivity, PredictsTheDivergence) {
  RandomModel model = uncertainModel();
  const std::vector<std::vector<int32_t>> samples = singleTokens(500, 12);
  SensitivityOptions options;
  options.windows = 500;
  Result<Sensitivity> found =
      measureSensitivity(model.graph, samples, storedRows(model.graph), options);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->tokens, 500);
  ASSERT_EQ(found->nodes.size(), 1u + 5 + 1);
  const Oracle oracle(model.graph, samples);
  int compared = 0;
  for (const NodeSensitivity &node : found->nodes) {
    const bool linear = model.graph.nodes[node.node].kind == NodeKind::Linear;
    // 500 squares of a variable whose fourth moment is up to 20 times the second's square: the mean
    // has a standard deviation of up to 20 %.
    const double kl = oracle.kl(node.node, std::nullopt);
    EXPECT_NEAR(node.kl, kl, 0.5 * kl + 1e-12) << node.name;
    compared += kl > 1e-9;
    EXPECT_EQ(node.partKl.size(), linear ? model.graph.nodes[node.node].weights.size() : 1u);
    if (!linear)
      continue;
    const double groups = oracle.kl(node.node, ActivationFormat::A8G32);
    const double whole = oracle.kl(node.node, ActivationFormat::A8T);
    const double wide = oracle.kl(node.node, ActivationFormat::A8G64);
    EXPECT_NEAR(node.a8g32, groups, 0.5 * groups + 1e-12) << node.name;
    EXPECT_NEAR(node.a8g64, wide, 0.5 * wide + 1e-12) << node.name;
    EXPECT_NEAR(node.a8t, whole, 0.5 * whole + 1e-12) << node.name;
    EXPECT_LT(node.a16g32, 1e-3 * node.a8g32 + 1e-15) << node.name;
  }
  EXPECT_EQ(compared, 7);
}

TEST(Sensitivity, PartsOfALinear) {
  // In a sequence of one token attention returns the value: queries and keys change nothing.
  RandomModel model = uncertainModel();
  SensitivityOptions all;
  all.windows = 20;
  Result<Sensitivity> found =
      measureSensitivity(model.graph, singleTokens(20, 12), storedRows(model.graph), all);
  ASSERT_TRUE(found.ok());
  const NodeSensitivity &qkv = found->nodes[1];
  ASSERT_EQ(qkv.partKl.size(), 3u);
  EXPECT_LT(qkv.partKl[0] + qkv.partKl[1], 1e-6 * qkv.partKl[2]);
  EXPECT_NEAR(qkv.kl, qkv.partKl[2], 1e-3 * qkv.kl);
  // In longer ones they do.
  found = measureSensitivity(model.graph, {randomTokens(40, 12, 1)}, storedRows(model.graph), {});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->tokens, 40);
  EXPECT_GT(found->nodes[1].partKl[0], 0);
  EXPECT_GT(found->nodes[1].partKl[1], 0);
}

TEST(Sensitivity, SameForAnyThreadsOtherForOtherSeeds) {
  RandomModel model = uncertainModel();
  const std::vector<std::vector<int32_t>> samples = {randomTokens(30, 12, 1),
                                                     randomTokens(50, 12, 2)};
  auto measured = [&](int threads, uint64_t seed) {
    SensitivityOptions options;
    options.threads = threads;
    options.seed = seed;
    Result<Sensitivity> found =
        measureSensitivity(model.graph, samples, storedRows(model.graph), options);
    std::vector<double> values;
    EXPECT_TRUE(found.ok());
    for (const NodeSensitivity &node : found->nodes)
      values.insert(values.end(), {node.kl, node.a8g32, node.a8g64, node.a8t, node.a16g32});
    return values;
  };
  EXPECT_EQ(measured(1, 1), measured(3, 1));
  EXPECT_NE(measured(1, 1), measured(1, 2));
}

TEST(Sensitivity, Refuses) {
  RandomModel model = uncertainModel();
  const StoredRows stored = storedRows(model.graph);
  EXPECT_FALSE(measureSensitivity(model.graph, {}, stored, {}).ok());
  EXPECT_FALSE(measureSensitivity(model.graph, {{}}, stored, {}).ok());
  const StoredRows failing = [](int32_t, int64_t, int64_t, float *) {
    return internalError("no such matrix");
  };
  Result<Sensitivity> failed = measureSensitivity(model.graph, {{1, 2}}, failing, {});
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.status().message().find("no such matrix"), std::string::npos);
}

} // namespace
} // namespace smelt
