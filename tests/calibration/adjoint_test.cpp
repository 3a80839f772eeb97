// Gradients of whole models by all weights against central differences of the float64 reference.
#include "calibration/adjoint.h"
#include "calibration/gemm.h"
#include "calibration/segments.h"
#include "tests/calibration/random_model.h"
#include "tests/reference/reference.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <map>

namespace smelt {
namespace {

/// Gradients by weights [rows, cols], by index of the weight.
using WeightGradients = std::map<int32_t, std::vector<double>>;

/// loss = sum of factors * logits, [T, vocab].
struct Loss {
  std::vector<float> factors;
  Loss(int64_t count, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < count; ++i)
      factors.push_back(normal(random));
  }
};

void addNorm(const Node &node, const NodeGradient &seen, std::vector<double> &weight,
             std::vector<double> *bias) {
  const int64_t size = int64_t(weight.size());
  for (int64_t t = 0; t < seen.gradient.rows; ++t)
    for (int64_t first = 0; first < node.width; first += size) {
      const float *x = seen.input->row(t) + first, *g = seen.gradient.row(t) + first;
      double mean = 0, squares = 0;
      for (int64_t k = 0; k < size && node.kind == NodeKind::LayerNorm; ++k)
        mean += x[k] / double(size);
      for (int64_t k = 0; k < size; ++k)
        squares += (x[k] - mean) * (x[k] - mean) / double(size);
      for (int64_t k = 0; k < size; ++k) {
        weight[k] += g[k] * (x[k] - mean) / std::sqrt(squares + node.epsilon);
        if (bias)
          (*bias)[k] += g[k];
      }
    }
}

/// What a visit says about the gradients by the node's own weights.
void addWeightGradients(const Graph &graph, const SequenceBatch &batch, const NodeGradient &seen,
                        WeightGradients &sums) {
  const Node &node = graph.nodes[seen.node];
  auto sumOf = [&](int32_t weight) -> std::vector<double> & {
    const WeightView &view = graph.weights[weight];
    return sums.try_emplace(weight, size_t(view.rows * view.cols), 0.0).first->second;
  };
  if (node.kind == NodeKind::Embedding) {
    std::vector<double> &table = sumOf(node.weights[0]);
    for (int64_t t = 0; t < batch.size(); ++t) {
      const int64_t row =
          node.positionOffset >= 0 ? batch.position(t) + node.positionOffset : batch.tokens[t];
      for (int64_t k = 0; k < node.width; ++k)
        table[row * node.width + k] += node.scalar * seen.gradient.row(t)[k];
    }
    return;
  }
  if (node.kind != NodeKind::Linear) {
    std::vector<double> &weight = sumOf(node.weights[0]);
    return addNorm(node, seen, weight, node.weights.size() > 1 ? &sumOf(node.weights[1]) : nullptr);
  }
  const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
  for (int64_t p = 0, column = 0; p < int64_t(parts); ++p) {
    const int64_t rows = graph.weights[node.weights[p]].rows, cols = seen.input->cols;
    std::vector<double> &weight = sumOf(node.weights[p]);
    for (int64_t t = 0; t < seen.input->rows; ++t)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < cols; ++k)
          weight[r * cols + k] += double(seen.gradient.row(t)[column + r]) * seen.input->row(t)[k];
    column += rows;
  }
  for (int64_t t = 0; node.hasBias && t < seen.gradient.rows; ++t)
    for (int64_t k = 0; k < node.width; ++k)
      sumOf(node.weights.back())[k] += seen.gradient.row(t)[k];
}

Status runAdjoint(const Graph &graph, const std::vector<SequenceBatch> &tiles, const Loss &loss,
                  int threads, ProductPrecision precision, WeightGradients &sums) {
  WorkerPool pool(threads);
  AdjointOptions options;
  options.precision = precision;
  AdjointHooks hooks;
  std::vector<size_t> firstToken = {0};
  for (const SequenceBatch &tile : tiles)
    firstToken.push_back(firstToken.back() + size_t(tile.size()));
  hooks.loss = [&](size_t tile, Matrix &logits) -> Status {
    std::copy_n(loss.factors.begin() + ptrdiff_t(firstToken[tile] * size_t(logits.cols)),
                logits.rows * logits.cols, logits.row(0));
    return {};
  };
  hooks.visit = [&](const NodeGradient &seen) -> Status {
    addWeightGradients(graph, tiles[seen.tile], seen, sums);
    return {};
  };
  return backpropagate(graph, tiles, pool, options, hooks);
}

