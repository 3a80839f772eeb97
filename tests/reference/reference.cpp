// One function per op, in the order of NodeKind; no library, no reordering, no shortcuts.
#include "tests/reference/reference.h"

#include <cmath>

namespace smelt {

namespace {

/// A value [rows, cols] in double.
struct Value {
  int64_t rows = 0, cols = 0;
  std::vector<double> data;
  double &at(int64_t row, int64_t col) { return data[row * cols + col]; }
  double at(int64_t row, int64_t col) const { return data[row * cols + col]; }
};

double activate(ActivationKind kind, double x) {
  switch (kind) {
  case ActivationKind::Identity:
    return x;
  case ActivationKind::Relu:
    return x > 0 ? x : 0;
  case ActivationKind::Relu2:
    return x > 0 ? x * x : 0;
  case ActivationKind::Silu:
    return x / (1 + std::exp(-x));
  case ActivationKind::GeluTanh:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case ActivationKind::GeluErf:
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  }
  return x;
}

class Evaluator {
public:
  Evaluator(const Graph &graph, std::span<const BatchToken> tokens, std::span<const int32_t> rows,
            const ReferenceOptions &options)
      : graph(graph), tokens(tokens), wanted(rows), options(options) {}

  std::vector<double> logits() {
    for (const Node &node : graph.nodes) {
      values.push_back(evaluate(node));
      if (options.observe)
        options.observe(node, values.back().rows, values.back().data);
    }
    const Value &last = values.back();
    for (const Node &node : graph.nodes)
      if (node.kind == NodeKind::SelectRows)
        return last.data;
    std::vector<double> picked;
    for (int32_t row : wanted)
      for (int64_t k = 0; k < last.cols; ++k)
        picked.push_back(last.at(row, k));
    return picked;
  }

private:
  const Value &input(const Node &node, size_t i) const { return values[node.inputs[i]]; }

  /// A weight as doubles [rows, cols].
  Value weight(const Node &node, size_t i) const {
    const WeightView &view = graph.weights[node.weights[i]];
    std::vector<float> floats(size_t(view.rows * view.cols));
    readRows(view, 0, view.rows, floats.data());
    return {view.rows, view.cols, {floats.begin(), floats.end()}};
  }

  std::optional<DeclaredLinear> declared(const Node &node) const {
    return options.declared ? options.declared(node) : std::nullopt;
  }

  Value evaluate(const Node &node) const {
    switch (node.kind) {
    case NodeKind::Embedding:
      return embedding(node);
    case NodeKind::Linear:
      return linear(node);
    case NodeKind::RmsNorm:
      return rmsNorm(node, node.width);
    case NodeKind::LayerNorm:
      return layerNorm(node);
    case NodeKind::HeadNorm:
      return rmsNorm(node, node.headDim);
    case NodeKind::Rope:
      return rope(node);
    case NodeKind::Attention:
      return attention(node);
    case NodeKind::SelectRows:
      return selectRows(node);
    case NodeKind::Slice:
      return slice(node);
    default:
      return elementwise(node);
    }
  }

  Value embedding(const Node &node) const {
    Value out{int64_t(tokens.size()), node.width, std::vector<double>(tokens.size() * node.width)};
    const WeightView &table = graph.weights[node.weights[0]];
    std::vector<float> row(size_t(node.width));
    std::optional<DeclaredLinear> given = declared(node);
    for (int64_t t = 0; t < out.rows; ++t) {
      const int64_t index = node.positionOffset >= 0 ? tokens[t].position + node.positionOffset
                            : node.tokenTypes        ? int64_t(0)
                                                     : int64_t(tokens[t].id);
      if (given && given->weightRow)
        given->weightRow(index, row);
      else
        readRows(table, index, 1, row.data());
      for (int64_t k = 0; k < node.width; ++k)
        out.at(t, k) = node.scalar * row[k];
    }
    return out;
  }

