// The functions of patterns.def.
#pragma once

#include "passes/raise/context.h"

namespace smelt {

#define RAISE_PATTERN(function, name, anchors, summary)                                            \
  Match function(RaiseContext &context, onnx_ir::NodeOp node);
#include "passes/raise/patterns.def"
#undef RAISE_PATTERN

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

/// Which keys a query sees: causal, and from `window` on (0: all) the last `window` ones.
struct CausalMask {
  int64_t window = 0;
};
/// The mask that `value` computes, boolean or added to scores; null `why` on success.
std::optional<CausalMask> causalMaskOf(RaiseContext &context, mlir::Value value, std::string &why);

/// slm.attention of query rows [batch, heads, sequence, dim] over appended keys and values. `scale`
/// multiplies q.k.
struct AttentionParts {
  Rows query;
  mlir::Value keyRows, valueRows; ///< slm values
  int64_t heads, kvHeads, dim;
  double scale, softcap;
  int64_t window;
};
mlir::Value makeAttention(RaiseContext &context, const AttentionParts &parts);
/// Takes a constant factor off rows: the value below slm.scale, `scale` multiplied by the factor.
mlir::Value peelScale(mlir::Value rows, double &scale);

} // namespace smelt