/// The loss in double.
double exactLoss(const Graph &graph, const std::vector<SequenceBatch> &tiles, const Loss &loss) {
  std::vector<BatchToken> batch;
  std::vector<int32_t> rows;
  int32_t slot = 0;
  for (const SequenceBatch &tile : tiles)
    for (size_t s = 0; s + 1 < tile.starts.size(); ++s, ++slot)
      for (int64_t t = tile.starts[s]; t < tile.starts[s + 1]; ++t) {
        rows.push_back(int32_t(batch.size()));
        batch.push_back({tile.tokens[t], int32_t(t - tile.starts[s]), slot});
      }
  const std::vector<double> logits = referenceLogits(graph, batch, rows);
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i)
    sum += loss.factors[i] * logits[i];
  return sum;
}

/// The derivative along random signs, by the reference and by the gradient: the loss is taken at
/// w +- step * sign, in the floats that these become.
void expectDerivative(RandomModel &model, int32_t weight, const std::vector<SequenceBatch> &tiles,
                      const Loss &loss, const std::vector<double> &gradient, double tolerance) {
  const WeightView &view = model.graph.weights[weight];
  float *stored = const_cast<float *>(reinterpret_cast<const float *>(view.data));
  std::mt19937_64 random{uint64_t(weight)};
  std::vector<float> original(size_t(view.rows * view.cols)), up(original), down(original);
  readRows(view, 0, view.rows, original.data());
  // The third derivatives of these models are of the size of the first: differences are exact to
  // some step^2 = 1e-7.
  constexpr float step = 3e-4f;
  double predicted = 0, squares = 0, span = 0;
  for (size_t i = 0; i < original.size(); ++i) {
    const float move = random() % 2 ? step : -step;
    up[i] = original[i] + move;
    down[i] = original[i] - move;
    predicted += gradient[i] * (double(up[i]) - double(down[i]));
    squares += gradient[i] * gradient[i];
    span = 2 * step;
  }
  auto lossOf = [&](const std::vector<float> &values) {
    for (int64_t r = 0; r < view.rows; ++r)
      for (int64_t c = 0; c < view.cols; ++c)
        stored[r * view.rowStride + c * view.colStride] = values[size_t(r * view.cols + c)];
    return exactLoss(model.graph, tiles, loss);
  };
  const double measured = lossOf(up) - lossOf(down);
  lossOf(original);
  ASSERT_GT(squares, 0) << view.name;
  EXPECT_NEAR(measured, predicted, tolerance * std::sqrt(squares) * span) << view.name;
}

/// Some hundred float operations in sequence forward, and as many back: 1e-4 of the gradient.
void expectGradients(RandomModel &model, const std::vector<std::vector<int32_t>> &samples,
                     int64_t tileTokens = 64, double tolerance = 1e-4) {
  ASSERT_TRUE(checkGraph(model.graph).ok());
  const std::vector<SequenceBatch> tiles = makeTiles(samples, tileTokens);
  int64_t tokens = 0;
  for (const SequenceBatch &tile : tiles)
    tokens += tile.size();
  const Loss loss(tokens * model.graph.nodes.back().width, 5);
  WeightGradients gradients;
  const Status status = runAdjoint(model.graph, tiles, loss, 2, ProductPrecision::Float, gradients);
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_GE(gradients.size(), 3u);
  for (const auto &[weight, gradient] : gradients)
    expectDerivative(model, weight, tiles, loss, gradient, tolerance);
}

ModelShape smallShape() {
  ModelShape shape;
  shape.vocab = 17;
  shape.width = 16;
  shape.heads = 4;
  shape.kvHeads = 2;
  shape.headDim = shape.rotaryDim = 6;
  shape.inner = 20;
  return shape;
}