  Value linear(const Node &node) const {
    Value in = input(node, 0);
    std::optional<DeclaredLinear> given = declared(node);
    if (given)
      for (int64_t t = 0; t < in.rows; ++t)
        roundActivations(given->activation,
                         std::span(in.data).subspan(size_t(t * in.cols), size_t(in.cols)));
    const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
    Value out{in.rows, node.width, std::vector<double>(size_t(in.rows * node.width))};
    std::vector<float> row(size_t(in.cols));
    for (int64_t p = 0, column = 0; p < int64_t(parts); ++p) {
      const WeightView &view = graph.weights[node.weights[p]];
      for (int64_t r = 0; r < view.rows; ++r, ++column) {
        if (given && given->weightRow)
          given->weightRow(column, row);
        else
          readRows(view, r, 1, row.data());
        for (int64_t t = 0; t < in.rows; ++t) {
          double sum = 0;
          for (int64_t k = 0; k < in.cols; ++k)
            sum += in.at(t, k) * double(row[k]);
          out.at(t, column) = sum;
        }
      }
    }
    if (node.hasBias) {
      Value bias = weight(node, parts);
      for (int64_t t = 0; t < out.rows; ++t)
        for (int64_t k = 0; k < out.cols; ++k)
          out.at(t, k) += bias.at(0, k);
    }
    return out;
  }

  /// Over each run of `size` columns; HeadNorm's weight is the same for every run.
  Value rmsNorm(const Node &node, int64_t size) const {
    Value out = input(node, 0), scale = weight(node, 0);
    for (int64_t t = 0; t < out.rows; ++t)
      for (int64_t first = 0; first < out.cols; first += size) {
        double squares = 0;
        for (int64_t k = 0; k < size; ++k)
          squares += out.at(t, first + k) * out.at(t, first + k);
        const double root = std::sqrt(squares / double(size) + node.epsilon);
        for (int64_t k = 0; k < size; ++k)
          out.at(t, first + k) = out.at(t, first + k) / root * scale.at(0, k);
      }
    return out;
  }

  Value layerNorm(const Node &node) const {
    Value out = input(node, 0), scale = weight(node, 0);
    for (int64_t t = 0; t < out.rows; ++t) {
      double mean = 0, variance = 0;
      for (int64_t k = 0; k < out.cols; ++k)
        mean += out.at(t, k) / double(out.cols);
      for (int64_t k = 0; k < out.cols; ++k)
        variance += (out.at(t, k) - mean) * (out.at(t, k) - mean) / double(out.cols);
      for (int64_t k = 0; k < out.cols; ++k)
        out.at(t, k) = (out.at(t, k) - mean) / std::sqrt(variance + node.epsilon) * scale.at(0, k);
    }
    if (node.weights.size() > 1) {
      Value bias = weight(node, 1);
      for (int64_t t = 0; t < out.rows; ++t)
        for (int64_t k = 0; k < out.cols; ++k)
          out.at(t, k) += bias.at(0, k);
    }
    return out;
  }

  /// Pair i of a head, (a, b) = columns (i, i + half) or (2i, 2i + 1), becomes (a cos - b sin, b
  /// cos + a sin) with the angle of the token's position; columns from rotaryDim on stay.
  Value rope(const Node &node) const {
    const Value &in = input(node, 0);
    Value out = in, cos = weight(node, 0), sin = weight(node, 1);
    const int64_t half = node.rotaryDim / 2;
    for (int64_t t = 0; t < out.rows; ++t)
      for (int64_t head = 0; head < node.width / node.headDim; ++head)
        for (int64_t i = 0; i < half; ++i) {
          const int64_t start = head * node.headDim;
          const int64_t a = start + (node.interleaved ? 2 * i : i);
          const int64_t b = start + (node.interleaved ? 2 * i + 1 : i + half);
          const double c = cos.at(tokens[t].position, i), s = sin.at(tokens[t].position, i);
          out.at(t, a) = in.at(t, a) * c - in.at(t, b) * s;
          out.at(t, b) = in.at(t, b) * c + in.at(t, a) * s;
        }
    return out;
  }

  /// Whether token t attends to token s.
  bool sees(const Node &node, int64_t t, int64_t s) const {
    const int64_t ahead = int64_t(tokens[s].position) - tokens[t].position;
    return tokens[s].slot == tokens[t].slot && (ahead <= 0 || node.bidirectional) &&
           (node.window == 0 || std::abs(ahead) < node.window);
  }

