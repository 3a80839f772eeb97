// Builds the random models.
#include "tests/calibration/random_model.h"
#include "runtime/formats/formats.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace smelt {

namespace {

size_t elementBytes(DataType type) { return type == DataType::F32 ? 4 : 2; }

void storeElement(std::byte *at, DataType type, float value) {
  if (type == DataType::F32) {
    std::memcpy(at, &value, 4);
    return;
  }
  const uint16_t bits =
      type == DataType::F16 ? floatToHalf(value) : uint16_t(std::bit_cast<uint32_t>(value) >> 16);
  std::memcpy(at, &bits, 2);
}

} // namespace

int32_t RandomModel::addWeight(int64_t rows, int64_t cols, double spread, double mean,
                               DataType type, bool transposed) {
  std::normal_distribution<double> normal(mean, spread);
  std::vector<std::byte> &bytes = storage.emplace_back(size_t(rows * cols) * elementBytes(type));
  for (int64_t i = 0; i < rows * cols; ++i)
    storeElement(bytes.data() + size_t(i) * elementBytes(type), type, float(normal(random)));
  WeightView view{
      "w" + std::to_string(graph.weights.size()), bytes.data(), type, rows, cols, cols, 1};
  if (transposed) {
    view.rowStride = 1;
    view.colStride = rows;
  }
  graph.weights.push_back(view);
  return int32_t(graph.weights.size()) - 1;
}

int32_t RandomModel::addWeight(int64_t rows, int64_t cols, const std::vector<float> &values) {
  std::vector<std::byte> &bytes = storage.emplace_back(values.size() * 4);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  graph.weights.push_back({"w" + std::to_string(graph.weights.size()), bytes.data(), DataType::F32,
                           rows, cols, cols, 1});
  return int32_t(graph.weights.size()) - 1;
}

int32_t RandomModel::addNode(Node node) {
  node.name = "n" + std::to_string(graph.nodes.size());
  graph.nodes.push_back(std::move(node));
  return int32_t(graph.nodes.size()) - 1;
}

namespace {

constexpr int64_t maxPositions = 700;

class Builder {
public:
  Builder(const ModelShape &shape, RandomModel &model) : shape(shape), model(model) {}

  void build() {
    Graph &graph = model.graph;
    graph.vocabSize = shape.vocab;
    graph.layers = shape.layers;
    const int32_t table = model.addWeight(shape.vocab, shape.width, 1.0, 0, shape.type);
    makeAngles();
    Node embedding{NodeKind::Embedding, "", {}, {table}, shape.width};
    embedding.scalar = shape.embeddingScale;
    int32_t x = model.addNode(embedding);
    if (shape.positionOffset >= 0) {
      Node positions{NodeKind::Embedding,
                     "",
                     {},
                     {model.addWeight(maxPositions, shape.width, 1.0)},
                     shape.width};
      positions.positionOffset = shape.positionOffset;
      x = add(x, model.addNode(positions));
    }
    for (int64_t layer = 0; layer < shape.layers; ++layer)
      x = addLayer(x, layer);
    x = norm(x);
    x = model.addNode({NodeKind::SelectRows, "", {x}, {}, shape.width});
    Node head{NodeKind::Linear, "", {x}, {table}, shape.vocab};
    x = model.addNode(head);
    if (shape.logitCap != 0) {
      Node cap{NodeKind::Softcap, "", {x}, {}, shape.vocab};
      cap.scalar = shape.logitCap;
      model.addNode(cap);
    }
  }

private:
  void makeAngles() {
    const int64_t half = shape.rotaryDim / 2;
    std::vector<float> cosines, sines;
    for (int64_t position = 0; position < maxPositions; ++position)
      for (int64_t i = 0; i < half; ++i) {
        const double angle = double(position) / std::pow(1000.0, double(i) / double(half));
        cosines.push_back(float(std::cos(angle)));
        sines.push_back(float(std::sin(angle)));
      }
    cos = model.addWeight(maxPositions, half, cosines);
    sin = model.addWeight(maxPositions, half, sines);
  }