void expectGradients(const ModelShape &shape, int64_t length = 7) {
  RandomModel model = makeRandomModel(shape);
  expectGradients(model, {randomTokens(length, shape.vocab, 3), randomTokens(3, shape.vocab, 4)},
                  length); // two tiles
}

TEST(Adjoint, Plain) { expectGradients(smallShape()); }
TEST(Adjoint, LongerThanOneQueryBlock) {
  ModelShape shape = smallShape();
  shape.layers = 1;
  expectGradients(shape, 140);
}
TEST(Adjoint, LayerNormBiasFusedInterleaved) {
  ModelShape shape = smallShape();
  shape.layerNorm = shape.bias = shape.fusedQkv = shape.interleaved = true;
  expectGradients(shape);
}
TEST(Adjoint, HeadNormWindowCapsPartialRotary) {
  ModelShape shape = smallShape();
  shape.headNorm = true;
  shape.window = 3;
  shape.attentionCap = 3;
  shape.logitCap = 4;
  shape.embeddingScale = 2;
  shape.rotaryDim = 4;
  expectGradients(shape);
}
TEST(Adjoint, TransposedParallelPositionsSlopes) {
  ModelShape shape = smallShape();
  shape.transposed = shape.parallel = shape.slopes = true;
  shape.positionOffset = 2;
  expectGradients(shape);
}
TEST(Adjoint, EveryActivation) {
  for (ActivationKind kind :
       {ActivationKind::Identity, ActivationKind::Relu, ActivationKind::Relu2, ActivationKind::Silu,
        ActivationKind::GeluTanh, ActivationKind::GeluErf})
    for (bool gated : {false, true}) {
      ModelShape shape = smallShape();
      shape.layers = 1;
      shape.activation = kind;
      shape.gated = gated;
      expectGradients(shape);
    }
}

/// What no language model of random_model.h holds: attention both ways, products, factors.
TEST(Adjoint, BothWaysMulScale) {
  for (int64_t window : {0, 3}) {
    RandomModel model;
    constexpr int64_t vocab = 11, width = 12;
    model.graph.vocabSize = vocab;
    const int32_t x =
        model.addNode({NodeKind::Embedding, "", {}, {model.addWeight(vocab, width, 1.0)}, width});
    auto linear = [&](int32_t input, int64_t rows) {
      return model.addNode(
          {NodeKind::Linear, "", {input}, {model.addWeight(rows, width, 0.4)}, rows});
    };
    Node attention{
        NodeKind::Attention, "", {linear(x, width), linear(x, 6), linear(x, 6)}, {}, width};
    attention.heads = 4;
    attention.kvHeads = 2;
    attention.headDim = 3;
    attention.scalar = 0.5;
    attention.window = window;
    attention.bidirectional = true;
    const int32_t mixed = model.addNode(attention);
    const int32_t product = model.addNode({NodeKind::Mul, "", {mixed, x}, {}, width});
    Node scale{NodeKind::Scale, "", {product}, {}, width};
    scale.scalar = -1.7;
    linear(model.addNode(scale), vocab);
    expectGradients(model, {randomTokens(8, vocab, 1), randomTokens(5, vocab, 2)});
  }
}

