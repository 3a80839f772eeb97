// What the attention patterns share: making slm.attention.
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;

namespace smelt {

Value peelScale(Value rows, double &scale) {
  while (auto op = rows.getDefiningOp<slm::ScaleOp>()) {
    scale *= op.getFactor().convertToDouble();
    rows = op.getInput();
  }
  return rows;
}

/// 1/sqrt(dim) reached through float constants is meant exactly.
static double exactScale(double scale, int64_t dim) {
  double usual = 1 / std::sqrt(double(dim));
  return std::fabs(scale - usual) <= 1e-6 * usual ? usual : scale;
}

Value makeAttention(RaiseContext &context, const AttentionParts &parts) {
  OpBuilder &builder = context.builder;
  auto type =
      RankedTensorType::get({ShapedType::kDynamic, parts.heads * parts.dim}, builder.getF32Type());
  return slm::AttentionOp::create(
      builder, parts.query.value.getLoc(), type, parts.query.value, parts.keyRows, parts.valueRows,
      uint64_t(parts.heads), uint64_t(parts.kvHeads), uint64_t(parts.dim),
      APFloat(exactScale(parts.scale, parts.dim)), APFloat(parts.softcap), uint64_t(parts.window),
      uint64_t(context.layers++), parts.isBidirectional,
      parts.slopes.empty() ? DenseF64ArrayAttr() : builder.getDenseF64ArrayAttr(parts.slopes));
}

} // namespace smelt
