// Two models over the same tokens: the float one gives the targets, the quantized one is a graph of
// the same nodes whose weights are decoded anew before every step.
#include "calibration/tune.h"
#include "calibration/adjoint.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"
#include "calibration/products.h"
#include "calibration/segments.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <random>
#include <tuple>

namespace smelt {

namespace {

constexpr int64_t tileTokens = 512; ///< that run at once
constexpr int64_t rowBlock = 32;    ///< rows of a matrix that one item takes
/// Elements of a matrix whose gradient is in memory at a time.
constexpr int64_t gradientElements = 1 << 22;

/// Adam's state of one matrix. Parameters are relative, so that one rate fits all: step = first
/// step * (1 + a), offset = first offset + first step * reach * b, where `reach` is half the
/// largest distance of a level from their middle: both move a weight about as far.
struct Optimizer {
  std::vector<float> unit; ///< the first steps' size, [rows, groups]
  float reach = 1;
  std::vector<float> gradient, mean, square; ///< steps, then offsets
};

class Tuner {
public:
  Tuner(const Graph &graph, std::vector<TunedMatrix> &matrices, const TuneOptions &options)
      : teacher(graph), student(graph), matrices(matrices), options(options), pool(options.threads),
        precision(!options.exactProducts && bfloat16IsFast() ? ProductPrecision::Bfloat16
                                                             : ProductPrecision::Float),
        teacherModel(teacher, pool, precision) {}

  Result<TuneReport> run(const std::vector<std::vector<int32_t>> &samples) {
    SMELT_TRY(prepare());
    SMELT_TRY(runTeacher(makeTiles(samples, tileTokens)));
    TuneReport report;
    decodeAll();
    SMELT_ASSIGN(report.before, measureHeld());
    report.after = report.before;
    best = scalesNow();
    Scales restart = best;
    const std::vector<std::vector<std::vector<size_t>>> epochs = planEpochs();
    double factor = 1;
    int64_t time = 0;
    for (size_t epoch = 0; epoch < epochs.size(); ++epoch) {
      for (size_t step = 0; step < epochs[epoch].size(); ++step) {
        const double share =
            (double(epoch) + double(step) / double(epochs[epoch].size())) / double(epochs.size());
        decodeAll();
        double divergence = 0;
        SMELT_TRY(addGradients(epochs[epoch][step], divergence));
        update(++time, options.rate * factor * (1 - share));
        if (options.progress && !options.progress(share, divergence))
          return cancelled("learning the scales was cancelled");
      }
      Scales learned = scalesNow();
      if (options.settle)
        options.settle(matrices);
      decodeAll();
      SMELT_ASSIGN(double divergence, measureHeld());
      if (divergence < report.after) {
        report.after = divergence;
        best = scalesNow();
        restart = std::move(learned);
      } else {
        factor /= 4;
        time = 0;
        forgetMoments();
      }
      setScales(restart);
    }
    setScales(best);
    return report;
  }

private:
  Status prepare() {
    const bool halves = precision == ProductPrecision::Bfloat16;
    for (TunedMatrix &matrix : matrices) {
      std::vector<std::byte> &bytes =
          storage.emplace_back(size_t(matrix.rows * matrix.cols) * (halves ? 2 : 4));
      for (int32_t weight : matrix.weights) {
        const WeightView &view = teacher.weights[weight];
        if (view.rows != matrix.rows || view.cols != matrix.cols)
          return internalError("a matrix of " + std::to_string(matrix.rows) + " x " +
                               std::to_string(matrix.cols) + " stands for weight '" + view.name +
                               "' of " + std::to_string(view.rows) + " x " +
                               std::to_string(view.cols));
        student.weights[weight] = {view.name,
                                   bytes.data(),
                                   halves ? DataType::BF16 : DataType::F32,
                                   matrix.rows,
                                   matrix.cols,
                                   matrix.cols,
                                   1};
        byWeight[weight] = states.size();
      }
      Optimizer state;
      for (float step : matrix.steps)
        state.unit.push_back(std::fabs(step));
      const auto [low, high] = std::minmax_element(matrix.levels.begin(), matrix.levels.end());
      state.reach = (*high - *low) / 4;
      if (matrix.train) {
        state.gradient.assign(matrix.steps.size() + matrix.offsets.size(), 0.0f);
        state.mean = state.square = state.gradient;
      }
      states.push_back(std::move(state));
    }
    const int32_t last = int32_t(teacher.nodes.size()) - 1;
    wanted = ancestors(teacher, std::span(&last, 1));
    for (int32_t i = 0; i <= last; ++i)
      if (wanted[i] && teacher.nodes[i].kind == NodeKind::Linear)
        head = i;
    return {};
  }

