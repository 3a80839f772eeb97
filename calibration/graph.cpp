// Reading of weight rows and the check that a graph is well formed before anything runs it.
#include "calibration/graph.h"
#include "calibration/hadamard.h"
#include "runtime/formats/formats.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace smelt {

namespace {

template <DataType type> float element(const std::byte *data, int64_t index) {
  if constexpr (type == DataType::F32) {
    float value;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  } else {
    uint16_t bits;
    std::memcpy(&bits, data + index * 2, 2);
    return type == DataType::F16 ? halfToFloat(bits) : std::bit_cast<float>(uint32_t(bits) << 16);
  }
}

/// A run of halves; written without branches so that it becomes vector code. 2^112 moves the
/// exponent from half's bias to float's, which also normalises subnormal halves.
void convertHalves(const std::byte *data, int64_t count, float *out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, data + i * 2, 2);
    uint32_t magnitude = uint32_t(bits & 0x7fff) << 13;
    float finite = std::bit_cast<float>(magnitude) * 0x1p112f;
    uint32_t special = magnitude | 0x7f800000;
    uint32_t value = magnitude >= 0x0f800000 ? special : std::bit_cast<uint32_t>(finite);
    out[i] = std::bit_cast<float>(value | uint32_t(bits & 0x8000) << 16);
  }
}

template <DataType type>
void readTyped(const WeightView &view, int64_t first, int64_t count, float *out) {
  // Rows that lie together are read along; columns that lie together (the [in, out] storage of
  // MatMul) in blocks of 16 columns that fill a cache line of the result: lines of both sides lie a
  // page apart and would evict each other if they were needed twice.
  constexpr int64_t blockRows = 64, blockCols = 16;
  if (view.colStride == 1) {
    for (int64_t row = 0; row < count; ++row) {
      const int64_t start = (first + row) * view.rowStride;
      if constexpr (type == DataType::F32)
        std::memcpy(out + row * view.cols, view.data + start * 4, size_t(view.cols) * 4);
      else if constexpr (type == DataType::F16)
        convertHalves(view.data + start * 2, view.cols, out + row * view.cols);
      else
        for (int64_t col = 0; col < view.cols; ++col)
          out[row * view.cols + col] = element<type>(view.data, start + col);
    }
    return;
  }
  float lines[blockRows][blockCols];
  for (int64_t row0 = 0; row0 < count; row0 += blockRows)
    for (int64_t col0 = 0; col0 < view.cols; col0 += blockCols) {
      const int64_t rows = std::min(blockRows, count - row0),
                    cols = std::min(blockCols, view.cols - col0);
      const int64_t start = (first + row0) * view.rowStride + col0 * view.colStride;
      for (int64_t col = 0; col < cols; ++col)
        for (int64_t row = 0; row < rows; ++row)
          lines[row][col] =
              element<type>(view.data, start + row * view.rowStride + col * view.colStride);
      for (int64_t row = 0; row < rows; ++row)
        std::copy_n(lines[row], cols, out + (row0 + row) * view.cols + col0);
    }
}

int bitField(const std::byte *data, int64_t index, int bits) {
  int64_t perByte = 8 / bits;
  return int(data[index / perByte]) >> (index % perByte * bits) & ((1 << bits) - 1);
}

float halfOrFloat(const std::byte *data, DataType type, int64_t index) {
  switch (type) {
  case DataType::F16:
    return element<DataType::F16>(data, index);
  case DataType::BF16:
    return element<DataType::BF16>(data, index);
  default:
    return element<DataType::F32>(data, index);
  }
}

void readGiven(const WeightView &view, int64_t first, int64_t count, float *out) {
  const GivenCodes &given = *view.given;
  for (int64_t row = 0; row < count; ++row)
    for (int64_t col = 0; col < view.cols; ++col) {
      int64_t at = view.givenOffset + (first + row) * view.rowStride + col * view.colStride;
      int64_t r = at / given.cols, c = at % given.cols;
      out[row * view.cols + col] = given.scale(r, c) * (float(given.code(r, c)) - given.zero(r, c));
    }
}

