// Forward with a checkpoint at every segment's start; then from the last segment to the first, its
// values once more and its nodes in reverse.
#include "calibration/adjoint.h"
#include "calibration/adjoint_attention.h"
#include "calibration/adjoint_kernels.h"
#include "calibration/kernels.h"
#include "calibration/products.h"
#include "calibration/segments.h"

#include <algorithm>

namespace smelt {

namespace {

constexpr int64_t rowBlock = 32; ///< rows that one item of a row-wise node takes
/// Elements of a weight that are converted at a time, so that a head needs no copy of itself.
constexpr int64_t convertedElements = 1 << 23;
/// A tile's values and gradients of one segment come and go in these many buffers.
constexpr size_t spareBuffers = 16;

class Backward {
public:
  Backward(const Graph &graph, std::span<const SequenceBatch> tiles, WorkerPool &pool,
           const AdjointOptions &options, const AdjointHooks &hooks)
      : graph(graph), tiles(tiles), pool(pool), options(options), hooks(hooks),
        model(graph, pool, options.precision, spareBuffers) {
    model.keepWeights(); // all tiles pass a segment before the next begins
  }

  Status run() {
    const int32_t last = int32_t(graph.nodes.size()) - 1;
    wanted = ancestors(graph, std::span(&last, 1));
    segments = cutSegments(graph, wanted, last + 1);
    checkpoints.resize(segments.size());
    for (std::vector<Matrix> &checkpoint : checkpoints)
      checkpoint.resize(tiles.size());
    for (size_t s = 0; s + 1 < segments.size(); ++s)
      SMELT_TRY(forward(s));
    incoming.resize(tiles.size());
    for (size_t s = segments.size(); s-- > 0;)
      SMELT_TRY(backward(s));
    return {};
  }

private:
  /// The value that a segment reads, or -1.
  int32_t carriedIn(size_t s) const { return s == 0 ? -1 : segments[s - 1].carried; }

  Status report(size_t pass, size_t tile) {
    // A segment costs about three times as much on the way back.
    const size_t all = (segments.size() - 1) + 3 * segments.size();
    if (options.progress &&
        !options.progress((double(pass) + double(tile) / double(tiles.size())) / double(all)))
      return cancelled("the backward pass was cancelled");
    return {};
  }

  Status runValues(size_t s, size_t t, FloatModel::Values &values) {
    values.resize(graph.nodes.size());
    if (carriedIn(s) >= 0)
      values[carriedIn(s)] = std::move(checkpoints[s][t]);
    return model.run(tiles[t], wanted, segments[s].first, segments[s].last, values, {},
                     FloatModel::Keep::All);
  }

  Status forward(size_t s) {
    for (size_t t = 0; t < tiles.size(); ++t) {
      SMELT_TRY(report(s, t));
      FloatModel::Values values;
      SMELT_TRY(runValues(s, t, values));
      checkpoints[s + 1][t] = std::move(values[segments[s].carried]);
      if (carriedIn(s) >= 0 && carriedIn(s) != segments[s].carried)
        checkpoints[s][t] = std::move(values[carriedIn(s)]);
      for (Matrix &value : values)
        model.release(value);
    }
    releaseWeights(s);
    return {};
  }

  Status backward(size_t s) {
    for (size_t t = 0; t < tiles.size(); ++t) {
      SMELT_TRY(report(segments.size() - 1 + 3 * (segments.size() - 1 - s), t));
      SMELT_TRY(runValues(s, t, values));
      gradients.resize(graph.nodes.size());
      if (segments[s].carried >= 0) {
        gradients[segments[s].carried] = std::move(incoming[t]);
      } else {
        SMELT_TRY(hooks.loss(t, values.back()));
        gradients.back() = std::move(values.back());
      }
      for (int32_t i = segments[s].last; i-- > segments[s].first;) {
        if (gradients[i].data)
          SMELT_TRY(adjoint(t, i));
        model.release(values[i]);
        model.release(gradients[i]);
      }
      if (carriedIn(s) >= 0) {
        incoming[t] = std::move(gradients[carriedIn(s)]);
        model.release(values[carriedIn(s)]);
      }
    }
    releaseWeights(s);
    return hooks.finished ? hooks.finished(segments[s].first, segments[s].last) : Status();
  }

  void releaseWeights(size_t s) {
    model.dropWeights();
    for (int32_t i = segments[s].first; options.release && i < segments[s].last; ++i)
      for (int32_t weight : graph.nodes[i].weights)
        options.release(graph.weights[weight]);
  }

