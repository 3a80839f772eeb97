// Learning scales where the best ones are known, and through packed bytes.
#include "calibration/collect.h"
#include "calibration/tune_packed.h"
#include "tests/calibration/random_model.h"

#include <cmath>
#include <gtest/gtest.h>
#include <set>

namespace smelt {
namespace {

ModelShape shape() {
  ModelShape shape;
  shape.vocab = 24;
  shape.width = 64;
  shape.layers = 1;
  shape.heads = 4;
  shape.kvHeads = 2;
  shape.headDim = shape.rotaryDim = 16;
  shape.inner = 72; // the last group of inputs is not full
  return shape;
}

/// The logits spread over some units, so that the divergence has a gradient.
RandomModel softModel(const ModelShape &shape) {
  RandomModel model = makeRandomModel(shape);
  const WeightView &table = model.graph.weights[0];
  float *values = const_cast<float *>(reinterpret_cast<const float *>(table.data));
  for (int64_t i = 0; i < table.rows * table.cols; ++i)
    values[i] *= 0.3f;
  return model;
}

std::vector<std::vector<int32_t>> samplesOf(int64_t vocab) {
  std::vector<std::vector<int32_t>> samples;
  for (uint64_t i = 0; i < 8; ++i)
    samples.push_back(randomTokens(32, vocab, i + 1));
  return samples;
}

/// Linears' weights, by index.
std::set<int32_t> linearWeights(const Graph &graph) {
  std::set<int32_t> weights;
  for (const Node &node : graph.nodes)
    if (node.kind == NodeKind::Linear)
      weights.insert(node.weights.begin(), node.weights.end());
  return weights;
}

/// A matrix of random 4-bit codes; the model's own weights become its values.
TunedMatrix plantCodes(RandomModel &model, int32_t weight) {
  const WeightView &view = model.graph.weights[weight];
  TunedMatrix matrix;
  matrix.weights = {weight};
  matrix.rows = view.rows;
  matrix.cols = view.cols;
  for (int level = 0; level < 16; ++level)
    matrix.levels.push_back(float(level));
  std::mt19937_64 random(uint64_t(weight) + 100);
  for (int64_t i = 0; i < view.rows * view.cols; ++i)
    matrix.codes.push_back(uint8_t(random() % 16));
  const float size = float(0.2 / std::sqrt(double(view.cols)));
  for (int64_t i = 0; i < view.rows * matrix.groups(); ++i) {
    const float step = size * (0.5f + float(random() % 1000) / 1000);
    matrix.steps.push_back(step);
    matrix.offsets.push_back(7.5f * step);
  }
  float *values = const_cast<float *>(reinterpret_cast<const float *>(view.data));
  for (int64_t n = 0; n < view.rows; ++n)
    matrix.decode(n, values + n * view.cols);
  return matrix;
}

/// Divergences of the first and the last batch.
struct Course {
  double first = -1, last = 0;
};
TuneOptions optionsFor(Course &course) {
  TuneOptions options;
  options.batchTokens = 64;
  options.exactProducts = true;
  options.progress = [&course](double, double divergence) {
    if (course.first < 0)
      course.first = divergence;
    course.last = divergence;
    return true;
  };
  return options;
}

TEST(Tune, FindsTheScalesOfTheFloatModel) {
  RandomModel model = softModel(shape());
  std::vector<TunedMatrix> matrices;
  for (int32_t weight : linearWeights(model.graph))
    if (weight != 0) // the table stays in float
      matrices.push_back(plantCodes(model, weight));
  ASSERT_EQ(matrices.size(), 7u);
  // Every step is wrong by up to 10 %, every offset by up to a third of a step.
  std::mt19937_64 random(3);
  auto noise = [&] { return float(random() % 2001) / 1000 - 1; };
  for (TunedMatrix &matrix : matrices)
    for (size_t i = 0; i < matrix.steps.size(); ++i) {
      matrix.offsets[i] += 0.33f * noise() * matrix.steps[i];
      matrix.steps[i] *= 1 + 0.1f * noise();
    }
  Course course;
  TuneOptions options = optionsFor(course);
  options.epochs = 20;
  options.rate = 5e-3;
  Result<TuneReport> report = tuneScales(model.graph, samplesOf(24), matrices, options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  // The optimum is zero; 80 steps of falling rate come within a fraction of the way.
  EXPECT_GT(course.first, 0.005);
  EXPECT_LT(course.last, 0.1 * course.first);
}

TEST(Tune, WhatIsNotTrainedStays) {
  RandomModel model = softModel(shape());
  std::vector<TunedMatrix> matrices;
  for (int32_t weight : linearWeights(model.graph))
    if (weight != 0)
      matrices.push_back(plantCodes(model, weight));
  matrices[2].steps[5] *= 1.3f;
  for (size_t i = 0; i < matrices.size(); ++i)
    matrices[i].train = i == 4;
  const std::vector<TunedMatrix> before = matrices;
  Course course;
  ASSERT_TRUE(tuneScales(model.graph, samplesOf(24), matrices, optionsFor(course)).ok());
  for (size_t i = 0; i < matrices.size(); ++i) {
    EXPECT_EQ(matrices[i].steps == before[i].steps, i != 4);
    EXPECT_EQ(matrices[i].offsets == before[i].offsets, i != 4);
  }
}

/// All linears of a model, quantized without data.
std::vector<PackedLinear> packModel(const Graph &graph, std::span<const WeightFormat> formats) {
  std::vector<PackedLinear> linears;
  size_t next = 0;
  for (const Node &node : graph.nodes) {
    if (node.kind != NodeKind::Linear)
      continue;
    PackedLinear linear{{node.name, {}, false}, formats[next++ % formats.size()], {}};
    for (int32_t weight : node.weights)
      linear.weights.parts.push_back(graph.weights[weight]);
    Result<QuantizationReport> report =
        quantizeLinear(linear.weights, linear.format, Algorithm::Rtn, nullptr, 1,
                       [&](std::span<const std::byte> bytes) -> Status {
                         linear.bytes.insert(linear.bytes.end(), bytes.begin(), bytes.end());
                         return {};
                       });
    EXPECT_TRUE(report.ok());
    linears.push_back(std::move(linear));
  }
  return linears;
}

TEST(Tune, PackedScalesFollowAndCodesStay) {
  ModelShape fused = shape();
  fused.fusedQkv = true; // three parts in one linear, none a multiple of 16 rows
  fused.headDim = fused.rotaryDim = 12;
  fused.kvHeads = 1;
  RandomModel model = softModel(fused);
  constexpr WeightFormat formats[] = {WeightFormat::A4G32, WeightFormat::N4G16, WeightFormat::A5G64,
                                      WeightFormat::S8C, WeightFormat::F32};
  std::vector<PackedLinear> linears = packModel(model.graph, formats);
  ASSERT_EQ(linears.size(), 6u);
  const std::vector<PackedLinear> before = linears;
  Course course;
  TuneOptions options = optionsFor(course);
  options.epochs = 8;
  options.rate = 5e-3;
  Result<TuneReport> report = tunePacked(model.graph, samplesOf(24), linears, options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_LT(course.last, 0.9 * course.first);

  OwnedTileCodes was, is;
  for (size_t i = 0; i < linears.size(); ++i) {
    const WeightFormat format = linears[i].format;
    ASSERT_EQ(linears[i].bytes.size(), before[i].bytes.size());
    EXPECT_EQ(linears[i].bytes != before[i].bytes, hasLearnableScales(format)) << i;
    const int64_t cols = linears[i].weights.parts[0].cols, size = tileBytes(format, cols);
    for (int64_t at = 0; at < int64_t(linears[i].bytes.size()); at += size) {
      unpackCodes(format, std::span(before[i].bytes).subspan(size_t(at), size_t(size)), cols, was);
      unpackCodes(format, std::span(linears[i].bytes).subspan(size_t(at), size_t(size)), cols, is);
      EXPECT_EQ(is.codes, was.codes);
    }
  }
  // What was measured is what was stored.
  EXPECT_LT(report->after, 0.95 * report->before);
  Course again;
  TuneOptions none = optionsFor(again);
  none.epochs = 0;
  Result<TuneReport> stored = tunePacked(model.graph, samplesOf(24), linears, none);
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->before, report->after);
  EXPECT_EQ(stored->after, report->after);
}

TEST(Tune, NeverWorse) {
  RandomModel model = softModel(shape());
  constexpr WeightFormat formats[] = {WeightFormat::A6G32};
  std::vector<PackedLinear> linears = packModel(model.graph, formats);
  const std::vector<std::byte> before = linears[3].bytes;
  TuneOptions options;
  options.rate = 0.3; // far too fast: nothing that it finds is of use
  Result<TuneReport> report = tunePacked(model.graph, samplesOf(24), linears, options);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->after, report->before);
  EXPECT_EQ(linears[3].bytes, before);
}

TEST(Tune, SameForAnyThreads) {
  RandomModel model = softModel(shape());
  constexpr WeightFormat formats[] = {WeightFormat::A4G32};
  auto tuned = [&](int threads) {
    std::vector<PackedLinear> linears = packModel(model.graph, formats);
    TuneOptions options;
    options.threads = threads;
    options.rate = 1e-3;
    EXPECT_TRUE(tunePacked(model.graph, samplesOf(24), linears, options).ok());
    std::vector<std::byte> bytes;
    for (const PackedLinear &linear : linears)
      bytes.insert(bytes.end(), linear.bytes.begin(), linear.bytes.end());
    return bytes;
  };
  EXPECT_EQ(tuned(1), tuned(3));
}

TEST(Tune, Refuses) {
  RandomModel model = softModel(shape());
  std::vector<TunedMatrix> none;
  EXPECT_FALSE(tuneScales(model.graph, {}, none, {}).ok());
  std::vector<TunedMatrix> wrong = {plantCodes(model, *linearWeights(model.graph).rbegin())};
  wrong[0].rows -= 1;
  EXPECT_EQ(tuneScales(model.graph, samplesOf(24), wrong, {}).status().code(),
            StatusCode::Internal);
  TuneOptions options;
  options.progress = [](double, double) { return false; };
  EXPECT_EQ(tuneScales(model.graph, samplesOf(24), none, options).status().code(),
            StatusCode::Cancelled);
  constexpr WeightFormat formats[] = {WeightFormat::A4G32};
  std::vector<PackedLinear> linears = packModel(model.graph, formats);
  RandomModel other = softModel(shape());
  EXPECT_EQ(tunePacked(other.graph, samplesOf(24), linears, {}).status().code(),
            StatusCode::Internal);
}

} // namespace
} // namespace smelt
