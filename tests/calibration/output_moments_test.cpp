// Second moments of output gradients against sums over the gradients themselves.
#include "calibration/adjoint.h"
#include "calibration/output_moments.h"
#include "calibration/sampled_labels.h"
#include "calibration/segments.h"
#include "tests/calibration/random_model.h"

#include <cmath>
#include <gtest/gtest.h>

namespace smelt {
namespace {

std::vector<std::vector<int32_t>> makeSamples(int64_t vocab) {
  return {randomTokens(20, vocab, 1), randomTokens(13, vocab, 2), randomTokens(30, vocab, 3)};
}

OutputMomentsOptions exactOptions(int threads) {
  OutputMomentsOptions options;
  options.tokens = 24;
  options.exactProducts = true;
  options.threads = threads;
  return options;
}

std::map<std::string, OutputMoments> collect(const Graph &graph, int threads = 2) {
  std::map<std::string, OutputMoments> all;
  Status status = collectOutputMoments(graph, makeSamples(graph.vocabSize), exactOptions(threads),
                                       [&](const std::string &linear, OutputMoments moments) {
                                         EXPECT_TRUE(all.emplace(linear, moments).second);
                                         return Status();
                                       });
  EXPECT_TRUE(status.ok()) << status.message();
  return all;
}

TEST(OutputMoments, AreMeansOfProductsOfGradients) {
  ModelShape shape;
  shape.fusedQkv = true;
  const RandomModel model = makeRandomModel(shape);
  const Graph &graph = model.graph;
  const std::map<std::string, OutputMoments> found = collect(graph);

  const OutputMomentsOptions options = exactOptions(1);
  WorkerPool pool(1);
  const std::vector<SequenceBatch> tiles = makeTiles(
      pickWindows(makeSamples(graph.vocabSize), options.windows, options.tokens), options.tokens);
  std::map<std::string, std::vector<double>> expected; // [rows, rows]
  int64_t tokens = 0;
  for (const SequenceBatch &tile : tiles)
    tokens += tile.size();
  AdjointHooks hooks;
  hooks.loss = [&](size_t tile, Matrix &logits) {
    return sampleLabels(logits, options.seed, tile, pool);
  };
  hooks.visit = [&](const NodeGradient &seen) -> Status {
    if (graph.nodes[seen.node].kind != NodeKind::Linear)
      return {};
    const Matrix &g = seen.gradient;
    std::vector<double> &sums = expected[graph.nodes[seen.node].name];
    sums.resize(size_t(g.cols * g.cols));
    for (int64_t t = 0; t < g.rows; ++t)
      for (int64_t i = 0; i < g.cols; ++i)
        for (int64_t j = 0; j < g.cols; ++j)
          sums[i * g.cols + j] += double(g.row(t)[i]) * g.row(t)[j] / double(tokens);
    return {};
  };
  ASSERT_TRUE(backpropagate(graph, tiles, pool, {}, hooks).ok());

  EXPECT_EQ(found.size() + 1, expected.size()); // all but the head
  for (const auto &[name, moments] : found) {
    const std::vector<double> &sums = expected.at(name);
    const int64_t rows = int64_t(std::lround(std::sqrt(double(sums.size()))));
    int64_t covered = 0;
    for (const OutputMoments::Block &block : moments.blocks) {
      EXPECT_EQ(block.first, covered) << name;
      covered += block.count;
      double largest = 0;
      for (int64_t i = 0; i < block.count; ++i)
        largest = std::max(largest, sums[(block.first + i) * (rows + 1)]);
      EXPECT_GT(largest, 0) << name;
      for (int64_t i = 0; i < block.count; ++i)
        for (int64_t j = 0; j < block.count; ++j)
          EXPECT_NEAR(block.values[i * block.count + j],
                      sums[(block.first + i) * rows + block.first + j], 1e-5 * largest)
              << name;
    }
    EXPECT_EQ(covered, rows) << name;
  }
}

TEST(OutputMoments, DoNotDependOnTheWorkers) {
  const RandomModel model = makeRandomModel({});
  const auto one = collect(model.graph, 1), three = collect(model.graph, 3);
  ASSERT_EQ(one.size(), three.size());
  for (const auto &[name, moments] : one)
    for (size_t b = 0; b < moments.blocks.size(); ++b)
      EXPECT_EQ(moments.blocks[b].values, three.at(name).blocks[b].values) << name;
}

TEST(OutputMoments, RefuseNoTextAndPassOnFailures) {
  const RandomModel model = makeRandomModel({});
  auto nothing = [](const std::string &, OutputMoments) { return Status(); };
  EXPECT_FALSE(collectOutputMoments(model.graph, {}, {}, nothing).ok());
  EXPECT_FALSE(collectOutputMoments(model.graph, {{}}, {}, nothing).ok());
  auto full = [](const std::string &, OutputMoments) { return internalError("the disk is full"); };
  EXPECT_EQ(collectOutputMoments(model.graph, makeSamples(61), {}, full).message(),
            "the disk is full");
}

} // namespace
} // namespace smelt