  /// Passes the gradient of node i's value on to its inputs.
  Status adjoint(size_t tile, int32_t i) {
    const Node &node = graph.nodes[i];
    const SequenceBatch &batch = tiles[tile];
    switch (node.kind) {
    case NodeKind::Embedding:
      return visit({tile, i, nullptr, gradients[i], nullptr});
    case NodeKind::Linear:
      return linear(tile, i);
    case NodeKind::RmsNorm:
    case NodeKind::LayerNorm:
    case NodeKind::HeadNorm:
      SMELT_TRY(visit({tile, i, &values[node.inputs[0]], gradients[i], nullptr}));
      norm(node, i);
      return {};
    case NodeKind::Rope:
      rope(batch, node, i);
      return {};
    case NodeKind::Attention:
      attention(batch, node, i);
      return {};
    case NodeKind::SelectRows:
      selectRows(batch, node, i);
      return {};
    default:
      elementwise(node, i);
      return {};
    }
  }

  Status visit(const NodeGradient &gradient) {
    return hooks.visit
               ? hooks.visit(gradient).withContext("node '" + graph.nodes[gradient.node].name + "'")
               : Status();
  }

  /// Adds to the gradient of a value.
  void accumulate(int32_t value, Matrix &&part) {
    Matrix &sum = gradients[value];
    if (!sum.data) {
      sum = std::move(part);
      return;
    }
    byRows(sum.rows,
           [&](int64_t t) { rowKernels().add(sum.row(t), part.row(t), sum.row(t), sum.cols); });
    model.release(part);
  }

  template <typename Row> void byRows(int64_t rows, Row row) {
    pool.run((rows + rowBlock - 1) / rowBlock, [&](int64_t block) {
      for (int64_t t = block * rowBlock; t < std::min(rows, (block + 1) * rowBlock); ++t)
        row(t);
    });
  }

  Matrix like(int32_t value) { return model.take(values[value].rows, values[value].cols); }

  /// dx = g W, by runs of rows of the parts.
  Status linear(size_t tile, int32_t i) {
    const Node &node = graph.nodes[i];
    const Matrix &gradient = gradients[i];
    Matrix out = like(node.inputs[0]);
    const Operand g(gradient, options.precision, pool);
    const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
    const uint16_t *kept = model.keptWeights(node, out.cols);
    for (size_t p = 0, column = 0; p < parts; ++p) {
      const WeightView &part = graph.weights[node.weights[p]];
      const int64_t most = std::max<int64_t>(1, convertedElements / part.cols);
      for (int64_t row = 0; row < part.rows; row += most) {
        const int64_t rows = std::min(most, part.rows - row);
        const Operand weights = kept ? Operand(kept + int64_t(column) * part.cols, rows, part.cols)
                                     : Operand(part, row, rows, options.precision, pool);
        multiply(g, {int64_t(column), rows}, false, weights, false, out.row(0), out.cols,
                 column > 0, pool);
        column += size_t(rows);
      }
    }
    SMELT_TRY(visit({tile, i, &values[node.inputs[0]], gradient, &out}));
    accumulate(node.inputs[0], std::move(out));
    return {};
  }

  void norm(const Node &node, int32_t i) {
    const Matrix &x = values[node.inputs[0]];
    std::vector<float> weight(size_t(graph.weights[node.weights[0]].cols));
    readRows(graph.weights[node.weights[0]], 0, 1, weight.data());
    const AdjointKernels &kernels = adjointKernels();
    const int64_t size = node.kind == NodeKind::HeadNorm ? node.headDim : node.width;
    Matrix out = like(node.inputs[0]);
    byRows(x.rows, [&](int64_t t) {
      for (int64_t k = 0; k < node.width; k += size)
        (node.kind == NodeKind::LayerNorm ? kernels.layerNorm : kernels.rmsNorm)(
            x.row(t) + k, weight.data(), node.epsilon, gradients[i].row(t) + k, out.row(t) + k,
            size);
    });
    accumulate(node.inputs[0], std::move(out));
  }