void readStored(const WeightView &view, int64_t first, int64_t count, float *out) {
  switch (view.type) {
  case DataType::F32:
    return readTyped<DataType::F32>(view, first, count, out);
  case DataType::F16:
    return readTyped<DataType::F16>(view, first, count, out);
  case DataType::BF16:
    return readTyped<DataType::BF16>(view, first, count, out);
  case DataType::Given:
    return readGiven(view, first, count, out);
  }
}

void scaleRow(const std::vector<float> &factors, int64_t row, int64_t cols, float *values) {
  if (!factors.empty())
    for (int64_t k = 0; k < cols; ++k)
      values[k] *= factors[size_t(row)];
}

/// Rows of R diag(rowFactors) W: a rotated row needs all rows of its block, also those that a view
/// of a part of the matrix leaves out.
void readRotatedRows(const WeightView &view, int64_t first, int64_t count, float *out) {
  const WeightTransform &transform = *view.transform;
  const int64_t size = transform.rowBlock, end = view.transformRow + first + count;
  thread_local std::vector<float> block; // [size, cols]
  block.resize(size_t(size * view.cols));
  for (int64_t row = view.transformRow + first; row < end;) {
    const int64_t start = row / size * size, last = std::min(start + size, end);
    readStored(view, start - view.transformRow, size, block.data());
    for (int64_t i = 0; i < size; ++i)
      scaleRow(transform.rowFactors, start + i, view.cols, block.data() + i * view.cols);
    rotateRows(block.data(), size, view.cols);
    std::copy(block.begin() + (row - start) * view.cols, block.begin() + (last - start) * view.cols,
              out);
    out += (last - row) * view.cols;
    row = last;
  }
}

void readTransformed(const WeightView &view, int64_t first, int64_t count, float *out) {
  const WeightTransform &transform = *view.transform;
  if (transform.rowBlock)
    readRotatedRows(view, first, count, out);
  else
    readStored(view, first, count, out);
  for (int64_t i = 0; i < count; ++i) {
    float *row = out + i * view.cols;
    if (!transform.rowBlock)
      scaleRow(transform.rowFactors, view.transformRow + first + i, view.cols, row);
    if (!transform.columnFactors.empty())
      for (int64_t k = 0; k < view.cols; ++k)
        row[k] *= transform.columnFactors[size_t(k)];
    if (transform.columnBlock)
      rotateBlocks(row, view.cols, transform.columnBlock);
  }
}

} // namespace

int GivenCodes::code(int64_t row, int64_t col) const {
  int value = bitField(codes, row * codeRowStride + col, bits);
  return isSigned && value >= 1 << (bits - 1) ? value - (1 << bits) : value;
}

float GivenCodes::scale(int64_t row, int64_t col) const {
  return halfOrFloat(scales, scaleType,
                     row / rowGroup * scaleRowStride + col / colGroup * scaleColStride);
}

float GivenCodes::zero(int64_t row, int64_t col) const {
  if (!zeros)
    return float(zeroPoint);
  int64_t at = row / rowGroup * zeroRowStride + col / colGroup * zeroColStride;
  if (floatZeros)
    return halfOrFloat(zeros, scaleType, at);
  int value = bitField(zeros, at, bits);
  return float(isSigned && value >= 1 << (bits - 1) ? value - (1 << bits) : value);
}

void readRows(const WeightView &view, int64_t first, int64_t count, float *out) {
  if (view.transform)
    return readTransformed(view, first, count, out);
  readStored(view, first, count, out);
}

WeightView viewOfRows(const WeightView &view, int64_t first, int64_t count) {
  WeightView part = view;
  part.rows = count;
  part.transformRow += first;
  if (view.given)
    part.givenOffset += first * view.rowStride;
  else
    part.data += first * view.rowStride * (view.type == DataType::F32 ? 4 : 2);
  return part;
}

bool isSameView(const WeightView &a, const WeightView &b) {
  return a.data == b.data && a.givenOffset == b.givenOffset && a.rows == b.rows &&
         a.cols == b.cols && a.rowStride == b.rowStride && a.colStride == b.colStride;
}

