// The model as plain C++: what calibration runs in float and the reference runs in double, free of
// any compiler framework.
//
// A Graph is a list of nodes in execution order over a ragged batch of T tokens. A value is a
// matrix [T, width] of floats and is named by the node that makes it. Weights stay where the file
// is mapped; rows are converted to float when asked for.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// Given: integers with scales, as a file gives them (GivenCodes).
enum class DataType : uint32_t { F32, F16, BF16, Given };

/// A matrix that its file holds as integers: value(r, c) = scale(r, c) * (code(r, c) - zero(r, c)).
/// Codes are packed without gaps, low bits first, element (r, c) at index r * codeRowStride + c;
/// `scales` and `zeros` hold one value for rowGroup x colGroup elements.
struct GivenCodes {
  int64_t rows = 0, cols = 0;
  const std::byte *codes = nullptr;
  int bits = 8; ///< 2, 4 or 8
  bool isSigned = false;
  int64_t codeRowStride = 0;
  int64_t rowGroup = 1, colGroup = 1;
  const std::byte *scales = nullptr;
  DataType scaleType = DataType::F32;
  int64_t scaleRowStride = 0, scaleColStride = 0; ///< elements between groups
  const std::byte *zeros = nullptr;               ///< null: `zeroPoint` for all
  bool floatZeros = false; ///< zeros have the scales' type; else they are packed as the codes
  int64_t zeroRowStride = 0, zeroColStride = 0;
  int zeroPoint = 0;

  int code(int64_t row, int64_t col) const;
  float scale(int64_t row, int64_t col) const;
  float zero(int64_t row, int64_t col) const;
};

/// What an exact re-parameterisation of the model (calibration/fold.h) makes of a stored matrix W
/// [rows, cols]: R diag(rowFactors) W diag(columnFactors) C, where R and C are block-diagonal with
/// orthonormal Hadamard blocks (calibration/hadamard.h). It is applied whenever rows are read, so
/// that nothing is copied.
struct WeightTransform {
  std::vector<float> rowFactors;    ///< [rows]; empty: ones
  std::vector<float> columnFactors; ///< [cols]; empty: ones
  int64_t rowBlock = 0;    ///< size of R's blocks, a power of two that divides rows; 0: no rotation
  int64_t columnBlock = 0; ///< likewise of C's, divides cols
};

/// A view of a mapped matrix or vector; `data` outlives every user (the weight store owns the
/// mapping).
struct WeightView {
  std::string name; ///< initializer name in the ONNX file
  const std::byte *data = nullptr;
  DataType type = DataType::F32;
  int64_t rows = 0;      ///< logical rows (outputs for a linear, 1 for a vector)
  int64_t cols = 0;      ///< logical columns (inputs for a linear)
  int64_t rowStride = 0; ///< elements between rows; lets one view name a slice of a packed matrix
  int64_t colStride = 1; ///< elements between columns: [in, out] storage is a view with rowStride 1
  /// Given: the matrix, of which (0, 0) of this view is the row-major element `givenOffset`; `data`
  /// are its codes.
  std::shared_ptr<const GivenCodes> given = nullptr;
  int64_t givenOffset = 0;
  /// Null: the weights are as stored. `transformRow` is the row of the transform's matrix that is
  /// row 0 of this view.
  std::shared_ptr<const WeightTransform> transform = nullptr;
  int64_t transformRow = 0;
};

/// Converts rows [first, first + count) to float, row-major [count, cols].
void readRows(const WeightView &view, int64_t first, int64_t count, float *out);
/// The view of rows [first, first + count).
WeightView viewOfRows(const WeightView &view, int64_t first, int64_t count);
/// Whether both name the same elements of one file in the same order, whatever transforms they
/// have.
bool isSameView(const WeightView &a, const WeightView &b);

enum class ActivationKind : uint32_t { Identity, Relu, Relu2, Silu, GeluTanh, GeluErf };

