// Collected statistics against sums over the reference's values; shards, threads, cancelling,
// refusals.
#include "calibration/collect.h"
#include "calibration/finite.h"
#include "calibration/random_samples.h"
#include "tests/calibration/random_model.h"
#include "tests/reference/reference.h"

#include <cmath>
#include <gtest/gtest.h>
#include <set>

namespace smelt {
namespace {

std::vector<std::vector<int32_t>> makeSamples(int count, int64_t length, int64_t vocab) {
  std::vector<std::vector<int32_t>> samples;
  for (int i = 0; i < count; ++i)
    samples.push_back(randomTokens(length + 7 * i, vocab, uint64_t(i)));
  return samples;
}

Statistics collect(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                   int threads, bool exact = false) {
  CollectOptions options;
  options.threads = threads;
  options.secondMoments = true;
  options.exactProducts = exact;
  Result<Statistics> statistics = collectStatistics(graph, samples, options);
  EXPECT_TRUE(statistics.ok()) << statistics.status().message();
  return statistics.ok() ? *std::move(statistics) : Statistics();
}

void expectSame(const Statistics &a, const Statistics &b) {
  ASSERT_EQ(a.inputs.size(), b.inputs.size());
  for (const auto &[name, input] : a.inputs) {
    const InputStatistics &other = b.inputs.at(name);
    EXPECT_EQ(input.tokens, other.tokens);
    EXPECT_EQ(input.sumSquares, other.sumSquares) << name;
    EXPECT_EQ(input.sumAbsolute, other.sumAbsolute) << name;
    EXPECT_EQ(input.maxAbsolute, other.maxAbsolute) << name;
    EXPECT_EQ(*input.secondMoments, *other.secondMoments) << name;
    EXPECT_EQ(input.squaresResidues, other.squaresResidues) << name;
    EXPECT_EQ(input.absoluteResidues, other.absoluteResidues) << name;
    EXPECT_EQ(*input.momentResidues, *other.momentResidues) << name;
  }
}

TEST(Collect, SumsOfTheReference) {
  for (bool parallel : {false, true}) {
    ModelShape shape;
    shape.parallel = parallel;
    RandomModel model = makeRandomModel(shape);
    const auto samples = makeSamples(3, 11, shape.vocab);
    Statistics statistics = collect(model.graph, samples, 2, true);

    std::map<std::string, InputStatistics> expected;
    std::map<std::string, std::vector<double>> moments;
    for (const std::vector<int32_t> &sample : samples) {
      std::vector<BatchToken> batch;
      std::vector<int32_t> all;
      for (size_t i = 0; i < sample.size(); ++i) {
        batch.push_back({sample[i], int32_t(i), 0});
        all.push_back(int32_t(i));
      }
      std::map<std::string, std::vector<double>> seen;
      ReferenceOptions options;
      options.observe = [&](const Node &node, int64_t, std::span<const double> value) {
        seen[node.name].assign(value.begin(), value.end());
      };
      referenceLogits(model.graph, batch, all, options);
      for (const Node &node : model.graph.nodes) {
        if (node.kind != NodeKind::Linear)
          continue;
        const Node &maker = model.graph.nodes[node.inputs[0]];
        InputStatistics &sum = expected[node.name];
        sum.sumSquares.resize(size_t(maker.width));
        sum.sumAbsolute.resize(size_t(maker.width));
        sum.maxAbsolute.resize(size_t(maker.width));
        std::vector<double> &triangle = moments[node.name];
        triangle.resize(size_t(triangleSize(maker.width)));
        sum.tokens += sample.size();
        for (size_t t = 0; t < sample.size(); ++t) {
          const double *x = seen[maker.name].data() + t * size_t(maker.width);
          for (int64_t k = 0; k < maker.width; ++k) {
            sum.sumSquares[k] += x[k] * x[k];
            sum.sumAbsolute[k] += std::fabs(x[k]);
            sum.maxAbsolute[k] = std::max(sum.maxAbsolute[k], float(std::fabs(x[k])));
            for (int64_t j = k; j < maker.width; ++j)
              triangle[triangleRow(k, maker.width) + j - k] += x[k] * x[j];
          }
        }
      }
    }
    ASSERT_EQ(statistics.inputs.size(), expected.size());
    for (const auto &[name, want] : expected) {
      const InputStatistics &got = statistics.inputs.at(name);
      EXPECT_EQ(got.tokens, want.tokens);
      for (int64_t k = 0; k < want.cols(); ++k) {
        EXPECT_NEAR(got.sumSquares[k], want.sumSquares[k], 1e-4 * want.sumSquares[k] + 1e-6);
        EXPECT_NEAR(got.sumAbsolute[k], want.sumAbsolute[k], 1e-4 * want.sumAbsolute[k] + 1e-6);
        EXPECT_NEAR(got.maxAbsolute[k], want.maxAbsolute[k], 1e-4 * want.maxAbsolute[k] + 1e-6);
      }
      double largest = 0;
      for (double value : want.sumSquares)
        largest = std::max(largest, value);
      for (size_t i = 0; i < moments[name].size(); ++i)
        ASSERT_NEAR((*got.secondMoments)[i], moments[name][i], 1e-4 * largest) << name;
    }
  }
}

TEST(Collect, ShardsMergeToTheWholeAndThreadsDoNotMatter) {
  ModelShape shape;
  shape.inner = 300;
  RandomModel model = makeRandomModel(shape);
  const auto samples = makeSamples(6, 600, shape.vocab); // three of them are a batch
  Statistics whole = collect(model.graph, samples, 1);
  expectSame(whole, collect(model.graph, samples, 3));

  Statistics first = collect(model.graph, shardSamples(samples, 0, 2), 2);
  Statistics rest = collect(model.graph, shardSamples(samples, 1, 2), 2);
  ASSERT_TRUE(mergeStatistics(first, rest).ok());
  expectSame(whole, first);
}

TEST(Collect, ShardsAreWholeBatchesInOrder) {
  // Batches hold at most 2048 tokens: {0, 1}, {2}, {3, 4}, {5}.
  std::vector<std::vector<int32_t>> samples;
  for (size_t length : {1000, 1000, 1500, 700, 1300, 900})
    samples.emplace_back(length, int32_t(samples.size()));
  for (uint32_t count : {1, 2, 3, 4, 7}) {
    std::vector<std::vector<int32_t>> joined;
    for (uint32_t shard = 0; shard < count; ++shard)
      for (auto &sample : shardSamples(samples, shard, count))
        joined.push_back(std::move(sample));
    EXPECT_EQ(joined, samples) << count;
  }
  EXPECT_EQ(shardSamples(samples, 0, 4).size(), 2u);
  EXPECT_EQ(shardSamples(samples, 1, 4).size(), 1u);
  EXPECT_TRUE(shardSamples(samples, 0, 7).empty());
}

TEST(Collect, SumsOfManyMagnitudesMergeInAnyOrder) {
  // Inputs of a linear that reach from 1e-6 to 1e5: plain doubles would round differently by order.
  ModelShape shape;
  shape.inner = 300;
  RandomModel model = makeRandomModel(shape);
  std::vector<std::vector<float>> scaled;
  for (Node &node : model.graph.nodes)
    if (node.kind == NodeKind::RmsNorm) {
      WeightView &weight = model.graph.weights[size_t(node.weights[0])];
      std::vector<float> values(size_t(weight.cols));
      for (size_t k = 0; k < values.size(); ++k)
        values[k] = std::pow(10.0f, float(k % 12) - 6);
      scaled.push_back(std::move(values));
      weight.data = reinterpret_cast<const std::byte *>(scaled.back().data());
    }
  // Batches of three, each of one token over and over: sums that differ as much as tokens do.
  std::vector<std::vector<int32_t>> samples;
  for (int32_t i = 0; i < 27; ++i)
    samples.emplace_back(size_t(520), i / 3 * 5);
  const Statistics whole = collect(model.graph, samples, 2);
  size_t lost = 0;
  for (const auto &[name, input] : whole.inputs)
    lost += input.momentResidues->size();
  EXPECT_GT(lost, 0u) << "nothing was lost to rounding, so that the test tests nothing";
  std::vector<Statistics> parts;
  for (uint32_t shard = 0; shard < 9; ++shard)
    parts.push_back(collect(model.graph, shardSamples(samples, shard, 9), 1));
  Statistics backward = parts[8];
  for (int i = 7; i >= 0; --i)
    ASSERT_TRUE(mergeStatistics(backward, parts[size_t(i)]).ok());
  expectSame(whole, backward);
  // Pairs of pairs.
  Statistics pairs = parts[4];
  for (int i : {0, 6, 2, 7}) {
    Statistics pair = parts[size_t(i)];
    ASSERT_TRUE(mergeStatistics(pair, parts[size_t(i == 7 ? 8 : i + 1)]).ok());
    if (i == 2) {
      // 2 and 3; 4 is there already, 5 comes alone.
      ASSERT_TRUE(mergeStatistics(pairs, parts[5]).ok());
    } else if (i == 6) {
      pair = parts[6];
    }
    ASSERT_TRUE(mergeStatistics(pairs, pair).ok());
  }
  expectSame(whole, pairs);
}

TEST(Collect, RoundedProductsStayClose) {
  ModelShape shape;
  shape.layers = 4;
  RandomModel model = makeRandomModel(shape);
  const auto samples = makeSamples(4, 60, shape.vocab);
  const Statistics exact = collect(model.graph, samples, 2, true);
  const Statistics fast = collect(model.graph, samples, 2);
  for (const auto &[name, input] : exact.inputs) {
    const InputStatistics &other = fast.inputs.at(name);
    for (int64_t k = 0; k < input.cols(); ++k)
      EXPECT_NEAR(other.sumSquares[k], input.sumSquares[k], 0.02 * input.sumSquares[k]) << name;
  }
}

TEST(Collect, LinearsOfOneInputShareTheirMoments) {
  RandomModel model = makeRandomModel({});
  Statistics statistics = collect(model.graph, makeSamples(1, 10, 61), 1);
  std::map<const void *, int> users;
  for (const auto &[name, input] : statistics.inputs)
    ++users[input.secondMoments.get()];
  EXPECT_EQ(statistics.inputs.size(), 2u * 7 + 1);
  EXPECT_EQ(users.size(), 2u * 4 + 1); // q, k, v and gate, up
}

TEST(Collect, ReleasesEveryWeightItUsedAfterItsLastSegment) {
  RandomModel model = makeRandomModel({});
  CollectOptions options;
  std::map<std::string, double> released;
  double now = 0;
  options.progress = [&](double done) {
    now = done;
    return true;
  };
  options.release = [&](const WeightView &view) { released[view.name] = now; };
  ASSERT_TRUE(collectStatistics(model.graph, makeSamples(1, 5, 61), options).ok());
  // All but the rotation tables belong to one layer and go with it.
  EXPECT_EQ(released.size(), model.graph.weights.size());
  EXPECT_LT(released[model.graph.weights[3].name], 0.5);
}

TEST(Collect, ProgressRisesAndCancels) {
  RandomModel model = makeRandomModel({});
  CollectOptions options;
  double last = -1;
  int calls = 0;
  options.progress = [&](double done) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, 1);
    last = done;
    ++calls;
    return true;
  };
  ASSERT_TRUE(collectStatistics(model.graph, makeSamples(2, 5, 61), options).ok());
  EXPECT_EQ(last, 1);
  EXPECT_GT(calls, 4);
  options.progress = [](double done) { return done < 0.5; };
  Result<Statistics> stopped = collectStatistics(model.graph, makeSamples(2, 5, 61), options);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.status().code(), StatusCode::Cancelled);
}

