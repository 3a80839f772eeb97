// The float executor: dispatch over node kinds, work cut into fixed pieces for the workers.
#include "calibration/float_model.h"
#include "calibration/float_attention.h"
#include "calibration/gemm.h"
#include "calibration/kernels.h"

#include <algorithm>

namespace smelt {

namespace {

constexpr int64_t linearTokens = 512;  ///< tokens of one product
constexpr int64_t linearOutputs = 192; ///< outputs of one product
constexpr int64_t rowBlock = 32;       ///< rows that one item of a row-wise node takes

int64_t blocksOf(int64_t size, int64_t block) { return (size + block - 1) / block; }

} // namespace

int64_t SequenceBatch::position(int64_t token) const {
  return token - *(std::upper_bound(starts.begin(), starts.end(), token) - 1);
}

FloatModel::FloatModel(const Graph &graph, WorkerPool &pool, ProductPrecision precision,
                       size_t mostSpares)
    : graph(graph), pool(pool), precision(precision), mostSpares(mostSpares) {}

Matrix FloatModel::take(int64_t rows, int64_t cols) {
  const int64_t size = rows * cols;
  for (size_t i = 0; i < spares.size(); ++i)
    if (spares[i].size == size) {
      Matrix matrix{rows, cols, std::move(spares[i].data)};
      spares.erase(spares.begin() + int64_t(i));
      return matrix;
    }
  return {rows, cols, std::make_unique_for_overwrite<float[]>(size_t(size))};
}

void FloatModel::release(Matrix &matrix) {
  if (!matrix.data)
    return;
  if (spares.size() == mostSpares)
    spares.erase(spares.begin());
  spares.push_back({matrix.rows * matrix.cols, std::move(matrix.data)});
  matrix = {};
}

Status FloatModel::run(const SequenceBatch &batch, const std::vector<bool> &wanted, int32_t first,
                       int32_t last, Values &values, const LinearHook &hook, Keep keep) {
  std::vector<int32_t> lastUse(graph.nodes.size(), -1);
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (wanted[i] ||
        graph.nodes[i].kind == NodeKind::Linear) // the hook reads it even if nothing else does
      for (int32_t input : graph.nodes[i].inputs)
        lastUse[input] = int32_t(i);
  for (int32_t i = first; i < last; ++i) {
    const Node &node = graph.nodes[i];
    if (hook && node.kind == NodeKind::Linear)
      SMELT_TRY(hook(i, values[node.inputs[0]]));
    if (wanted[i])
      SMELT_TRY(runNode(batch, node, values).withContext("node '" + node.name + "'"));
    for (int32_t input : node.inputs)
      if (keep == Keep::Needed && lastUse[input] <= i)
        release(values[input]);
  }
  return {};
}

Status FloatModel::runNode(const SequenceBatch &batch, const Node &node, Values &values) {
  const int32_t index = int32_t(&node - graph.nodes.data());
  int64_t rows = batch.size();
  if (node.kind == NodeKind::SelectRows)
    rows = int64_t(batch.wanted.size());
  else if (!node.inputs.empty())
    rows = values[node.inputs[0]].rows;
  for (int32_t input : node.inputs)
    if (node.kind != NodeKind::SelectRows && values[input].rows != rows)
      return invalidArgument("its inputs have " + std::to_string(values[input].rows) + " and " +
                             std::to_string(rows) + " rows");
  Matrix out = take(rows, node.width);
  switch (node.kind) {
  case NodeKind::Embedding:
    SMELT_TRY(embed(batch, node, out));
    break;
  case NodeKind::Linear:
    linear(node, values[node.inputs[0]], out);
    break;
  case NodeKind::Rope:
    SMELT_TRY(rope(batch, node, values[node.inputs[0]], out));
    break;
  case NodeKind::Attention:
    if (rows != batch.size())
      return invalidArgument("attention after rows were selected");
    attention(batch, node, values, out);
    break;
  case NodeKind::SelectRows:
    for (int64_t i = 0; i < rows; ++i)
      std::copy_n(values[node.inputs[0]].row(batch.wanted[i]), node.width, out.row(i));
    break;
  default:
    rowwise(node, values, out);
  }
  values[index] = std::move(out);
  return {};
}

Status FloatModel::embed(const SequenceBatch &batch, const Node &node, Matrix &out) {
  const WeightView &table = graph.weights[node.weights[0]];
  const bool isPosition = node.positionOffset >= 0;
  auto rowOf = [&](int64_t t) {
    return isPosition        ? batch.position(t) + node.positionOffset
           : node.tokenTypes ? int64_t(0)
                             : int64_t(batch.tokens[t]);
  };
  for (int64_t t = 0; isPosition && t < out.rows; ++t)
    if (rowOf(t) >= table.rows)
      return invalidArgument("a sequence has more than the " +
                             std::to_string(table.rows - node.positionOffset) +
                             " tokens that the model has positions for");
  for (int32_t token : isPosition || node.tokenTypes ? std::vector<int32_t>() : batch.tokens)
    if (token < 0 || token >= table.rows)
      return invalidArgument("token " + std::to_string(token) + " is outside the vocabulary of " +
                             std::to_string(table.rows));
  pool.run(blocksOf(out.rows, rowBlock), [&](int64_t block) {
    for (int64_t t = block * rowBlock; t < std::min(out.rows, (block + 1) * rowBlock); ++t) {
      readRows(table, rowOf(t), 1, out.row(t));
      if (node.scalar != 1.0)
        rowKernels().scale(float(node.scalar), out.row(t), out.row(t), out.cols);
    }
  });
  return {};
}

namespace {

/// A run of outputs of one part for a run of tokens.
struct Piece {
  const WeightView *part;
  int64_t firstRow, rows; ///< of the part
  int64_t column;         ///< of the output
  int64_t firstToken, tokens;
};

/// The weights as an array of floats if the file holds them as aligned floats, otherwise null.
const float *mappedFloats(const WeightView &view) {
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % alignof(float) == 0;
  return view.type == DataType::F32 && aligned && !view.transform
             ? reinterpret_cast<const float *>(view.data)
             : nullptr;
}
/// The same if every row, or every column, lies together.
const float *mappedRows(const WeightView &view) {
  return view.colStride == 1 && view.rowStride >= view.cols ? mappedFloats(view) : nullptr;
}
const float *mappedColumns(const WeightView &view) {
  return view.rowStride == 1 && view.colStride >= view.rows ? mappedFloats(view) : nullptr;
}

void floatPiece(const Piece &piece, const Matrix &in, Matrix &out) {
  const WeightView &view = *piece.part;
  float *y = out.row(piece.firstToken) + piece.column;
  const float *x = in.row(piece.firstToken);
  // Floats are read where they are mapped, in either orientation; everything else is converted.
  if (const float *mapped = mappedRows(view))
    return gemm(false, true, piece.tokens, piece.rows, view.cols, 1.0f, x, in.cols,
                mapped + piece.firstRow * view.rowStride, view.rowStride, y, out.cols);
  if (const float *mapped = mappedColumns(view))
    return gemm(false, false, piece.tokens, piece.rows, view.cols, 1.0f, x, in.cols,
                mapped + piece.firstRow, view.colStride, y, out.cols);
  thread_local std::vector<float> weights; // [rows, cols]
  weights.resize(size_t(piece.rows * view.cols));
  readRows(view, piece.firstRow, piece.rows, weights.data());
  gemm(false, true, piece.tokens, piece.rows, view.cols, 1.0f, x, in.cols, weights.data(),
       view.cols, y, out.cols);
}

/// Rows of a weight as bfloat16, [count, cols].
void roundRows(const WeightView &view, int64_t first, int64_t count, uint16_t *out) {
  if (const float *mapped = mappedRows(view)) {
    for (int64_t row = 0; row < count; ++row)
      rowKernels().toBfloat16(mapped + (first + row) * view.rowStride, out + row * view.cols,
                              view.cols);
    return;
  }
  thread_local std::vector<float> weights; // [count, cols]
  weights.resize(size_t(count * view.cols));
  readRows(view, first, count, weights.data());
  rowKernels().toBfloat16(weights.data(), out, count * view.cols);
}

/// `kept` are the weights of the linear as bfloat16, or null.
void bfloat16Piece(const Piece &piece, const uint16_t *kept, const uint16_t *in, int64_t cols,
                   Matrix &out) {
  thread_local std::vector<uint16_t> rounded; // [rows, cols]
  const uint16_t *weights = kept ? kept + piece.column * cols : nullptr;
  if (!weights) {
    rounded.resize(size_t(piece.rows * cols));
    roundRows(*piece.part, piece.firstRow, piece.rows, rounded.data());
    weights = rounded.data();
  }
  gemmBfloat16(false, true, piece.tokens, piece.rows, cols, in + piece.firstToken * cols, cols,
               weights, cols, out.row(piece.firstToken) + piece.column, out.cols);
}

} // namespace

const uint16_t *FloatModel::keptWeights(const Node &node, int64_t cols) {
  if (!keepsWeights)
    return nullptr;
  if (auto found = kept.find(&node); found != kept.end())
    return found->second.data();
  const int64_t bytes = node.width * cols * int64_t(sizeof(uint16_t));
  if (keptBytes + bytes > mostKeptBytes)
    return nullptr;
  keptBytes += bytes;
  std::vector<uint16_t> &weights = kept[&node];
  weights.resize(size_t(node.width * cols));
  const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
  for (size_t p = 0, column = 0; p < parts; ++p) {
    const WeightView &part = graph.weights[node.weights[p]];
    pool.run(blocksOf(part.rows, linearOutputs), [&](int64_t block) {
      const int64_t row = block * linearOutputs, rows = std::min(linearOutputs, part.rows - row);
      roundRows(part, row, rows, weights.data() + (int64_t(column) + row) * cols);
    });
    column += size_t(part.rows);
  }
  return weights.data();
}

void FloatModel::dropWeights() {
  kept.clear();
  keptBytes = 0;
}

void FloatModel::linear(const Node &node, const Matrix &in, Matrix &out) {
  std::vector<Piece> pieces;
  const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
  for (int64_t token = 0; token < in.rows; token += linearTokens)
    for (int64_t p = 0, column = 0; p < int64_t(parts); ++p) {
      const WeightView &part = graph.weights[node.weights[p]];
      for (int64_t row = 0; row < part.rows; row += linearOutputs)
        pieces.push_back({&part, row, std::min(linearOutputs, part.rows - row), column + row, token,
                          std::min(linearTokens, in.rows - token)});
      column += part.rows;
    }
  std::vector<float> bias;
  if (node.hasBias) {
    bias.resize(size_t(node.width));
    readRows(graph.weights[node.weights.back()], 0, 1, bias.data());
  }
  const uint16_t *weights = nullptr;
  if (precision == ProductPrecision::Bfloat16) {
    weights = keptWeights(node, in.cols);
    rounded.resize(size_t(in.rows * in.cols));
    pool.run(blocksOf(in.rows, rowBlock), [&](int64_t block) {
      const int64_t first = block * rowBlock, count = std::min(rowBlock, in.rows - first);
      rowKernels().toBfloat16(in.row(first), rounded.data() + first * in.cols, count * in.cols);
    });
  }
  pool.run(int64_t(pieces.size()), [&](int64_t item) {
    const Piece &piece = pieces[item];
    if (precision == ProductPrecision::Bfloat16)
      bfloat16Piece(piece, weights, rounded.data(), in.cols, out);
    else
      floatPiece(piece, in, out);
    float *y = out.row(piece.firstToken) + piece.column;
    if (node.hasBias)
      for (int64_t t = 0; t < piece.tokens; ++t)
        rowKernels().add(y + t * out.cols, bias.data() + piece.column, y + t * out.cols,
                         piece.rows);
  });
}

Status FloatModel::rope(const SequenceBatch &batch, const Node &node, const Matrix &in,
                        Matrix &out) {
  const WeightView &cosView = graph.weights[node.weights[0]];
  const WeightView &sinView = graph.weights[node.weights[1]];
  const int64_t half = node.rotaryDim / 2, heads = node.width / node.headDim;
  if (in.rows != batch.size())
    return invalidArgument("rotation after rows were selected");
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < batch.starts.size(); ++s)
    longest = std::max(longest, batch.starts[s + 1] - batch.starts[s]);
  if (longest > cosView.rows)
    return invalidArgument("a sequence has " + std::to_string(longest) +
                           " tokens, the model's rotation table ends at " +
                           std::to_string(cosView.rows));
  std::vector<float> cos(size_t(longest * half)), sin(size_t(longest * half));
  readRows(cosView, 0, longest, cos.data());
  readRows(sinView, 0, longest, sin.data());
  pool.run(blocksOf(in.rows, rowBlock), [&](int64_t block) {
    for (int64_t t = block * rowBlock; t < std::min(in.rows, (block + 1) * rowBlock); ++t) {
      const int64_t at = batch.position(t) * half;
      for (int64_t head = 0; head < heads; ++head)
        rowKernels().rope(in.row(t) + head * node.headDim, cos.data() + at, sin.data() + at, half,
                          node.headDim, node.interleaved, out.row(t) + head * node.headDim);
    }
  });
  return {};
}

