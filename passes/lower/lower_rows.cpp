// Lowering of what works row by row: embeddings, norms, linears, elementwise operations and the
// selection of rows.
#include "passes/lower/lowering.h"

using namespace mlir;
using smelt::format::Domain;
using smelt::format::OperandKind;
using smelt::format::OpLabel;

namespace smelt {

Status Lowering::lowerEmbedding(slm::EmbeddingOp op) {
  if (!op.getFormat() || !op.getPackedOffset())
    return refuse(op, "it was not quantized (no format or packed_offset)");
  SMELT_ASSIGN(WeightFormat format, findFormat(op.getFormat()->str()));
  Place out = newRows(op.getResult(), Domain::Tokens);
  KernelSpec spec;
  spec.kind = KernelKind::Embed;
  spec.format = format;
  spec.rows = slm::rowsOf(op.getTable());
  spec.cols = slm::widthOf(op.getTable());
  spec.outStride = out.stride;
  spec.scalar = op.getScale().convertToDouble();
  Location indices{OperandKind::Tokens, 0};
  if (auto offset = op.getPositionOffset()) {
    indices = positions();
    spec.firstRow = int64_t(*offset);
    limitContext(spec.rows - spec.firstRow);
  } else if (auto types = op.getTokenTypes()) {
    indices = positions();
    spec.firstIndex = 3 * options.maxTokens;
    program.config.tokenTypes = uint32_t(*types);
  } else {
    program.config.inputVocab = uint32_t(spec.rows);
  }
  emit(spec, Domain::Tokens, OpLabel::Embedding,
       {{OperandKind::Weights, int64_t(*op.getPackedOffset())}, indices, out.location});
  program.config.hiddenSize = uint32_t(spec.cols);
  return {};
}

Lowering::Readers Lowering::readersOf(Value value) {
  Readers readers;
  bool differ = false;
  for (OpOperand &use : value.getUses()) {
    auto linear = dyn_cast<slm::LinearOp>(use.getOwner());
    const bool isInput = linear && use.getOperandNumber() == 0 && linear.getActivation();
    std::optional<ActivationFormat> format;
    if (isInput)
      if (auto found = findActivation(linear.getActivation()->str()); found.ok())
        format = *found;
    readers.others |= !format;
    if (!format)
      continue;
    differ |= readers.activation && *readers.activation != *format;
    readers.activation = *format;
  }
  if (differ)
    readers = {std::nullopt, true};
  return readers;
}

Status Lowering::lowerNorm(Operation *op, Value input, Value weight, Value bias, double epsilon,
                           bool layerNorm) {
  SMELT_ASSIGN(Place in, placeOf(input));
  Value result = op->getResult(0);
  Domain domain = in.gather ? Domain::LogitRows : in.domain;
  KernelSpec spec;
  spec.kind = KernelKind::Norm;
  spec.layerNorm = layerNorm;
  spec.bias = bool(bias);
  spec.cols = slm::widthOf(input);
  spec.inStride = in.stride;
  spec.epsilon = epsilon;
  spec.logitRows = domain == Domain::LogitRows;
  spec.gatherRows = in.gather;
  Location biasLocation;
  SMELT_ASSIGN(Location weightLocation, vectorWeight(weight));
  if (bias) {
    SMELT_ASSIGN(biasLocation, vectorWeight(bias));
  }

  // Where the result goes: activations for linears (beside float rows, if something else reads it
  // too), onto the residual it is added to, or float rows.
  Location out, rows;
  auto addition =
      result.hasOneUse() ? dyn_cast<slm::AddOp>(*result.getUsers().begin()) : slm::AddOp();
  Value residual =
      addition ? (addition.getLhs() == result ? addition.getRhs() : addition.getLhs()) : Value();
  if (Readers readers = readersOf(result); readers.activation) {
    const ActivationFormat format = *readers.activation;
    spec.normOutput = readers.others ? NormOutput::FloatAndActivation : NormOutput::Activation;
    spec.activation = format;
    spec.ownCopy = options.joinsSteps && !readers.others;
    out = newActivations(format, spec.cols, domain, spec.ownCopy);
    activations[{result.getAsOpaquePointer(), format}] = out;
    if (readers.others) {
      Place place = newRows(result, domain);
      spec.outStride = place.stride;
      rows = place.location;
    }
  } else if (residual && residual != result && places.count(residual) &&
             places[residual].domain == domain && !places[residual].gather &&
             places[residual].location.kind == OperandKind::Scratch &&
             isLastUse(residual, addition)) {
    Place target = places[residual];
    spec.normOutput = NormOutput::AddToResidual;
    spec.outStride = target.stride;
    out = target.location;
    places[addition.getResult()] = target;
  } else {
    Place target = newRows(result, domain);
    spec.outStride = target.stride;
    out = target.location;
  }
  emit(spec, domain, OpLabel::Norm,
       {in.location, weightLocation, biasLocation, out, {OperandKind::LogitRows, 0}, rows});
  return {};
}

Status Lowering::lowerLinear(slm::LinearOp op) {
  if (!op.getFormat() || !op.getActivation() || !op.getPackedOffset())
    return refuse(op, "it was not quantized (no format, activation or packed_offset)");
  KernelSpec spec;
  spec.kind = KernelKind::Linear;
  SMELT_ASSIGN(spec.format, findFormat(op.getFormat()->str()));
  SMELT_ASSIGN(spec.activation, findActivation(op.getActivation()->str()));
  SMELT_ASSIGN(Location input, activationsOf(op.getInput(), spec.activation));
  spec.ownCopy = input.isOwn;
  bool inLogits = false;
  if (auto found = places.find(op.getInput()); found != places.end())
    inLogits = found->second.gather || found->second.domain == Domain::LogitRows;
  else // only activations: made by a norm, whose input tells
    for (Value operand : op.getInput().getDefiningOp()->getOperands())
      if (auto place = places.find(operand); place != places.end())
        inLogits |= place->second.gather || place->second.domain == Domain::LogitRows;
  Domain domain = inLogits ? Domain::LogitRows : Domain::Tokens;
  spec.logitRows = inLogits;
  spec.rows = slm::widthOf(op.getResult());
  spec.cols = slm::widthOf(op.getInput());
  spec.bias = bool(op.getBias());
  Location bias;
  if (op.getBias()) {
    SMELT_ASSIGN(bias, vectorWeight(op.getBias()));
  }

  // Epilogue.
  Place out;
  Value residual = op.getResidual();
  bool addAfterwards = false;
  if (op.getGated()) {
    spec.epilogue = LinearEpilogue::Gated;
    spec.activationKind = uint32_t(*op.getGated());
  }
  if (residual) {
    SMELT_ASSIGN(Place target, placeOf(residual));
    if (isLastUse(residual, op) && target.location.kind == OperandKind::Scratch && !target.gather &&
        target.domain == domain) {
      spec.epilogue = LinearEpilogue::AddTo;
      out = places[op.getResult()] = target;
    } else {
      addAfterwards = true;
    }
  }
  if (spec.epilogue != LinearEpilogue::AddTo)
    out = newRows(op.getResult(), domain);
  spec.outStride = out.stride;
  OpLabel label = op.getResult() == logits ? OpLabel::Head : OpLabel::Linear;
  auto operands = [&](Location to) -> std::vector<Location> {
    return {input, {OperandKind::Weights, int64_t(*op.getPackedOffset())}, bias, to};
  };
  const bool isGated = spec.epilogue == LinearEpilogue::Gated;
  if (auto format = isGated ? writtenAtOnce(op.getResult()) : std::nullopt) {
    KernelSpec one = spec;
    one.result = format;
    Location written = newActivations(*format, spec.rows, domain);
    emit(one, domain, label, operands(written), true, false);
    emit(spec, domain, label, operands(out.location), false, true);
    quantizeMany(op.getResult(), out, *format, written);
    return {};
  }
  emit(spec, domain, label, operands(out.location));
  if (addAfterwards)
    return lowerElementwise(op, ElementwiseKind::Add, op.getResult(), residual, 0, 1.0);
  return {};
}

Status Lowering::lowerElementwise(Operation *op, ElementwiseKind kind, Value a, Value b,
                                  uint32_t activation, double scalar) {
  SMELT_ASSIGN(Place left, placeOf(a));
  Value result = op->getResult(0);
  if (left.gather)
    return refuse(
        op,
        "rows were selected before an elementwise operation without a norm or linear in between");
  KernelSpec spec;
  spec.kind = KernelKind::Elementwise;
  spec.elementwise = kind;
  spec.activationKind = activation;
  (kind == ElementwiseKind::Softcap ? spec.softcap : spec.scalar) = scalar;
  spec.cols = slm::widthOf(result);
  spec.inStride = left.stride;
  spec.logitRows = left.domain == Domain::LogitRows;
  Location right;
  if (b) {
    SMELT_ASSIGN(Place place, placeOf(b));
    if (place.domain != left.domain || place.gather)
      return refuse(op, "its operands have different rows");
    spec.keyStride = place.stride;
    right = place.location;
  }
  // In place where the input is not needed again (or is this operation's own result).
  Place out = left;
  if (a == result || (isLastUse(a, op) && result != logits))
    places[result] = out;
  else
    out = newRows(result, left.domain);
  spec.outStride = out.stride;
  emit(spec, left.domain, OpLabel::Elementwise, {left.location, right, out.location});
  return {};
}

Status Lowering::lowerSlice(slm::SliceOp op) {
  SMELT_ASSIGN(Place place, placeOf(op.getInput()));
  place.location.value += op.getFirst() * 4;
  places[op.getResult()] = place;
  return {};
}

Status Lowering::lowerSelectRows(slm::SelectRowsOp op) {
  SMELT_ASSIGN(Place place, placeOf(op.getInput()));
  place.gather = true;
  Value result = op.getResult();
  places[result] = place;
  // Norms and linears read selected rows where they lie. Everything else, and a residual that is
  // added to, needs them side by side.
  bool readInPlace = llvm::all_of(op->getUsers(), [&](Operation *user) {
    auto linear = dyn_cast<slm::LinearOp>(user);
    return isa<slm::RmsNormOp, slm::LayerNormOp>(user) ||
           (linear && linear.getResidual() != result);
  });
  if (readInPlace)
    return {};
  Place out = newRows(result, Domain::LogitRows);
  KernelSpec copy;
  copy.kind = KernelKind::Elementwise;
  copy.elementwise = ElementwiseKind::Scale;
  copy.cols = slm::widthOf(result);
  copy.inStride = place.stride;
  copy.outStride = out.stride;
  copy.logitRows = copy.gatherRows = true;
  emit(copy, Domain::LogitRows, OpLabel::Elementwise,
       {place.location, {}, out.location, {OperandKind::LogitRows, 0}});
  return {};
}

} // namespace smelt