TEST(Collect, RefusesBadInput) {
  RandomModel model = makeRandomModel({});
  EXPECT_FALSE(collectStatistics(model.graph, {}, {}).ok());
  EXPECT_FALSE(collectStatistics(model.graph, {{1}, {}}, {}).ok());
  EXPECT_FALSE(collectStatistics(model.graph, {{1, 99}}, {}).ok());
  EXPECT_FALSE(collectStatistics(model.graph, {std::vector<int32_t>(701, 1)}, {}).ok());
  Graph noLinear;
  noLinear.weights = {model.graph.weights[0]};
  noLinear.nodes = {model.graph.nodes[0]};
  EXPECT_FALSE(collectStatistics(noLinear, {{1}}, {}).ok());
  // A model whose values overflow is named, not averaged over.
  std::vector<float> huge(48, 1e30f);
  for (Node &node : model.graph.nodes)
    if (node.kind == NodeKind::RmsNorm)
      model.graph.weights[node.weights[0]].data = reinterpret_cast<const std::byte *>(huge.data());
  Result<Statistics> overflow = collectStatistics(model.graph, {{1, 2}}, {});
  ASSERT_FALSE(overflow.ok());
  EXPECT_NE(overflow.status().message().find("not finite"), std::string::npos);
}

TEST(Collect, RandomSamplesAreIdsOfTheGraphAndAlwaysTheSame) {
  RandomModel model = makeRandomModel({});
  const std::vector<std::vector<int32_t>> drawn = randomSamples(model.graph, 3, 20);
  ASSERT_EQ(drawn.size(), 3u);
  std::set<int32_t> seen;
  for (const std::vector<int32_t> &sample : drawn) {
    ASSERT_EQ(sample.size(), 20u);
    for (int32_t id : sample) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, tokenCount(model.graph));
      seen.insert(id);
    }
  }
  EXPECT_GT(seen.size(), 10u);
  EXPECT_EQ(drawn, randomSamples(model.graph, 3, 20));
  EXPECT_TRUE(collectStatistics(model.graph, drawn, {}).ok());
}

