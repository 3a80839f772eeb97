// Folds: where they are exact and where they are refused, that they change nothing but rounding,
// and that the right one is chosen.
#include "calibration/collect.h"
#include "calibration/fold.h"
#include "calibration/fold_candidates.h"
#include "calibration/hadamard.h"
#include "tests/calibration/random_model.h"
#include "tests/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

namespace smelt {
namespace {

int64_t count(const std::vector<FoldPlace> &places, FoldKind kind) {
  return std::count_if(places.begin(), places.end(),
                       [&](const FoldPlace &place) { return place.kind == kind; });
}

/// Factors from 1/8 to 8, or the rotation of value places.
Fold randomFold(const FoldPlace &place, bool rotate, std::mt19937_64 &random) {
  Fold fold;
  fold.place = place;
  if (rotate && place.rotates) {
    fold.block = hadamardBlock(place.headDim);
    return fold;
  }
  std::uniform_real_distribution<double> exponent(-3, 3);
  for (int64_t k = 0; k < place.channels; ++k)
    fold.scales.push_back(float(std::exp2(exponent(random))));
  return fold;
}

Graph foldEverywhere(const Graph &graph, bool rotate) {
  std::mt19937_64 random(3);
  Graph folded = graph;
  for (const FoldPlace &place : findFoldPlaces(graph))
    applyFold(folded, randomFold(place, rotate, random));
  return folded;
}

struct Batch {
  std::vector<BatchToken> tokens;
  std::vector<int32_t> rows;
  Batch(int64_t length, int64_t vocab) {
    for (int32_t id : randomTokens(length, vocab, 5)) {
      rows.push_back(int32_t(tokens.size()));
      tokens.push_back({id, int32_t(tokens.size()), 0});
    }
  }
};

double largestDifference(const std::vector<double> &a, const std::vector<double> &b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

/// What relative changes of linear weights by up to 2^-24, the unit of float rounding, do to
/// logits: the largest of some tries.
double roundingNoise(const Graph &graph, const Batch &batch, const std::vector<double> &exact) {
  double largest = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<float> change(-0x1p-24f, 0x1p-24f);
    std::map<const Node *, std::vector<std::vector<float>>> changed;
    ReferenceOptions options;
    options.declared = [&](const Node &node) -> std::optional<DeclaredLinear> {
      if (node.kind != NodeKind::Linear)
        return std::nullopt;
      std::vector<std::vector<float>> &rows = changed[&node];
      const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
      for (size_t p = 0; p < parts && rows.size() < size_t(node.width); ++p) {
        const WeightView &view = graph.weights[size_t(node.weights[p])];
        for (int64_t row = 0; row < view.rows; ++row) {
          readRows(view, row, 1, rows.emplace_back(size_t(view.cols)).data());
          for (float &value : rows.back())
            value += value * change(random) * 2; // the sum rounds as well
        }
      }
      DeclaredLinear declared;
      declared.weightRow = [&rows](int64_t row, std::span<float> out) {
        std::copy(rows[size_t(row)].begin(), rows[size_t(row)].end(), out.begin());
      };
      return declared;
    };
    largest = std::max(largest, largestDifference(exact, referenceLogits(graph, batch.tokens,
                                                                         batch.rows, options)));
  }
  return largest;
}

TEST(Fold, KeepsTheFunction) {
  std::vector<ModelShape> shapes(6);
  shapes[1].layerNorm = shapes[1].bias = true;
  shapes[2].fusedQkv = shapes[2].bias = shapes[2].headNorm = true;
  shapes[3].parallel = shapes[3].transposed = true;
  shapes[4].headDim = shapes[4].rotaryDim = 16; // one block a head
  shapes[4].kvHeads = 1;
  shapes[4].bias = true;
  shapes[5].type = DataType::F16;
  for (size_t i = 0; i < shapes.size(); ++i)
    for (bool rotate : {false, true}) {
      RandomModel model = makeRandomModel(shapes[i]);
      const Graph folded = foldEverywhere(model.graph, rotate);
      const Batch batch(9, shapes[i].vocab);
      const auto exact = referenceLogits(model.graph, batch.tokens, batch.rows);
      const auto got = referenceLogits(folded, batch.tokens, batch.rows);
      const double difference = largestDifference(exact, got);
      EXPECT_GT(difference, 0) << "nothing was folded";
      // A folded weight is rounded up to four times (its factors on two sides, each rounded too), a
      // rotated one once for each of log2(16) steps and the norm, on both sides of the channels.
      EXPECT_LT(difference, 10 * roundingNoise(model.graph, batch, exact)) << i << rotate;
    }
}

TEST(Fold, FindsThePlaces) {
  ModelShape shape;
  const std::vector<FoldPlace> places = findFoldPlaces(makeRandomModel(shape).graph);
  EXPECT_EQ(count(places, FoldKind::Norm), 2 * shape.layers); // the last feeds the tied head
  EXPECT_EQ(count(places, FoldKind::Value), shape.layers);
  EXPECT_EQ(count(places, FoldKind::Up), shape.layers);
  EXPECT_EQ(places[0].consumers.size(), 3u); // q, k, v
  EXPECT_EQ(std::count_if(places.begin(), places.end(), [](const auto &p) { return p.rotates; }),
            shape.layers);

  shape.parallel = true;
  const std::vector<FoldPlace> parallel = findFoldPlaces(makeRandomModel(shape).graph);
  EXPECT_EQ(count(parallel, FoldKind::Norm), shape.layers);
  EXPECT_EQ(parallel[0].consumers.size(), 5u); // and gate, up

  shape.gated = false; // not through the activation
  EXPECT_EQ(count(findFoldPlaces(makeRandomModel(shape).graph), FoldKind::Up), 0);
}

TEST(Fold, ChannelsOfGroupedHeads) {
  ModelShape shape; // 4 query heads, 2 kv heads of 12
  for (const FoldPlace &place : findFoldPlaces(makeRandomModel(shape).graph))
    if (place.kind == FoldKind::Value) {
      EXPECT_EQ(place.channels, 24);
      EXPECT_EQ(place.width, 48);
      EXPECT_EQ(place.channelOf(3), 3);
      EXPECT_EQ(place.channelOf(12 + 3), 3);
      EXPECT_EQ(place.channelOf(24 + 3), 12 + 3);
      EXPECT_EQ(place.channelOf(47), 23);
    }
}

TEST(Fold, RefusesSharedWeights) {
  ModelShape shape;
  shape.layers = 1;
  RandomModel model = makeRandomModel(shape);
  const size_t all = findFoldPlaces(model.graph).size();
  std::vector<int32_t> norms;
  for (size_t i = 0; i < model.graph.nodes.size(); ++i)
    if (model.graph.nodes[i].kind == NodeKind::RmsNorm)
      norms.push_back(int32_t(i));
  // The second norm reads the first one's weight, under another index.
  Graph &graph = model.graph;
  graph.weights[size_t(graph.nodes[size_t(norms[1])].weights[0])] =
      graph.weights[size_t(graph.nodes[size_t(norms[0])].weights[0])];
  EXPECT_EQ(findFoldPlaces(graph).size(), all - 2);
}

TEST(Fold, RefusesOtherReaders) {
  ModelShape shape;
  shape.layers = 1;
  RandomModel model = makeRandomModel(shape);
  Graph &graph = model.graph;
  const size_t all = findFoldPlaces(graph).size();
  // The residual takes the norm's value, as in models with norms behind the sum.
  int32_t norm = -1;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].kind == NodeKind::RmsNorm && norm < 0)
      norm = int32_t(i);
    if (graph.nodes[i].kind == NodeKind::Add) {
      graph.nodes[i].inputs[0] = norm;
      break;
    }
  }
  EXPECT_EQ(findFoldPlaces(graph).size(), all - 1);
}