namespace {

/// What a node of one kind takes: how many inputs and how many weights (-1: a linear's parts).
struct Arity {
  const char *name;
  int inputs, minWeights, maxWeights;
};

Arity arityOf(NodeKind kind) {
  switch (kind) {
  case NodeKind::Embedding:
    return {"embedding", 0, 1, 1};
  case NodeKind::Linear:
    return {"linear", 1, 1, 1 << 20};
  case NodeKind::RmsNorm:
    return {"rms norm", 1, 1, 1};
  case NodeKind::LayerNorm:
    return {"layer norm", 1, 1, 2};
  case NodeKind::HeadNorm:
    return {"head norm", 1, 1, 1};
  case NodeKind::Rope:
    return {"rope", 1, 2, 2};
  case NodeKind::Attention:
    return {"attention", 3, 0, 0};
  case NodeKind::Gated:
    return {"gated activation", 2, 0, 0};
  case NodeKind::Activation:
    return {"activation", 1, 0, 0};
  case NodeKind::Add:
    return {"add", 2, 0, 0};
  case NodeKind::Mul:
    return {"mul", 2, 0, 0};
  case NodeKind::Scale:
    return {"scale", 1, 0, 0};
  case NodeKind::Softcap:
    return {"softcap", 1, 0, 0};
  case NodeKind::SelectRows:
    return {"select rows", 1, 0, 0};
  case NodeKind::Slice:
    return {"slice", 1, 0, 0};
  }
  return {"unknown", -1, 0, 0};
}

class Checker {
public:
  Checker(const Graph &graph, const Node &node) : graph(graph), node(node) {}

  Status check(size_t index) {
    Arity arity = arityOf(node.kind);
    kindName = arity.name;
    if (node.width <= 0)
      return wrong("its value has " + std::to_string(node.width) + " columns");
    if (int(node.inputs.size()) != arity.inputs)
      return wrong("it has " + std::to_string(node.inputs.size()) + " inputs, expected " +
                   std::to_string(arity.inputs));
    for (int32_t input : node.inputs)
      if (input < 0 || size_t(input) >= index)
        return wrong("input " + std::to_string(input) + " is not an earlier node");
    if (int(node.weights.size()) < arity.minWeights || int(node.weights.size()) > arity.maxWeights)
      return wrong("it has " + std::to_string(node.weights.size()) + " weights");
    for (int32_t weight : node.weights) {
      if (weight < 0 || size_t(weight) >= graph.weights.size())
        return wrong("weight " + std::to_string(weight) + " does not exist");
      const WeightView &view = graph.weights[weight];
      if (!view.data || view.rows <= 0 || view.cols <= 0 || view.rowStride < 0 ||
          view.colStride < 0)
        return wrong("weight '" + view.name + "' is empty");
    }
    return checkKind();
  }

private:
  Status wrong(const std::string &what) const {
    return invalidArgument(std::string(kindName) + " node '" + node.name + "': " + what);
  }
  int64_t inputWidth(size_t i) const { return graph.nodes[node.inputs[i]].width; }
  const WeightView &weight(size_t i) const { return graph.weights[node.weights[i]]; }

  Status wantShape(size_t i, int64_t rows, int64_t cols) const {
    const WeightView &view = weight(i);
    if (view.rows == rows && view.cols == cols)
      return {};
    return wrong("weight '" + view.name + "' is [" + std::to_string(view.rows) + ", " +
                 std::to_string(view.cols) + "], expected [" + std::to_string(rows) + ", " +
                 std::to_string(cols) + "]");
  }
  Status wantWidth(size_t i, int64_t width) const {
    if (inputWidth(i) == width)
      return {};
    return wrong("input '" + graph.nodes[node.inputs[i]].name + "' has " +
                 std::to_string(inputWidth(i)) + " columns, expected " + std::to_string(width));
  }

  Status checkHeads(int64_t heads, int64_t width) const {
    if (heads <= 0 || node.headDim <= 0 || heads * node.headDim != width)
      return wrong(std::to_string(heads) + " heads of " + std::to_string(node.headDim) +
                   " columns do not make " + std::to_string(width));
    return {};
  }