TEST(Collect, NamesTheWeightThatIsNoNumber) {
  for (float bad : {NAN, INFINITY}) {
    RandomModel model = makeRandomModel({});
    EXPECT_TRUE(checkVectorsFinite(model.graph).ok());
    WeightView *matrix = nullptr;
    for (const Node &node : model.graph.nodes)
      if (node.kind == NodeKind::Linear && !matrix)
        matrix = &model.graph.weights[size_t(node.weights[0])];
    std::vector<float> values(size_t(matrix->rows * matrix->cols));
    readRows(*matrix, 0, matrix->rows, values.data());
    values[size_t(2 * matrix->cols + 5)] = bad;
    matrix->data = reinterpret_cast<const std::byte *>(values.data());
    matrix->rowStride = matrix->cols;
    matrix->colStride = 1;
    matrix->type = DataType::F32;
    Result<Statistics> refused = collectStatistics(model.graph, {{1, 2}}, {});
    ASSERT_FALSE(refused.ok());
    const std::string message = refused.status().message();
    EXPECT_NE(message.find("'" + matrix->name + "' holds " +
                           (std::isnan(bad) ? "NaN" : "infinity") + " at row 2, column 5"),
              std::string::npos)
        << message;
    EXPECT_TRUE(checkVectorsFinite(model.graph).ok());
  }
}

} // namespace
} // namespace smelt