/// What a node computes; y is its value, a, b its inputs, w its weights.
enum class NodeKind : uint32_t {
  Embedding, ///< y[t] = scalar * w0[token[t]]                      w0 [vocab, width]; by position
             ///< if `positionOffset` >= 0, by token type (0 here) if `tokenTypes`
  Linear,    ///< y = a * concat_rows(w...)^T + bias                w_i [rows_i, cols]; bias (if
             ///< hasBias) is the last weight [1, rows]
  RmsNorm,   ///< y = a / sqrt(mean(a^2) + epsilon) * w0            w0 [1, width]
  LayerNorm, ///< y = (a - mean(a)) / sqrt(var(a) + epsilon) * w0 + w1 (w1 optional)
  HeadNorm,  ///< RmsNorm over each head of `headDim` columns       w0 [1, headDim]
  Rope, ///< rotate the first `rotaryDim` columns of each head; w0 = cos, w1 = sin [maxPositions,
        ///< rotaryDim / 2]
  Attention,  ///< a = q [T, heads*headDim], b = k, c = v [T, kvHeads*headDim]; over the slot's
              ///< positions up to the token's own, or all if `bidirectional`
  Gated,      ///< y = activation(a) * b
  Activation, ///< y = activation(a)
  Add,        ///< y = a + b
  Mul,        ///< y = a * b
  Scale,      ///< y = scalar * a
  Softcap,    ///< y = scalar * tanh(a / scalar)
  SelectRows, ///< keeps the rows whose logits are asked for
  Slice,      ///< y = a[:, first : first + width]
};

struct Node {
  NodeKind kind;
  std::string name; ///< ONNX name of the node it came from; key of its statistics if it is a linear
  std::vector<int32_t> inputs;  ///< indices of nodes
  std::vector<int32_t> weights; ///< indices into Graph::weights
  int64_t width = 0;            ///< columns of the value
  ActivationKind activation = ActivationKind::Identity;
  bool hasBias = false;
  bool interleaved = false; ///< Rope: pairs (2i, 2i+1) instead of (i, i + rotaryDim/2)
  double scalar = 1.0;      ///< Embedding, Scale: factor; Softcap: cap; Attention: scale of q.k
  double softcap = 0.0;     ///< Attention: 0 = none, applied to scaled scores before the mask
  double epsilon = 0.0;
  int64_t heads = 0, kvHeads = 0, headDim = 0, rotaryDim = 0;
  int64_t window =
      0; ///< Attention: position i sees (i - window, i], or (i - window, i + window); 0: all
  bool bidirectional = false; ///< Attention
  int64_t layer = -1;         ///< Attention: index of its cache
  /// Attention: empty, or for each head the factor of (key position - query position) that is added
  /// to the scores.
  std::vector<double> slopes;
  int64_t first = 0; ///< Slice
  /// Embedding: -1 looks up tokens; otherwise row position + positionOffset is read.
  int64_t positionOffset = -1;
  bool tokenTypes = false; ///< Embedding: row 0 is read, the type of every token of a sample
};

struct Graph {
  std::vector<Node> nodes; ///< execution order; the last one is the result
  std::vector<WeightView> weights;
  int64_t vocabSize = 0; ///< columns of the result
  int64_t layers = 0;
  /// The result's rows are hidden states, whose directions count, and not logits.
  bool givesVectors = false;
};

/// Token ids that the graph looks up: rows of the embedding that is read by them; 0 if there is
/// none.
int64_t tokenCount(const Graph &graph);

/// Refuses a graph whose node inputs, widths or weight shapes do not fit together; whoever runs a
/// graph calls it first.
[[nodiscard]] Status checkGraph(const Graph &graph);

/// One token of a ragged batch.
struct BatchToken {
  int32_t id;
  int32_t position;
  int32_t slot; ///< sequence it belongs to
};

} // namespace smelt