void FloatModel::attention(const SequenceBatch &batch, const Node &node, const Values &values,
                           Matrix &out) {
  sequenceAttention(node, batch.starts, values[node.inputs[0]].row(0),
                    values[node.inputs[1]].row(0), values[node.inputs[2]].row(0), out.row(0), pool);
}

void FloatModel::rowwise(const Node &node, const Values &values, Matrix &out) {
  const Matrix &a = values[node.inputs[0]];
  const Matrix *b = node.inputs.size() > 1 ? &values[node.inputs[1]] : nullptr;
  std::vector<std::vector<float>> weights;
  for (int32_t weight : node.weights) {
    weights.emplace_back(size_t(graph.weights[weight].cols));
    readRows(graph.weights[weight], 0, 1, weights.back().data());
  }
  const RowKernels &kernels = rowKernels();
  auto row = [&](int64_t t) {
    const float *x = a.row(t);
    float *y = out.row(t);
    switch (node.kind) {
    case NodeKind::RmsNorm:
      return kernels.rmsNorm(x, weights[0].data(), node.epsilon, y, node.width);
    case NodeKind::LayerNorm:
      return kernels.layerNorm(x, weights[0].data(),
                               weights.size() > 1 ? weights[1].data() : nullptr, node.epsilon, y,
                               node.width);
    case NodeKind::HeadNorm:
      for (int64_t i = 0; i < node.width; i += node.headDim)
        kernels.rmsNorm(x + i, weights[0].data(), node.epsilon, y + i, node.headDim);
      return;
    case NodeKind::Gated:
      return kernels.gated(node.activation, x, b->row(t), y, node.width);
    case NodeKind::Activation:
      return kernels.activate(node.activation, x, y, node.width);
    case NodeKind::Add:
      return kernels.add(x, b->row(t), y, node.width);
    case NodeKind::Mul:
      return kernels.multiply(x, b->row(t), y, node.width);
    case NodeKind::Scale:
      return kernels.scale(float(node.scalar), x, y, node.width);
    case NodeKind::Softcap:
      return kernels.softcap(float(node.scalar), x, y, node.width);
    case NodeKind::Slice:
      std::copy_n(x + node.first, node.width, y);
      return;
    default:
      return; // run by a function of its own
    }
  };
  pool.run(blocksOf(out.rows, rowBlock), [&](int64_t block) {
    for (int64_t t = block * rowBlock; t < std::min(out.rows, (block + 1) * rowBlock); ++t)
      row(t);
  });
}

std::vector<bool> ancestors(const Graph &graph, std::span<const int32_t> targets) {
  std::vector<bool> wanted(graph.nodes.size(), false);
  for (int32_t target : targets)
    wanted[target] = true;
  for (size_t i = graph.nodes.size(); i-- > 0;)
    if (wanted[i])
      for (int32_t input : graph.nodes[i].inputs)
        wanted[input] = true;
  return wanted;
}

} // namespace smelt