  /// The float model up to its head, once; its logits are made again from there.
  Status runTeacher(std::vector<SequenceBatch> all) {
    constexpr size_t heldEvery = 8;
    for (size_t i = 0; i < all.size(); ++i) {
      FloatModel::Values values(teacher.nodes.size());
      SMELT_TRY(teacherModel.run(all[i], wanted, 0, head, values));
      hidden.push_back(std::move(values[teacher.nodes[head].inputs[0]]));
      tiles.push_back(std::move(all[i]));
      (i % heldEvery == heldEvery / 2 ? held : learning).push_back(i);
    }
    if (held.empty()) // too little text to hold any back
      held = learning;
    return {};
  }

  /// Tiles of every step of every epoch, each time in a new order.
  std::vector<std::vector<std::vector<size_t>>> planEpochs() const {
    std::mt19937_64 random(options.seed);
    std::vector<size_t> order = learning;
    std::vector<std::vector<std::vector<size_t>>> epochs(size_t(options.epochs));
    for (std::vector<std::vector<size_t>> &batches : epochs) {
      for (size_t i = order.size(); i > 1; --i) // not std::shuffle, whose result is not specified
        std::swap(order[i - 1], order[random() % i]);
      int64_t tokens = 0;
      for (size_t tile : order) {
        if (batches.empty() || tokens + tiles[tile].size() > options.batchTokens) {
          batches.emplace_back();
          tokens = 0;
        }
        batches.back().push_back(tile);
        tokens += tiles[tile].size();
      }
    }
    return epochs;
  }

  /// Steps and offsets of all matrices.
  using Scales = std::vector<std::pair<std::vector<float>, std::vector<float>>>;
  Scales scalesNow() const {
    Scales scales;
    for (const TunedMatrix &matrix : matrices)
      scales.emplace_back(matrix.steps, matrix.offsets);
    return scales;
  }
  void setScales(const Scales &scales) {
    for (size_t i = 0; i < matrices.size(); ++i)
      std::tie(matrices[i].steps, matrices[i].offsets) = scales[i];
  }
  void forgetMoments() {
    for (Optimizer &state : states)
      for (std::vector<float> *moments : {&state.mean, &state.square})
        std::fill(moments->begin(), moments->end(), 0.0f);
  }

  /// Mean divergence of the decoded matrices on the tiles that were held back.
  Result<double> measureHeld() {
    const int32_t last = int32_t(student.nodes.size()) - 1;
    FloatModel model(student, pool, precision);
    int64_t tokens = 0;
    for (size_t tile : held)
      tokens += tiles[tile].size();
    double divergence = 0;
    for (size_t tile : held) {
      FloatModel::Values values(student.nodes.size());
      SMELT_TRY(model.run(tiles[tile], wanted, 0, last + 1, values));
      SMELT_TRY(lossGradient(tiles[tile], hidden[tile], tokens, values.back(), divergence));
    }
    return divergence;
  }