  /// The rotation back: by the negative angle.
  void rope(const SequenceBatch &batch, const Node &node, int32_t i) {
    int64_t longest = 0;
    for (size_t s = 0; s + 1 < batch.starts.size(); ++s)
      longest = std::max(longest, batch.starts[s + 1] - batch.starts[s]);
    const int64_t half = node.rotaryDim / 2;
    std::vector<float> cos(size_t(longest * half)), sin(size_t(longest * half));
    readRows(graph.weights[node.weights[0]], 0, longest, cos.data());
    readRows(graph.weights[node.weights[1]], 0, longest, sin.data());
    for (float &value : sin)
      value = -value;
    Matrix out = like(node.inputs[0]);
    byRows(out.rows, [&](int64_t t) {
      const int64_t at = batch.position(t) * half;
      for (int64_t column = 0; column < node.width; column += node.headDim)
        rowKernels().rope(gradients[i].row(t) + column, cos.data() + at, sin.data() + at, half,
                          node.headDim, node.interleaved, out.row(t) + column);
    });
    accumulate(node.inputs[0], std::move(out));
  }

  void attention(const SequenceBatch &batch, const Node &node, int32_t i) {
    Matrix dq = like(node.inputs[0]), dk = like(node.inputs[1]), dv = like(node.inputs[2]);
    sequenceAttentionAdjoint(node, batch.starts, values[node.inputs[0]].row(0),
                             values[node.inputs[1]].row(0), values[node.inputs[2]].row(0),
                             gradients[i].row(0), dq.row(0), dk.row(0), dv.row(0), pool);
    accumulate(node.inputs[0], std::move(dq));
    accumulate(node.inputs[1], std::move(dk));
    accumulate(node.inputs[2], std::move(dv));
  }

  void selectRows(const SequenceBatch &batch, const Node &node, int32_t i) {
    Matrix out = like(node.inputs[0]);
    std::fill_n(out.row(0), out.rows * out.cols, 0.0f);
    for (int64_t row = 0; row < gradients[i].rows; ++row)
      rowKernels().add(out.row(batch.wanted[row]), gradients[i].row(row),
                       out.row(batch.wanted[row]), out.cols);
    accumulate(node.inputs[0], std::move(out));
  }

  void elementwise(const Node &node, int32_t i) {
    const Matrix &g = gradients[i];
    const int32_t a = node.inputs[0], b = node.inputs.back();
    const bool two = node.inputs.size() > 1;
    Matrix da = like(a), db;
    if (two)
      db = like(b);
    if (node.kind == NodeKind::Slice)
      std::fill_n(da.row(0), da.rows * da.cols, 0.0f);
    byRows(g.rows, [&](int64_t t) {
      const float *gradient = g.row(t), *x = values[a].row(t), *y = values[b].row(t);
      switch (node.kind) {
      case NodeKind::Gated:
        return adjointKernels().gated(node.activation, x, y, gradient, da.row(t), db.row(t),
                                      node.width);
      case NodeKind::Activation:
        return adjointKernels().activate(node.activation, x, gradient, da.row(t), node.width);
      case NodeKind::Add:
        std::copy_n(gradient, node.width, da.row(t));
        std::copy_n(gradient, node.width, db.row(t));
        return;
      case NodeKind::Mul:
        rowKernels().multiply(gradient, y, da.row(t), node.width);
        return rowKernels().multiply(gradient, x, db.row(t), node.width);
      case NodeKind::Scale:
        return rowKernels().scale(float(node.scalar), gradient, da.row(t), node.width);
      case NodeKind::Softcap:
        return adjointKernels().softcap(float(node.scalar), x, gradient, da.row(t), node.width);
      case NodeKind::Slice:
        std::copy_n(gradient, node.width, da.row(t) + node.first);
        return;
      default:
        return; // has a function of its own
      }
    });
    accumulate(a, std::move(da));
    if (two)
      accumulate(b, std::move(db));
  }

  const Graph &graph;
  std::span<const SequenceBatch> tiles;
  WorkerPool &pool;
  const AdjointOptions &options;
  const AdjointHooks &hooks;
  FloatModel model;
  std::vector<bool> wanted;
  std::vector<Segment> segments;
  std::vector<std::vector<Matrix>> checkpoints; ///< per segment and tile: the value it reads
  std::vector<Matrix> incoming; ///< per tile: gradient of the value that the last segment read
  FloatModel::Values values, gradients; ///< of the running segment and tile, by node
};

} // namespace

Status backpropagate(const Graph &graph, std::span<const SequenceBatch> tiles, WorkerPool &pool,
                     const AdjointOptions &options, const AdjointHooks &hooks) {
  return Backward(graph, tiles, pool, options, hooks).run();
}

} // namespace smelt
