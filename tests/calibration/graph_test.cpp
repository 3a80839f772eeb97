// Reading of weight rows in every type and layout, and refusal of graphs that do not fit together.
#include "calibration/graph.h"
#include "runtime/formats/formats.h"
#include "tests/calibration/random_model.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

namespace smelt {
namespace {

float expectedElement(const WeightView &view, int64_t row, int64_t col) {
  const int64_t index = row * view.rowStride + col * view.colStride;
  if (view.type == DataType::F32) {
    float value;
    std::memcpy(&value, view.data + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, view.data + index * 2, 2);
  if (view.type == DataType::F16)
    return halfToFloat(bits);
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

TEST(ReadRows, EveryTypeAndStride) {
  for (DataType type : {DataType::F32, DataType::F16, DataType::BF16}) {
    RandomModel model;
    const int32_t index = model.addWeight(80, 100, 1.0, 0, type);
    const WeightView whole = model.graph.weights[index];
    WeightView transposed = whole, slice = whole, strided = whole;
    transposed.rows = 100;
    transposed.cols = 80;
    transposed.rowStride = 1;
    transposed.colStride = 100;
    slice.rows = 40; // a part of a packed matrix
    slice.cols = 33;
    slice.data += (7 * 100 + 5) * (type == DataType::F32 ? 4 : 2);
    strided.rows = 20;
    strided.cols = 30;
    strided.rowStride = 300;
    strided.colStride = 3;
    for (const WeightView &view : {whole, transposed, slice, strided}) {
      const int64_t first = 3, count = view.rows - 5;
      std::vector<float> out(size_t(count * view.cols));
      readRows(view, first, count, out.data());
      for (int64_t row = 0; row < count; ++row)
        for (int64_t col = 0; col < view.cols; ++col)
          ASSERT_EQ(out[row * view.cols + col], expectedElement(view, first + row, col));
    }
  }
}

TEST(ReadRows, EveryHalf) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i)
    bits[i] = uint16_t(i);
  WeightView view{
      "halves", reinterpret_cast<const std::byte *>(bits.data()), DataType::F16, 1, 65536, 65536,
      1};
  std::vector<float> out(bits.size());
  readRows(view, 0, 1, out.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    const float expected = halfToFloat(bits[i]);
    if (std::isnan(expected))
      ASSERT_TRUE(std::isnan(out[i])) << i;
    else
      ASSERT_EQ(out[i], expected) << i;
  }
}

TEST(CheckGraph, AcceptsEveryVariation) {
  for (bool flag : {false, true}) {
    ModelShape shape;
    shape.layerNorm = shape.headNorm = shape.interleaved = shape.fusedQkv = shape.bias = flag;
    shape.parallel = shape.transposed = flag;
    shape.gated = !flag;
    EXPECT_TRUE(checkGraph(makeRandomModel(shape).graph).ok());
  }
  EXPECT_FALSE(checkGraph(Graph()).ok());
}

/// Breaks one thing of a sound model and expects a refusal that names `word`.
template <typename Break> void expectRefused(const char *word, Break breakIt) {
  RandomModel model = makeRandomModel({});
  breakIt(model.graph);
  Status status = checkGraph(model.graph);
  ASSERT_FALSE(status.ok()) << word;
  EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
}

Node &firstOf(Graph &graph, NodeKind kind) {
  for (Node &node : graph.nodes)
    if (node.kind == kind)
      return node;
  return graph.nodes.front();
}

TEST(CheckGraph, RefusesWhatDoesNotFit) {
  expectRefused("earlier", [](Graph &g) { firstOf(g, NodeKind::Add).inputs[1] = 10000; });
  expectRefused("earlier", [](Graph &g) { firstOf(g, NodeKind::Add).inputs[1] = -1; });
  expectRefused("inputs", [](Graph &g) { firstOf(g, NodeKind::Add).inputs.pop_back(); });
  expectRefused("does not exist",
                [](Graph &g) { firstOf(g, NodeKind::Linear).weights[0] = 10000; });
  expectRefused("weights", [](Graph &g) { firstOf(g, NodeKind::RmsNorm).weights.clear(); });
  expectRefused("expected",
                [](Graph &g) { g.weights[firstOf(g, NodeKind::Linear).weights[0]].cols += 1; });
  expectRefused("rows for",
                [](Graph &g) { g.weights[firstOf(g, NodeKind::Linear).weights[0]].rows += 1; });
  expectRefused(
      "empty", [](Graph &g) { g.weights[firstOf(g, NodeKind::Linear).weights[0]].data = nullptr; });
  expectRefused("columns", [](Graph &g) { firstOf(g, NodeKind::Gated).width = 0; });
  expectRefused("heads", [](Graph &g) { firstOf(g, NodeKind::Attention).headDim = 7; });
  expectRefused("key heads", [](Graph &g) {
    Node &node = firstOf(g, NodeKind::Attention);
    node.heads = 3;
    node.headDim = 16;
    node.kvHeads = 2;
    node.width = 48;
    g.nodes[node.inputs[1]].width = g.nodes[node.inputs[2]].width = 32;
    g.nodes[node.inputs[1]].kind = g.nodes[node.inputs[2]].kind = NodeKind::Slice;
    for (int i : {1, 2}) {
      g.nodes[node.inputs[i]].weights.clear();
      g.nodes[node.inputs[i]].inputs = {0};
    }
  });
  expectRefused("rotary", [](Graph &g) { firstOf(g, NodeKind::Rope).rotaryDim = 13; });
}

} // namespace
} // namespace smelt