TEST(Fold, StatisticsAreThoseOfTheFoldedModel) {
  ModelShape shape;
  shape.headDim = shape.rotaryDim = 16;
  for (bool rotate : {false, true}) {
    RandomModel model = makeRandomModel(shape);
    std::mt19937_64 random(3);
    Graph folded = model.graph;
    std::vector<Fold> folds;
    for (const FoldPlace &place : findFoldPlaces(model.graph)) {
      folds.push_back(randomFold(place, rotate, random));
      applyFold(folded, folds.back());
    }
    CollectOptions options;
    options.threads = 1;
    options.secondMoments = options.exactProducts = true;
    const std::vector<std::vector<int32_t>> samples = {randomTokens(40, shape.vocab, 1)};
    Result<Statistics> before = collectStatistics(model.graph, samples, options);
    Result<Statistics> after = collectStatistics(folded, samples, options);
    ASSERT_TRUE(before.ok() && after.ok());
    const StatisticsLookup lookup = lookUpFolded(model.graph, lookUpIn(*before), folds);
    std::shared_ptr<const std::vector<double>> shared;
    for (const auto &[name, want] : after->inputs) {
      Result<std::shared_ptr<const InputStatistics>> got = lookup(name);
      ASSERT_TRUE(got.ok() && *got);
      double power = 0;
      for (double value : want.sumSquares)
        power += value / double(want.cols());
      for (int64_t k = 0; k < want.cols(); ++k) {
        // As in collect_test: the float model's own error.
        EXPECT_NEAR((*got)->sumSquares[size_t(k)], want.sumSquares[size_t(k)],
                    1e-4 * want.sumSquares[size_t(k)] + 1e-6 * power);
        if (!rotate)
          EXPECT_NEAR((*got)->sumAbsolute[size_t(k)], want.sumAbsolute[size_t(k)],
                      1e-4 * want.sumAbsolute[size_t(k)]);
        EXPECT_GE(double((*got)->maxAbsolute[size_t(k)]) * (1 + 1e-4),
                  double(want.maxAbsolute[size_t(k)]));
      }
      for (size_t i = 0; i < want.secondMoments->size(); ++i)
        ASSERT_NEAR((*(*got)->secondMoments)[i], (*want.secondMoments)[i], 1e-4 * power * 64);
    }
    Result<std::shared_ptr<const InputStatistics>> q = lookup(model.graph.nodes[2].name);
    Result<std::shared_ptr<const InputStatistics>> k = lookup(model.graph.nodes[3].name);
    ASSERT_TRUE(q.ok() && k.ok() && *q && *k);
    EXPECT_EQ((*q)->secondMoments, (*k)->secondMoments);
  }
}