  int32_t norm(int32_t x) {
    const int32_t scale = model.addWeight(1, shape.width, 0.2, 1.0);
    Node node{
        shape.layerNorm ? NodeKind::LayerNorm : NodeKind::RmsNorm, "", {x}, {scale}, shape.width};
    node.epsilon = 1e-5;
    if (shape.layerNorm)
      node.weights.push_back(model.addWeight(1, shape.width, 0.1));
    return model.addNode(node);
  }

  int32_t linear(int32_t x, const std::vector<int64_t> &parts, int64_t cols) {
    Node node{NodeKind::Linear, "", {x}, {}, 0};
    for (int64_t rows : parts) {
      node.weights.push_back(model.addWeight(rows, cols, 1.0 / std::sqrt(double(cols)), 0,
                                             shape.type, shape.transposed));
      node.width += rows;
    }
    if (shape.bias) {
      node.weights.push_back(model.addWeight(1, node.width, 0.1));
      node.hasBias = true;
    }
    return model.addNode(node);
  }

  int32_t slice(int32_t x, int64_t first, int64_t width) {
    Node node{NodeKind::Slice, "", {x}, {}, width};
    node.first = first;
    return model.addNode(node);
  }

  int32_t rotate(int32_t x, int64_t width) {
    if (shape.headNorm) {
      Node node{NodeKind::HeadNorm, "", {x}, {model.addWeight(1, shape.headDim, 0.2, 1.0)}, width};
      node.headDim = shape.headDim;
      node.epsilon = 1e-6;
      x = model.addNode(node);
    }
    Node node{NodeKind::Rope, "", {x}, {cos, sin}, width};
    node.headDim = shape.headDim;
    node.rotaryDim = shape.rotaryDim;
    node.interleaved = shape.interleaved;
    return model.addNode(node);
  }

  int32_t attention(int32_t x, int64_t layer) {
    const int64_t width = shape.heads * shape.headDim, kvWidth = shape.kvHeads * shape.headDim;
    int32_t q, k, v;
    if (shape.fusedQkv) {
      const int32_t qkv = linear(x, {width, kvWidth, kvWidth}, shape.width);
      q = slice(qkv, 0, width);
      k = slice(qkv, width, kvWidth);
      v = slice(qkv, width + kvWidth, kvWidth);
    } else {
      q = linear(x, {width}, shape.width);
      k = linear(x, {kvWidth}, shape.width);
      v = linear(x, {kvWidth}, shape.width);
    }
    Node node{NodeKind::Attention, "", {rotate(q, width), rotate(k, kvWidth), v}, {}, width};
    node.heads = shape.heads;
    node.kvHeads = shape.kvHeads;
    node.headDim = shape.headDim;
    node.scalar = 1.0 / std::sqrt(double(shape.headDim));
    node.softcap = shape.attentionCap;
    node.window = shape.window;
    for (int64_t head = 0; shape.slopes && head < shape.heads; ++head)
      node.slopes.push_back(std::exp2(-double(head + 1)));
    node.layer = layer;
    return linear(model.addNode(node), {shape.width}, width);
  }

  int32_t mlp(int32_t x) {
    const int32_t gate = linear(x, {shape.inner}, shape.width);
    Node node{NodeKind::Activation, "", {gate}, {}, shape.inner};
    node.activation = shape.activation;
    if (shape.gated) {
      node.kind = NodeKind::Gated;
      node.inputs.push_back(linear(x, {shape.inner}, shape.width));
    }
    return linear(model.addNode(node), {shape.width}, shape.inner);
  }

  int32_t add(int32_t a, int32_t b) {
    return model.addNode({NodeKind::Add, "", {a, b}, {}, shape.width});
  }

  int32_t addLayer(int32_t x, int64_t layer) {
    const int32_t first = norm(x);
    if (shape.parallel)
      return add(add(x, attention(first, layer)), mlp(first));
    x = add(x, attention(first, layer));
    return add(x, mlp(norm(x)));
  }

  const ModelShape &shape;
  RandomModel &model;
  int32_t cos = 0, sin = 0;
};

} // namespace

RandomModel makeRandomModel(const ModelShape &shape, uint64_t seed) {
  RandomModel model;
  model.random.seed(seed);
  Builder(shape, model).build();
  return model;
}

std::vector<int32_t> randomTokens(int64_t count, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(int32_t(random() % uint64_t(vocab)));
  return tokens;
}

} // namespace smelt
