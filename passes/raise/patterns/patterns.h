// The functions of patterns.def.
#pragma once

#include "passes/raise/context.h"

namespace smelt {

#define RAISE_PATTERN(function, name, anchors, summary)                                            \
  Match function(RaiseContext &context, onnx_ir::NodeOp node);
#include "passes/raise/patterns.def"
#undef RAISE_PATTERN

/// v of 1 / sqrt(v): Reciprocal(Sqrt(v)), Div(1, Sqrt(v)) or Pow(v, -0.5); null for anything else.
mlir::Value inverseRootOf(RaiseContext &context, mlir::Value value);

/// A rotation table that a graph computes: cos and sin of position * inverseFrequency[i], times
/// factor.
struct Angles {
  std::vector<double> inverseFrequency;
  double factor = 1;
};
/// What `cos` and `sin`, values [.., columns], are as functions of the position. Column c belongs
/// to frequency c mod columns / 2 if `isDoubled` (half-split tables of full width), to c / 2 if
/// `isInterleaved` too, else to c.
std::optional<Angles> anglesOf(RaiseContext &context, mlir::Value cos, mlir::Value sin,
                               bool isDoubled, bool isInterleaved, std::string &why);
/// slm.rope with tables made of `angles`.
mlir::Value makeRope(RaiseContext &context, mlir::Value rows, const Angles &angles, int64_t headDim,
                     bool isInterleaved);

/// True if the result is put before something else along its last axis: a head of which only the
/// first columns turn.
bool isPartOfHead(RaiseContext &context, onnx_ir::NodeOp node);

/// Which keys j a query i sees: j <= i, or all of them if bidirectional; with a window (0: none)
/// |i - j| < window.
struct AttentionMask {
  int64_t window = 0;
  bool isBidirectional = false;
};
/// The mask that `value` computes, boolean or added to scores; null `why` on success. No value:
/// every key is seen, which only a graph of whole texts can mean.
std::optional<AttentionMask> attentionMaskOf(RaiseContext &context, mlir::Value value,
                                             std::string &why);

/// A bias that is added to scores: value, [batch, heads, sequence, total] with any axis 1 and
/// leading ones missing, or [batch * heads, sequence, total], times factor.
struct ScoreBias {
  mlir::Value value;
  double factor = 1;
};
/// The slopes of a causal mask with biases slope * position of the key, but for what is the same
/// for all keys of a query: one a head, none if all are 0.
std::optional<std::vector<double>> slopesOf(RaiseContext &context, llvm::ArrayRef<ScoreBias> biases,
                                            int64_t heads, std::string &why);

/// slm.attention of query rows [batch, heads, sequence, dim] over appended keys and values. `scale`
/// multiplies q.k.
struct AttentionParts {
  Rows query;
  mlir::Value keyRows, valueRows; ///< slm values
  int64_t heads, kvHeads, dim;
  double scale, softcap;
  int64_t window;
  std::vector<double> slopes = {}; ///< one a head, or none
  bool isBidirectional = false;
};
mlir::Value makeAttention(RaiseContext &context, const AttentionParts &parts);
/// Takes a constant factor off rows: the value below slm.scale, `scale` multiplied by the factor.
mlir::Value peelScale(mlir::Value rows, double &scale);

} // namespace smelt
