// Registration and verifiers of the model dialect.
#include "compiler/dialect/slm.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

#include "compiler/dialect/slm_dialect.cpp.inc"
#include "compiler/dialect/slm_enums.cpp.inc"

using namespace mlir;
using namespace smelt::slm;

void SLMDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/slm_ops.cpp.inc"
      >();
}

/// Both are tensors of rank 2 and `value` has `width` columns.
static LogicalResult checkWidth(Operation *op, StringRef what, Value value, int64_t width) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getRank() != 2)
    return op->emitOpError() << what << " must have rank 2, found " << type;
  if (type.getDimSize(1) != width)
    return op->emitOpError() << what << " must have " << width << " columns, found " << type;
  return success();
}

/// A vector weight [1, width].
static LogicalResult checkVector(Operation *op, StringRef what, Value value, int64_t width) {
  if (failed(checkWidth(op, what, value, width)))
    return failure();
  if (rowsOf(value) != 1)
    return op->emitOpError() << what << " must be a vector [1, " << width << "], found "
                             << value.getType();
  return success();
}

LogicalResult EmbeddingOp::verify() {
  if (getPositionOffset() && int64_t(*getPositionOffset()) >= rowsOf(getTable()))
    return emitOpError() << "position_offset " << *getPositionOffset() << " leaves no row of "
                         << getTable().getType();
  if (getTokenTypes() && (*getTokenTypes() < 1 || int64_t(*getTokenTypes()) > rowsOf(getTable())))
    return emitOpError() << "token_types " << *getTokenTypes() << " is not in 1.."
                         << rowsOf(getTable());
  return checkWidth(*this, "result", getResult(), widthOf(getTable()));
}

LogicalResult LinearOp::verify() {
  if (getWeights().empty())
    return emitOpError("needs at least one weight");
  int64_t cols = widthOf(getInput()), rows = 0;
  for (Value weight : getWeights()) {
    if (failed(checkWidth(*this, "weight", weight, cols)))
      return failure();
    rows += rowsOf(weight);
  }
  if (getGated()) {
    if (getWeights().size() != 2 || rowsOf(getWeights()[0]) != rowsOf(getWeights()[1]))
      return emitOpError("gated needs two weights of equal rows (gate, up)");
    if (getBias() || getResidual())
      return emitOpError("gated takes neither bias nor residual");
    rows /= 2;
  }
  if (failed(checkWidth(*this, "result", getResult(), rows)))
    return failure();
  if (getBias() && failed(checkVector(*this, "bias", getBias(), rows)))
    return failure();
  if (getResidual() && failed(checkWidth(*this, "residual", getResidual(), rows)))
    return failure();
  return success();
}

LogicalResult RmsNormOp::verify() {
  if (failed(checkVector(*this, "weight", getWeight(), widthOf(getInput()))))
    return failure();
  return checkWidth(*this, "result", getResult(), widthOf(getInput()));
}

LogicalResult LayerNormOp::verify() {
  int64_t width = widthOf(getInput());
  if (failed(checkVector(*this, "weight", getWeight(), width)))
    return failure();
  if (getBias() && failed(checkVector(*this, "bias", getBias(), width)))
    return failure();
  return checkWidth(*this, "result", getResult(), width);
}

LogicalResult HeadNormOp::verify() {
  if (getHeadDim() == 0 || widthOf(getInput()) % getHeadDim())
    return emitOpError() << "head_dim " << getHeadDim() << " must divide " << widthOf(getInput());
  return checkVector(*this, "weight", getWeight(), getHeadDim());
}

LogicalResult RopeOp::verify() {
  int64_t headDim = getHeadDim(), rotary = getRotaryDim();
  if (headDim == 0 || widthOf(getInput()) % headDim)
    return emitOpError() << "head_dim " << headDim << " must divide " << widthOf(getInput());
  if (rotary <= 0 || rotary > headDim || rotary % 2)
    return emitOpError() << "rotary_dim must be even and within 2.." << headDim << ", found "
                         << rotary;
  if (failed(checkWidth(*this, "cos", getCos(), rotary / 2)))
    return failure();
  return checkWidth(*this, "sin", getSin(), rotary / 2);
}

LogicalResult JoinOp::verify() {
  int64_t width = 0;
  for (Value part : getParts()) {
    if (failed(checkVector(*this, "part", part, widthOf(part))))
      return failure();
    width += widthOf(part);
  }
  return checkVector(*this, "result", getResult(), width);
}

LogicalResult AttentionOp::verify() {
  int64_t heads = getHeads(), kvHeads = getKvHeads(), dim = getHeadDim();
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads)
    return emitOpError() << "heads " << heads << " must be a multiple of kv_heads " << kvHeads;
  if (getSlopes() && int64_t(getSlopes()->size()) != heads)
    return emitOpError() << getSlopes()->size() << " slopes for " << heads << " heads";
  if (failed(checkWidth(*this, "query", getQuery(), heads * dim)) ||
      failed(checkWidth(*this, "key", getKey(), kvHeads * dim)) ||
      failed(checkWidth(*this, "value", getValue(), kvHeads * dim)))
    return failure();
  return checkWidth(*this, "result", getResult(), heads * dim);
}

LogicalResult SliceOp::verify() {
  int64_t width = widthOf(getInput());
  if (getFirst() < 0 || int64_t(getFirst()) + widthOf(getResult()) > width)
    return emitOpError() << "columns " << getFirst() << " .. " << getFirst() + widthOf(getResult())
                         << " lie outside the input's " << width;
  return success();
}

#define GET_OP_CLASSES
#include "compiler/dialect/slm_ops.cpp.inc"