/// norm -> linear, with what calibration would see of it.
struct NormModel {
  RandomModel model;
  Statistics statistics;
  std::vector<std::vector<int32_t>> samples;
  FoldOptions options;

  /// One channel's norm weight is `outlier`, the others 1; weights are uniform in -1..1.
  NormModel(double outlier, WeightFormat weights, ActivationFormat activation) {
    constexpr int64_t vocab = 64, width = 64, rows = 192;
    const int32_t table = model.addWeight(vocab, width, 1.0);
    std::vector<float> gamma(width, 1.0f), values;
    gamma[5] = float(outlier);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < rows * width; ++i)
      values.push_back(uniform(model.random));
    const int32_t scale = model.addWeight(1, width, gamma);
    const int32_t matrix = model.addWeight(rows, width, values);
    int32_t x = model.addNode({NodeKind::Embedding, "", {}, {table}, width});
    Node norm{NodeKind::RmsNorm, "", {x}, {scale}, width};
    norm.epsilon = 1e-5;
    x = model.addNode(norm);
    model.addNode({NodeKind::Linear, "", {x}, {matrix}, rows});
    model.graph.vocabSize = rows;
    samples = {randomTokens(200, vocab, 1), randomTokens(200, vocab, 2)};
    CollectOptions collect;
    collect.threads = 1;
    collect.secondMoments = true;
    Result<Statistics> found = collectStatistics(model.graph, samples, collect);
    EXPECT_TRUE(found.ok());
    statistics = *std::move(found);
    options.threads = 1;
    options.formats = [=](int32_t) { return FoldFormats{weights, activation}; };
  }
  std::vector<Fold> plan() {
    Result<std::vector<Fold>> folds =
        planFolds(model.graph, lookUpIn(statistics), samples, options);
    EXPECT_TRUE(folds.ok()) << folds.status().message();
    return folds.ok() ? *std::move(folds) : std::vector<Fold>();
  }
};

TEST(Fold, NothingIsChangedWhereNothingIsGained) {
  for (ActivationFormat activation : {ActivationFormat::F32, ActivationFormat::A8T}) {
    NormModel even(1.0, WeightFormat::S8C, activation);
    even.options.algorithms = {FoldAlgorithm::Awq, FoldAlgorithm::Smooth, FoldAlgorithm::Hadamard};
    EXPECT_TRUE(even.plan().empty());
  }
  NormModel exact(40.0, WeightFormat::F32, ActivationFormat::F32);
  exact.options.algorithms = {FoldAlgorithm::Awq, FoldAlgorithm::Smooth};
  EXPECT_TRUE(exact.plan().empty());
}

TEST(Fold, SmoothsAnOutlierHalfWay) {
  // With a factor s on the channel of size M, inputs are rounded in steps of M / s and weights in
  // steps of s, and both errors count alike if M and s change places: the best s is sqrt(M), the
  // exponent 0.5.
  NormModel outlier(40.0, WeightFormat::S8C, ActivationFormat::A8T);
  outlier.options.algorithms = {FoldAlgorithm::Smooth};
  const std::vector<Fold> folds = outlier.plan();
  ASSERT_EQ(folds.size(), 1u);
  EXPECT_EQ(folds[0].place.kind, FoldKind::Norm);
  EXPECT_NEAR(folds[0].exponent, 0.5, 0.101);
  EXPECT_LT(folds[0].after, 0.2 * folds[0].before);
  const double ratio = double(folds[0].scales[5]) / double(folds[0].scales[6]);
  EXPECT_GT(ratio, std::sqrt(40.0) / 2);
  EXPECT_LT(ratio, std::sqrt(40.0) * 2);
}