  void decodeAll() {
    for (size_t m = 0; m < matrices.size(); ++m) {
      const TunedMatrix &matrix = matrices[m];
      std::byte *bytes = storage[m].data();
      pool.run((matrix.rows + rowBlock - 1) / rowBlock, [&](int64_t block) {
        thread_local std::vector<float> row; // [cols]
        row.resize(size_t(matrix.cols));
        for (int64_t n = block * rowBlock; n < std::min(matrix.rows, (block + 1) * rowBlock); ++n) {
          if (precision == ProductPrecision::Float) {
            matrix.decode(n, reinterpret_cast<float *>(bytes) + n * matrix.cols);
            continue;
          }
          matrix.decode(n, row.data());
          rowKernels().toBfloat16(row.data(), reinterpret_cast<uint16_t *>(bytes) + n * matrix.cols,
                                  matrix.cols);
        }
      });
    }
  }

  Status addGradients(const std::vector<size_t> &batch, double &divergence) {
    std::vector<SequenceBatch> chosen;
    int64_t tokens = 0;
    for (size_t tile : batch) {
      chosen.push_back(tiles[tile]);
      tokens += tiles[tile].size();
    }
    AdjointOptions adjoint;
    adjoint.precision = precision;
    AdjointHooks hooks;
    hooks.loss = [&](size_t tile, Matrix &logits) {
      return lossGradient(chosen[tile], hidden[batch[tile]], tokens, logits, divergence);
    };
    hooks.visit = [this](const NodeGradient &seen) { return visit(seen); };
    return backpropagate(student, chosen, pool, adjoint, hooks);
  }

  /// Gradient of the mean divergence by the logits: (q - p) / tokens.
  Status lossGradient(const SequenceBatch &tile, const Matrix &input, int64_t tokens,
                      Matrix &logits, double &divergence) {
    const int32_t last = int32_t(teacher.nodes.size()) - 1;
    FloatModel::Values values(teacher.nodes.size());
    Matrix &copy = values[teacher.nodes[head].inputs[0]];
    copy = teacherModel.take(input.rows, input.cols);
    std::copy_n(input.row(0), input.rows * input.cols, copy.row(0));
    SMELT_TRY(teacherModel.run(tile, wanted, head, last + 1, values));
    Matrix &target = values.back();
    std::vector<double> divergences(size_t(logits.rows));
    pool.run(logits.rows, [&](int64_t row) {
      float *q = logits.row(row), *p = target.row(row);
      rowKernels().softmax(p, 0, logits.cols, logits.cols);
      rowKernels().softmax(q, 0, logits.cols, logits.cols);
      double sum = 0;
      for (int64_t k = 0; k < logits.cols; ++k) {
        if (p[k] > 1e-12f)
          sum += double(p[k]) * std::log(double(p[k]) / std::max(double(q[k]), 1e-30));
        q[k] = (q[k] - p[k]) / float(tokens);
      }
      divergences[row] = sum;
    });
    for (double value : divergences)
      divergence += value / double(tokens);
    for (Matrix &value : values)
      teacherModel.release(value);
    return {};
  }

  /// A table that is tied to the head learns from the head alone.
  Status visit(const NodeGradient &seen) {
    const Node &node = student.nodes[seen.node];
    if (node.kind != NodeKind::Linear)
      return {};
    std::optional<Operand> g, x;
    const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
    for (int64_t p = 0, column = 0; p < int64_t(parts); ++p) {
      const int64_t rows = student.weights[node.weights[p]].rows;
      const auto found = byWeight.find(node.weights[p]);
      if (found != byWeight.end() && matrices[found->second].train) {
        if (!g) {
          g.emplace(seen.gradient, precision, pool);
          x.emplace(*seen.input, precision, pool);
        }
        addMatrix(*g, column, *x, found->second);
      }
      column += rows;
    }
    return {};
  }

  /// dW by runs of rows, summed over groups.
  void addMatrix(const Operand &g, int64_t column, const Operand &x, size_t index) {
    const TunedMatrix &matrix = matrices[index];
    const int64_t most = std::max<int64_t>(1, gradientElements / matrix.cols);
    for (int64_t first = 0; first < matrix.rows; first += most) {
      const int64_t count = std::min(most, matrix.rows - first);
      products.resize(size_t(count * matrix.cols)); // dW [count, cols]
      multiply(g, {column + first, count}, true, x, false, products.data(), matrix.cols, false,
               pool);
      pool.run((count + rowBlock - 1) / rowBlock, [&](int64_t block) {
        for (int64_t n = block * rowBlock; n < std::min(count, (block + 1) * rowBlock); ++n)
          addRow(matrix, first + n, products.data() + n * matrix.cols, states[index]);
      });
    }
  }