  Status checkLinear() const {
    size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
    if (parts == 0)
      return wrong("it has a bias but no weight");
    int64_t rows = 0;
    for (size_t i = 0; i < parts; ++i) {
      SMELT_TRY(wantShape(i, weight(i).rows, inputWidth(0)));
      rows += weight(i).rows;
    }
    if (rows != node.width)
      return wrong("its weights have " + std::to_string(rows) + " rows for " +
                   std::to_string(node.width) + " columns");
    return node.hasBias ? wantShape(parts, 1, node.width) : Status();
  }

  Status checkAttention() const {
    SMELT_TRY(checkHeads(node.heads, node.width));
    SMELT_TRY(wantWidth(0, node.width));
    SMELT_TRY(wantWidth(1, node.kvHeads * node.headDim));
    SMELT_TRY(wantWidth(2, node.kvHeads * node.headDim));
    if (node.kvHeads <= 0 || node.heads % node.kvHeads != 0)
      return wrong(std::to_string(node.heads) + " query heads over " +
                   std::to_string(node.kvHeads) + " key heads");
    if (!node.slopes.empty() && int64_t(node.slopes.size()) != node.heads)
      return wrong(std::to_string(node.slopes.size()) + " slopes for " +
                   std::to_string(node.heads) + " heads");
    return node.window < 0 ? wrong("its window is negative") : Status();
  }

  Status checkRope() const {
    SMELT_TRY(wantWidth(0, node.width));
    if (node.headDim <= 0 || node.width % node.headDim != 0 || node.rotaryDim <= 0 ||
        node.rotaryDim % 2 != 0 || node.rotaryDim > node.headDim)
      return wrong("rotary size " + std::to_string(node.rotaryDim) + " and head size " +
                   std::to_string(node.headDim) + " do not fit " + std::to_string(node.width) +
                   " columns");
    SMELT_TRY(wantShape(0, weight(0).rows, node.rotaryDim / 2));
    return wantShape(1, weight(0).rows, node.rotaryDim / 2);
  }

  Status checkKind() const {
    switch (node.kind) {
    case NodeKind::Embedding:
      if (node.positionOffset >= weight(0).rows)
        return wrong("position offset " + std::to_string(node.positionOffset) + " leaves no row");
      return wantShape(0, weight(0).rows, node.width);
    case NodeKind::Linear:
      return checkLinear();
    case NodeKind::LayerNorm:
      if (node.weights.size() == 2)
        SMELT_TRY(wantShape(1, 1, node.width));
      [[fallthrough]];
    case NodeKind::RmsNorm:
      SMELT_TRY(wantShape(0, 1, node.width));
      return wantWidth(0, node.width);
    case NodeKind::HeadNorm:
      if (node.headDim <= 0 || node.width % node.headDim != 0)
        return wrong("head size " + std::to_string(node.headDim) + " does not divide " +
                     std::to_string(node.width) + " columns");
      SMELT_TRY(wantShape(0, 1, node.headDim));
      return wantWidth(0, node.width);
    case NodeKind::Rope:
      return checkRope();
    case NodeKind::Attention:
      return checkAttention();
    case NodeKind::Gated:
    case NodeKind::Add:
    case NodeKind::Mul:
      SMELT_TRY(wantWidth(1, node.width));
      return wantWidth(0, node.width);
    case NodeKind::Activation:
    case NodeKind::Scale:
    case NodeKind::Softcap:
    case NodeKind::SelectRows:
      return wantWidth(0, node.width);
    case NodeKind::Slice:
      if (node.first < 0 || node.first + node.width > inputWidth(0))
        return wrong("columns [" + std::to_string(node.first) + ", " +
                     std::to_string(node.first + node.width) + ") of " +
                     std::to_string(inputWidth(0)));
      return {};
    }
    return wrong("unknown kind");
  }

  const Graph &graph;
  const Node &node;
  const char *kindName = "";
};

} // namespace

int64_t tokenCount(const Graph &graph) {
  for (const Node &node : graph.nodes)
    if (node.kind == NodeKind::Embedding && node.positionOffset < 0 && !node.tokenTypes)
      return graph.weights[node.weights[0]].rows;
  return 0;
}

Status checkGraph(const Graph &graph) {
  if (graph.nodes.empty())
    return invalidArgument("the graph has no nodes");
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    SMELT_TRY(Checker(graph, graph.nodes[i]).check(i));
  return {};
}

} // namespace smelt