TEST(Fold, AwqProtectsALargeInput) {
  NormModel outlier(40.0, WeightFormat::S4G32, ActivationFormat::F32);
  outlier.options.algorithms = {FoldAlgorithm::Awq};
  const std::vector<Fold> folds = outlier.plan();
  ASSERT_EQ(folds.size(), 1u);
  EXPECT_LT(folds[0].after, 0.8 * folds[0].before);
  EXPECT_GT(folds[0].scales[5], 1.2f * folds[0].scales[6]);
  // The same without products of inputs.
  for (auto &[name, input] : outlier.statistics.inputs)
    input.secondMoments = nullptr;
  EXPECT_EQ(outlier.plan().size(), 1u);
}

TEST(Fold, RotatesValuesForFourBits) {
  ModelShape shape;
  shape.layers = 1;
  shape.headDim = shape.rotaryDim = 32;
  RandomModel model = makeRandomModel(shape);
  FoldPlace value;
  for (const FoldPlace &place : findFoldPlaces(model.graph))
    if (place.kind == FoldKind::Value)
      value = place;
  // One channel of every head is large: it alone sets the steps of the 32 that share a scale.
  const WeightView &rows = model.graph.weights[size_t(value.giving[0].weight)];
  float *data = const_cast<float *>(reinterpret_cast<const float *>(rows.data));
  for (int64_t head = 0; head < shape.kvHeads; ++head)
    for (int64_t k = 0; k < rows.cols; ++k)
      data[head * 32 * rows.cols + k] *= 20;
  std::vector<std::vector<int32_t>> samples = {randomTokens(60, shape.vocab, 1)};
  CollectOptions collect;
  collect.secondMoments = true;
  Result<Statistics> statistics = collectStatistics(model.graph, samples, collect);
  ASSERT_TRUE(statistics.ok());
  FoldOptions options;
  options.threads = 1;
  options.algorithms = {FoldAlgorithm::Hadamard};
  options.formats = [](int32_t) { return FoldFormats{WeightFormat::S8G32, ActivationFormat::F32}; };
  for (CacheFormat cache : {CacheFormat::F16, CacheFormat::Int8Int4}) {
    options.cache = cache;
    Result<std::vector<Fold>> folds =
        planFolds(model.graph, lookUpIn(*statistics), samples, options);
    ASSERT_TRUE(folds.ok());
    if (cache == CacheFormat::F16) {
      EXPECT_TRUE(folds->empty());
      continue;
    }
    ASSERT_EQ(folds->size(), 1u);
    EXPECT_EQ((*folds)[0].block, 32);
  }
}

TEST(Hadamard, IsItsOwnInverse) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  for (int64_t block : {2, 16, 64}) {
    std::vector<double> x(size_t(2 * block));
    for (double &value : x)
      value = normal(random);
    std::vector<double> y = x;
    rotateBlocks(y.data(), 2 * block, block);
    double squares = 0, rotated = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      squares += x[i] * x[i];
      rotated += y[i] * y[i];
    }
    EXPECT_NEAR(rotated, squares, 1e-13 * squares);
    EXPECT_GT(largestDifference(x, y), 0.1);
    rotateBlocks(y.data(), 2 * block, block);
    EXPECT_LT(largestDifference(x, y), 1e-14);
  }
  EXPECT_EQ(hadamardBlock(64), 64);
  EXPECT_EQ(hadamardBlock(80), 16);
  EXPECT_EQ(hadamardBlock(96), 32);
}

TEST(Fold, ScalesAreBounded) {
  std::vector<double> scales = {0, 1e-9, 4, 16};
  normalizeScales(scales);
  EXPECT_DOUBLE_EQ(scales[0] * scales[3], 1);
  EXPECT_DOUBLE_EQ(scales[3] / scales[0], 1e4);
  EXPECT_DOUBLE_EQ(scales[3] / scales[2], 4);
}

TEST(Fold, NamesAreInTheTable) {
  for (const char *name : {"awq", "smooth", "hadamard"}) {
    Result<FoldAlgorithm> found = findFold(name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(foldName(*found), name);
  }
  EXPECT_NE(findFold("quarot").status().message().find("awq, smooth, hadamard"), std::string::npos);
}

} // namespace
} // namespace smelt