  Value attention(const Node &node) const {
    const Value &q = input(node, 0), &k = input(node, 1), &v = input(node, 2);
    Value out{q.rows, node.width, std::vector<double>(size_t(q.rows * node.width))};
    for (int64_t t = 0; t < q.rows; ++t)
      for (int64_t head = 0; head < node.heads; ++head) {
        const int64_t qColumn = head * node.headDim;
        const int64_t kvColumn = head / (node.heads / node.kvHeads) * node.headDim;
        std::vector<double> scores(size_t(q.rows), -INFINITY);
        double most = -INFINITY, total = 0;
        for (int64_t s = 0; s < q.rows; ++s) {
          if (!sees(node, t, s))
            continue;
          double dot = 0;
          for (int64_t i = 0; i < node.headDim; ++i)
            dot += q.at(t, qColumn + i) * k.at(s, kvColumn + i);
          scores[s] = node.scalar * dot;
          if (node.softcap != 0)
            scores[s] = node.softcap * std::tanh(scores[s] / node.softcap);
          if (!node.slopes.empty())
            scores[s] +=
                node.slopes[size_t(head)] * double(tokens[s].position - tokens[t].position);
          most = std::max(most, scores[s]);
        }
        for (double &score : scores) {
          score = std::exp(score - most);
          total += score;
        }
        for (int64_t s = 0; s < q.rows; ++s)
          for (int64_t i = 0; i < node.headDim; ++i)
            out.at(t, qColumn + i) += scores[s] / total * v.at(s, kvColumn + i);
      }
    return out;
  }

  Value selectRows(const Node &node) const {
    const Value &in = input(node, 0);
    Value out{int64_t(wanted.size()), in.cols, {}};
    for (int32_t row : wanted)
      for (int64_t k = 0; k < in.cols; ++k)
        out.data.push_back(in.at(row, k));
    return out;
  }

  Value slice(const Node &node) const {
    const Value &in = input(node, 0);
    Value out{in.rows, node.width, std::vector<double>(size_t(in.rows * node.width))};
    for (int64_t t = 0; t < out.rows; ++t)
      for (int64_t k = 0; k < out.cols; ++k)
        out.at(t, k) = in.at(t, node.first + k);
    return out;
  }

  Value elementwise(const Node &node) const {
    Value out = input(node, 0);
    for (size_t i = 0; i < out.data.size(); ++i) {
      const double a = out.data[i], b = node.inputs.size() > 1 ? input(node, 1).data[i] : 0;
      switch (node.kind) {
      case NodeKind::Gated:
        out.data[i] = activate(node.activation, a) * b;
        break;
      case NodeKind::Activation:
        out.data[i] = activate(node.activation, a);
        break;
      case NodeKind::Add:
        out.data[i] = a + b;
        break;
      case NodeKind::Mul:
        out.data[i] = a * b;
        break;
      case NodeKind::Scale:
        out.data[i] = node.scalar * a;
        break;
      case NodeKind::Softcap:
        out.data[i] = node.scalar * std::tanh(a / node.scalar);
        break;
      default: // evaluated by functions of their own
        break;
      }
    }
    return out;
  }

  const Graph &graph;
  std::span<const BatchToken> tokens;
  std::span<const int32_t> wanted;
  const ReferenceOptions &options;
  std::vector<Value> values;
};

void roundGroup(std::span<double> x, float most) {
  float largest = 0;
  for (double value : x)
    largest = std::max(largest, std::fabs(float(value)));
  if (largest == 0) {
    for (double &value : x)
      value = 0;
    return;
  }
  const float scale = largest / most, inverse = most / largest;
  for (double &value : x)
    value = double(std::nearbyintf(float(value) * inverse)) * double(scale);
}

} // namespace

std::vector<double> referenceLogits(const Graph &graph, std::span<const BatchToken> tokens,
                                    std::span<const int32_t> rows,
                                    const ReferenceOptions &options) {
  return Evaluator(graph, tokens, rows, options).logits();
}

void roundActivations(ActivationFormat format, std::span<double> row) {
  const ActivationInfo &info = activationInfo(format);
  if (info.planes == 0)
    return;
  const size_t group = info.group ? size_t(info.group) : row.size();
  for (size_t first = 0; first < row.size(); first += group)
    roundGroup(row.subspan(first, std::min(group, row.size() - first)),
               float(info.largestCode()));
}

} // namespace smelt