  static void addRow(const TunedMatrix &matrix, int64_t n, const float *dW, Optimizer &state) {
    const int64_t groups = matrix.groups();
    const uint8_t *codes = matrix.codes.data() + n * matrix.cols;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t from = group * matrix.group, to = std::min(matrix.cols, from + matrix.group);
      float steps = 0, offsets = 0;
      for (int64_t k = from; k < to; ++k) {
        steps += dW[k] * matrix.levels[codes[k]];
        offsets -= dW[k];
      }
      // By the relative parameters: times the first step.
      const size_t at = size_t(n * groups + group);
      state.gradient[at] += steps * state.unit[at];
      if (!matrix.offsets.empty())
        state.gradient[matrix.steps.size() + at] += offsets * state.reach * state.unit[at];
    }
  }

  void update(int64_t time, double rate) {
    constexpr float first = 0.9f, second = 0.95f;
    const float meanScale = float(1 / (1 - std::pow(double(first), double(time))));
    const float squareScale = float(1 / (1 - std::pow(double(second), double(time))));
    for (size_t m = 0; m < matrices.size(); ++m) {
      TunedMatrix &matrix = matrices[m];
      Optimizer &state = states[m];
      const size_t steps = matrix.steps.size();
      pool.run(int64_t((state.gradient.size() + 4095) / 4096), [&](int64_t block) {
        const size_t end = std::min(state.gradient.size(), size_t(block + 1) * 4096);
        for (size_t i = size_t(block) * 4096; i < end; ++i) {
          const float gradient = state.gradient[i];
          state.gradient[i] = 0;
          state.mean[i] = first * state.mean[i] + (1 - first) * gradient;
          state.square[i] = second * state.square[i] + (1 - second) * gradient * gradient;
          const float root = std::sqrt(state.square[i] * squareScale);
          if (root == 0)
            continue;
          const float move = float(rate) * state.mean[i] * meanScale / root;
          if (i < steps)
            matrix.steps[i] -= move * state.unit[i];
          else
            matrix.offsets[i - steps] -= move * state.reach * state.unit[i - steps];
        }
      });
    }
  }

  const Graph &teacher;
  Graph student; ///< the same with decoded weights
  std::vector<TunedMatrix> &matrices;
  const TuneOptions &options;
  WorkerPool pool;
  const ProductPrecision precision;
  FloatModel teacherModel;
  std::vector<std::vector<std::byte>> storage; ///< decoded weights by matrix
  std::map<int32_t, size_t> byWeight;
  std::vector<Optimizer> states;
  std::vector<bool> wanted;
  int32_t head = -1; ///< the last linear
  std::vector<SequenceBatch> tiles;
  std::vector<size_t> learning, held; ///< tiles
  Scales best;
  std::vector<Matrix> hidden; ///< per tile: the float model's input of the head
  std::vector<float> products;
};

} // namespace

void TunedMatrix::decode(int64_t n, float *out) const {
  const int64_t count = groups();
  for (int64_t g = 0; g < count; ++g) {
    const float step = steps[n * count + g], offset = offsets.empty() ? 0 : offsets[n * count + g];
    for (int64_t k = g * group; k < std::min(cols, (g + 1) * group); ++k)
      out[k] = step * levels[codes[n * cols + k]] - offset;
  }
}

Result<TuneReport> tuneScales(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                              std::vector<TunedMatrix> &matrices, const TuneOptions &options) {
  SMELT_TRY(checkGraph(graph));
  if (samples.empty())
    return invalidArgument("there are no samples to learn scales from");
  return Tuner(graph, matrices, options).run(samples);
}

} // namespace smelt