TEST(Adjoint, InputGradientIsTheLinearsOwn) {
  RandomModel model = makeRandomModel(smallShape());
  const std::vector<SequenceBatch> tiles = makeTiles({randomTokens(5, 17, 1)}, 64);
  WorkerPool pool(1);
  AdjointHooks hooks;
  int linears = 0;
  std::vector<int32_t> order, ends;
  hooks.loss = [](size_t, Matrix &) -> Status { return {}; };
  hooks.visit = [&](const NodeGradient &seen) -> Status {
    order.push_back(seen.node);
    const Node &node = model.graph.nodes[seen.node];
    EXPECT_EQ(seen.inputGradient != nullptr, node.kind == NodeKind::Linear);
    EXPECT_EQ(seen.input == nullptr, node.kind == NodeKind::Embedding);
    if (node.kind != NodeKind::Linear)
      return {};
    ++linears;
    const WeightView &view = model.graph.weights[node.weights[0]];
    std::vector<float> weights(size_t(view.rows * view.cols));
    readRows(view, 0, view.rows, weights.data());
    for (int64_t k = 0; k < view.cols; ++k) {
      double sum = 0, size = 0;
      for (int64_t n = 0; n < view.rows; ++n) {
        sum += double(seen.gradient.row(4)[n]) * weights[n * view.cols + k];
        size += std::fabs(double(seen.gradient.row(4)[n]) * weights[n * view.cols + k]);
      }
      EXPECT_NEAR(seen.inputGradient->row(4)[k], sum, 1e-6 * size);
    }
    return {};
  };
  hooks.finished = [&](int32_t first, int32_t last) -> Status {
    EXPECT_LT(first, last);
    ends.push_back(first);
    return {};
  };
  ASSERT_TRUE(backpropagate(model.graph, tiles, pool, {}, hooks).ok());
  EXPECT_EQ(linears, 2 * 7 + 1);
  EXPECT_TRUE(std::is_sorted(order.rbegin(), order.rend()));
  ASSERT_FALSE(ends.empty());
  EXPECT_EQ(ends.back(), 0);
}

TEST(Adjoint, SameBitsForAnyThreads) {
  ModelShape shape;
  shape.width = 256;
  shape.inner = 400;
  RandomModel model = makeRandomModel(shape);
  const std::vector<SequenceBatch> tiles =
      makeTiles({randomTokens(150, shape.vocab, 4), randomTokens(20, shape.vocab, 5)}, 200);
  auto inputGradients = [&](int threads, ProductPrecision precision) {
    WorkerPool pool(threads);
    AdjointOptions options;
    options.precision = precision;
    std::vector<float> seen;
    AdjointHooks hooks;
    hooks.loss = [](size_t, Matrix &) -> Status { return {}; }; // loss = sum of squares / 2
    hooks.visit = [&](const NodeGradient &at) -> Status {
      seen.insert(seen.end(), at.gradient.row(0), at.gradient.row(at.gradient.rows));
      return {};
    };
    EXPECT_TRUE(backpropagate(model.graph, tiles, pool, options, hooks).ok());
    return seen;
  };
  const std::vector<float> one = inputGradients(1, ProductPrecision::Float);
  EXPECT_EQ(one, inputGradients(3, ProductPrecision::Float));
  if (!bfloat16IsFast())
    return;
  const std::vector<float> rounded = inputGradients(1, ProductPrecision::Bfloat16);
  EXPECT_EQ(rounded, inputGradients(3, ProductPrecision::Bfloat16));
  double difference = 0, size = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    difference += std::pow(double(rounded[i]) - one[i], 2);
    size += std::pow(double(one[i]), 2);
  }
  // Operands rounded by up to 2^-9, independently, through some ten products each way.
  EXPECT_LT(std::sqrt(difference / size), 0.02);
  EXPECT_GT(difference, 0);
}

TEST(Adjoint, ErrorsPassThrough) {
  RandomModel model = makeRandomModel(smallShape());
  WorkerPool pool(1);
  AdjointHooks hooks;
  hooks.loss = [](size_t, Matrix &) -> Status { return {}; };
  std::vector<SequenceBatch> outside = makeTiles({{1, 99}}, 64);
  EXPECT_FALSE(backpropagate(model.graph, outside, pool, {}, hooks).ok());
  const std::vector<SequenceBatch> tiles = makeTiles({{1, 2}}, 64);
  AdjointOptions options;
  options.progress = [](double) { return false; };
  EXPECT_EQ(backpropagate(model.graph, tiles, pool, options, hooks).code(), StatusCode::Cancelled);
  hooks.visit = [](const NodeGradient &) { return internalError("stop"); };
  EXPECT_EQ(backpropagate(model.graph, tiles, pool, {}, hooks).code(), StatusCode::Internal);
}

} // namespace
} // namespace smelt
