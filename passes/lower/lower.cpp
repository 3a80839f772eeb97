// From model operations to a program: which kernels run on which buffers, in what order.
//
// Every value tensor<?xWxf32> gets a place: a buffer of float rows, or a column range of one
// (slices cost nothing). What a linear reads is a second form of the value, its activations
// (kernels/layout.h), made by the norm before it or by a quantize kernel.
#include "passes/lower/lower.h"

#include "compiler/dialect/slm.h"
#include "passes/lower/kernels/layout.h"
#include "passes/lower/plan_memory.h"
#include "passes/raise/raise.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <map>

using namespace mlir;
using smelt::format::Domain;
using smelt::format::OperandKind;
using smelt::format::OpLabel;

namespace smelt {

namespace {

constexpr int64_t noBuffer = -1;

/// Where an operand of an instruction lies: a planned buffer plus a byte offset, or something that
/// needs no plan.
struct Location {
  OperandKind kind = OperandKind::None;
  int64_t value = 0; ///< weights offset, layer, or byte offset within the buffer
  int64_t buffer = noBuffer;
};

/// Float rows of a value.
struct Place {
  Location location;
  int64_t stride = 0; ///< floats between rows
  Domain domain = Domain::Tokens;
  bool gather = false; ///< row r of the logit domain is row LogitRows[r] here
};

struct PendingInstruction {
  int64_t one = -1, many = -1; ///< kernels; -1: none
  Domain domain = Domain::Tokens;
  OpLabel label = OpLabel::Linear;
  std::vector<Location> operands;
};

class Lowering {
public:
  Lowering(const WeightResolver &weights, WeightSink &sink, const LowerOptions &options)
      : weights(weights), sink(sink), options(options) {}

  Result<LoweredProgram> run(func::FuncOp main);

private:
  // --- One function per operation
  Status lower(Operation &op);
  Status lowerEmbedding(slm::EmbeddingOp op);
  Status lowerNorm(Operation *op, Value input, Value weight, Value bias, double epsilon,
                   bool layerNorm);
  Status lowerLinear(slm::LinearOp op);
  Status lowerAttention(slm::AttentionOp op);
  Status lowerElementwise(Operation *op, ElementwiseKind kind, Value a, Value b,
                          uint32_t activation, double scalar);
  Status lowerSlice(slm::SliceOp op);
  Status lowerSelectRows(slm::SelectRowsOp op);

  // --- Places and buffers
  int64_t newBuffer(int64_t bytes);
  int64_t rowsOf(Domain domain) const {
    return domain == Domain::Tokens ? options.maxTokens : options.maxLogitRows;
  }
  Place newRows(Value value, Domain domain);
  Result<Place> placeOf(Value value);
  Result<Location> activationsOf(Value input, ActivationFormat format);
  bool isLastUse(Value value, Operation *op);
  static Location positions() { return {OperandKind::Positions, 0}; }
  /// A table has rows for so many positions only.
  void limitContext(int64_t positions) {
    program.config.maxContext = uint32_t(std::min<int64_t>(program.config.maxContext, positions));
  }

  // --- Weights section
  Result<Location> appendFloats(const std::vector<float> &values);
  Result<std::vector<float>> readAll(Value weight);
  Result<Location> vectorWeight(Value weight);
  struct RotaryTable {
    Location location;
    int64_t positions;
  };
  Result<RotaryTable> rotaryTable(Value cos, Value sin);

  // --- Instructions
  int64_t kernel(KernelSpec spec, bool one);
  void emit(const KernelSpec &spec, Domain domain, OpLabel label, std::vector<Location> operands,
            bool hasOne = true, bool hasMany = true);
  Status refuse(Operation *op, const std::string &why);

  const WeightResolver &weights;
  WeightSink &sink;
  LowerOptions options;
  LoweredProgram program;
  std::vector<PlannedBuffer> buffers;
  std::vector<PendingInstruction> pending;
  llvm::DenseMap<Value, Place> places;
  std::map<std::pair<void *, ActivationFormat>, Location> activations;
  std::map<std::pair<void *, void *>, RotaryTable> tables;
  llvm::DenseMap<Value, Location> vectors;
  llvm::StringMap<int64_t> kernelIndex;
  std::map<int64_t, format::CacheLayer> layers;
  Value logits;
};

Status Lowering::refuse(Operation *op, const std::string &why) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  op->print(stream, OpPrintingFlags().elideLargeElementsAttrs());
  return unsupported("cannot lower " + text.substr(0, 300) + ": " + why);
}

//===--- Places and buffers -------------------------------------------------------------------===//

int64_t Lowering::newBuffer(int64_t bytes) {
  buffers.push_back({bytes, -1, -1, 0});
  return int64_t(buffers.size()) - 1;
}

Place Lowering::newRows(Value value, Domain domain) {
  int64_t width = slm::widthOf(value);
  Place place;
  place.domain = domain;
  place.stride = width;
  if (value == logits)
    place.location = {OperandKind::Logits, 0};
  else
    place.location = {OperandKind::Scratch, 0, newBuffer(rowsOf(domain) * width * 4)};
  places[value] = place;
  return place;
}

Result<Place> Lowering::placeOf(Value value) {
  auto found = places.find(value);
  if (found == places.end())
    return refuse(value.getDefiningOp(),
                  "its value was needed as float rows, but only exists as activations");
  return found->second;
}

bool Lowering::isLastUse(Value value, Operation *op) {
  return llvm::all_of(value.getUsers(), [&](Operation *user) {
    return user == op || (user->getBlock() == op->getBlock() && user->isBeforeInBlock(op));
  });
}

Result<Location> Lowering::activationsOf(Value input, ActivationFormat format) {
  auto key = std::make_pair(input.getAsOpaquePointer(), format);
  if (auto found = activations.find(key); found != activations.end())
    return found->second;
  SMELT_ASSIGN(Place place, placeOf(input));
  Domain domain = place.gather ? Domain::LogitRows : place.domain;
  KernelSpec spec;
  spec.kind = KernelKind::Quantize;
  spec.activation = format;
  spec.cols = slm::widthOf(input);
  spec.inStride = place.stride;
  spec.logitRows = domain == Domain::LogitRows;
  spec.gatherRows = place.gather;
  Location out{OperandKind::Scratch, 0,
               newBuffer(activationBytes(format, spec.cols, rowsOf(domain)))};
  emit(spec, domain, OpLabel::Quantize, {place.location, out, {OperandKind::LogitRows, 0}});
  return activations[key] = out;
}

//===--- Weights section ----------------------------------------------------------------------===//

Result<Location> Lowering::appendFloats(const std::vector<float> &values) {
  SMELT_ASSIGN(int64_t offset, sink.begin());
  SMELT_TRY(sink.write(std::as_bytes(std::span(values))));
  return Location{OperandKind::Weights, offset};
}

Result<std::vector<float>> Lowering::readAll(Value weight) {
  SMELT_ASSIGN(WeightView view, weights(weight));
  std::vector<float> values(view.rows * view.cols);
  readRows(view, 0, view.rows, values.data());
  return values;
}

/// Norm weights and biases; padded to whole vectors so that kernels may read 16 at a time.
Result<Location> Lowering::vectorWeight(Value weight) {
  if (auto found = vectors.find(weight); found != vectors.end())
    return found->second;
  SMELT_ASSIGN(std::vector<float> values, readAll(weight));
  values.resize(roundUp(values.size(), 16), 0.0f);
  SMELT_ASSIGN(Location location, appendFloats(values));
  return vectors[weight] = location;
}

/// One table [positions][rotary_dim]: the cosines of a position, then its sines.
Result<Lowering::RotaryTable> Lowering::rotaryTable(Value cos, Value sin) {
  auto key = std::make_pair(cos.getAsOpaquePointer(), sin.getAsOpaquePointer());
  if (auto found = tables.find(key); found != tables.end())
    return found->second;
  SMELT_ASSIGN(WeightView cosView, weights(cos));
  SMELT_ASSIGN(WeightView sinView, weights(sin));
  int64_t half = cosView.cols;
  if (sinView.cols != half)
    return corrupt("cosine and sine tables differ: " + std::to_string(half) + " against " +
                   std::to_string(sinView.cols) + " columns");
  RotaryTable table;
  table.positions = std::min({cosView.rows, sinView.rows, options.maxContext});
  std::vector<float> values(table.positions * 2 * half);
  for (int64_t p = 0; p < table.positions; ++p) {
    readRows(cosView, p, 1, values.data() + p * 2 * half);
    readRows(sinView, p, 1, values.data() + p * 2 * half + half);
  }
  SMELT_ASSIGN(table.location, appendFloats(values));
  return tables[key] = table;
}

//===--- Instructions -------------------------------------------------------------------------===//

int64_t Lowering::kernel(KernelSpec spec, bool one) {
  spec.one = one;
  auto [entry, added] = kernelIndex.try_emplace(spec.name(), int64_t(program.kernels.size()));
  if (added)
    program.kernels.push_back(spec);
  return entry->second;
}

void Lowering::emit(const KernelSpec &spec, Domain domain, OpLabel label,
                    std::vector<Location> operands, bool hasOne, bool hasMany) {
  PendingInstruction instruction;
  instruction.one = hasOne ? kernel(spec, true) : -1;
  instruction.many = hasMany ? kernel(spec, false) : -1;
  instruction.domain = domain;
  instruction.label = label;
  int64_t now = int64_t(pending.size());
  for (const Location &operand : operands)
    if (operand.buffer != noBuffer) {
      PlannedBuffer &buffer = buffers[operand.buffer];
      buffer.first = buffer.first < 0 ? now : buffer.first;
      buffer.last = now;
    }
  instruction.operands = std::move(operands);
  pending.push_back(std::move(instruction));
}

//===--- Operations ---------------------------------------------------------------------------===//

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

/// The one activation precision that every user of `value` reads it in, if all users are linears.
std::optional<ActivationFormat> commonActivation(Value value) {
  std::optional<ActivationFormat> common;
  for (OpOperand &use : value.getUses()) {
    auto linear = dyn_cast<slm::LinearOp>(use.getOwner());
    if (!linear || use.getOperandNumber() != 0 || !linear.getActivation())
      return std::nullopt;
    auto format = findActivation(linear.getActivation()->str());
    if (!format || (common && *common != *format))
      return std::nullopt;
    common = *format;
  }
  return common;
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

  // Where the result goes: activations for linears, onto the residual it is added to, or float
  // rows.
  Location out;
  auto addition =
      result.hasOneUse() ? dyn_cast<slm::AddOp>(*result.getUsers().begin()) : slm::AddOp();
  Value residual =
      addition ? (addition.getLhs() == result ? addition.getRhs() : addition.getLhs()) : Value();
  if (auto format = commonActivation(result)) {
    spec.normOutput = NormOutput::Activation;
    spec.activation = *format;
    out = {OperandKind::Scratch, 0, newBuffer(activationBytes(*format, spec.cols, rowsOf(domain)))};
    activations[{result.getAsOpaquePointer(), *format}] = out;
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
       {in.location, weightLocation, biasLocation, out, {OperandKind::LogitRows, 0}});
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
  emit(spec, domain, label,
       {input, {OperandKind::Weights, int64_t(*op.getPackedOffset())}, bias, out.location});
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

/// What lies between a projection and attention on the query or key side.
struct Rotated {
  Value source;
  slm::RopeOp rope;
  slm::HeadNormOp norm;
};
Rotated peel(Value value) {
  Rotated r{value, {}, {}};
  if ((r.rope = r.source.getDefiningOp<slm::RopeOp>()))
    r.source = r.rope.getInput();
  if ((r.norm = r.source.getDefiningOp<slm::HeadNormOp>()))
    r.source = r.norm.getInput();
  return r;
}

Status Lowering::lowerAttention(slm::AttentionOp op) {
  Rotated query = peel(op.getQuery()), key = peel(op.getKey());
  for (Value step : {Value(op.getQuery()), Value(op.getKey()), query.source, key.source})
    if (step.getDefiningOp() && !isa<slm::SliceOp, slm::LinearOp>(step.getDefiningOp()) &&
        !step.hasOneUse())
      return refuse(op, "its query or key is used elsewhere");
  if (bool(query.rope) != bool(key.rope))
    return refuse(op, "only one of query and key is rotated");
  if (query.rope &&
      (query.rope.getCos() != key.rope.getCos() || query.rope.getSin() != key.rope.getSin() ||
       query.rope.getRotaryDim() != key.rope.getRotaryDim() ||
       query.rope.getInterleaved() != key.rope.getInterleaved()))
    return refuse(op, "query and key are rotated differently");
  SMELT_ASSIGN(Place q, placeOf(query.source));
  SMELT_ASSIGN(Place kPlace, placeOf(key.source));
  SMELT_ASSIGN(Place v, placeOf(op.getValue()));

  // Rotate and append.
  const int64_t dim = op.getHeadDim();
  KernelSpec spec;
  spec.kind = KernelKind::RopeAppend;
  spec.heads = op.getHeads();
  spec.kvHeads = op.getKvHeads();
  spec.headDim = dim;
  spec.inStride = q.stride;
  spec.keyStride = kPlace.stride;
  spec.valueStride = v.stride;
  spec.maxTokens = options.maxTokens;
  spec.cacheElementBytes = options.cacheElementBytes;
  Location table, normWeights;
  if (query.rope) {
    SMELT_ASSIGN(RotaryTable rotary, rotaryTable(query.rope.getCos(), query.rope.getSin()));
    table = rotary.location;
    limitContext(rotary.positions);
    spec.rotaryDim = query.rope.getRotaryDim();
    spec.interleaved = query.rope.getInterleaved();
  }
  if (query.norm || key.norm) {
    std::vector<float> both(2 * dim, 1.0f);
    for (auto [norm, at] :
         {std::make_pair(query.norm, int64_t(0)), std::make_pair(key.norm, dim)}) {
      if (!norm)
        continue;
      SMELT_ASSIGN(std::vector<float> values, readAll(norm.getWeight()));
      std::copy(values.begin(), values.end(), both.begin() + at);
      spec.epsilon = norm.getEpsilon().convertToDouble();
    }
    if (query.norm && key.norm && query.norm.getEpsilon() != key.norm.getEpsilon())
      return refuse(op, "query and key norms have different epsilons");
    spec.queryNorm = bool(query.norm);
    spec.keyNorm = bool(key.norm);
    SMELT_ASSIGN(normWeights, appendFloats(both));
  }
  const int64_t layer = op.getLayer();
  Location keys{OperandKind::KeyCache, layer}, values{OperandKind::ValueCache, layer};
  emit(spec, Domain::Tokens, OpLabel::Rope,
       {q.location, kPlace.location, v.location, table, normWeights, keys, values, positions()});

  // Attend.
  Place out = newRows(op.getResult(), Domain::Tokens);
  KernelSpec attend;
  attend.heads = op.getHeads();
  attend.kvHeads = op.getKvHeads();
  attend.headDim = dim;
  attend.scalar = op.getScale().convertToDouble();
  attend.softcap = op.getSoftcap().convertToDouble();
  attend.window = op.getWindow();
  attend.slopes = bool(op.getSlopes());
  Location slopes;
  if (op.getSlopes()) {
    std::vector<float> values(op.getSlopes()->begin(), op.getSlopes()->end());
    SMELT_ASSIGN(slopes, appendFloats(values));
  }
  attend.bidirectional = op.getBidirectional();
  if (attend.bidirectional) {
    program.config.bidirectional = 1;
    limitContext(options.maxTokens); // a text is one step
  }
  attend.maxTokens = options.maxTokens;
  attend.cacheElementBytes = options.cacheElementBytes;
  const int64_t context = roundUp(options.maxContext, attentionBlock);
  Location partials{OperandKind::Scratch, 0,
                    newBuffer(attend.heads * context / attentionBlock * partialStride(dim) * 4)};
  KernelSpec one = attend;
  one.kind = KernelKind::AttentionOne;
  one.maxContext = context;
  emit(one, Domain::Tokens, OpLabel::Attention,
       {q.location, keys, values, positions(), partials, slopes}, true, false);
  KernelSpec merge;
  merge.kind = KernelKind::AttentionMerge;
  merge.heads = attend.heads;
  merge.headDim = dim;
  merge.window = attend.window;
  merge.bidirectional = attend.bidirectional;
  merge.maxTokens = options.maxTokens;
  merge.maxContext = context;
  emit(merge, Domain::Tokens, OpLabel::Attention, {partials, positions(), out.location}, true,
       false);
  KernelSpec many = attend;
  many.kind = KernelKind::AttentionMany;
  many.inStride = q.stride;
  many.outStride = out.stride;
  emit(many, Domain::Tokens, OpLabel::Attention,
       {q.location, keys, values, positions(), out.location, slopes}, false, true);

  if (layers.count(layer))
    return refuse(op, "two attentions share cache layer " + std::to_string(layer));
  layers[layer] = {uint32_t(op.getKvHeads()), uint32_t(dim), 0, 0};
  return {};
}

Status Lowering::lower(Operation &op) {
  if (places.count(op.getNumResults() ? op.getResult(0) : Value()) && isa<slm::AddOp>(op))
    return {}; // done by the norm that adds to its residual
  if (auto embedding = dyn_cast<slm::EmbeddingOp>(op))
    return lowerEmbedding(embedding);
  if (auto norm = dyn_cast<slm::RmsNormOp>(op))
    return lowerNorm(norm, norm.getInput(), norm.getWeight(), {},
                     norm.getEpsilon().convertToDouble(), false);
  if (auto norm = dyn_cast<slm::LayerNormOp>(op))
    return lowerNorm(norm, norm.getInput(), norm.getWeight(), norm.getBias(),
                     norm.getEpsilon().convertToDouble(), true);
  if (auto linear = dyn_cast<slm::LinearOp>(op))
    return lowerLinear(linear);
  if (auto attention = dyn_cast<slm::AttentionOp>(op))
    return lowerAttention(attention);
  if (auto gated = dyn_cast<slm::GatedOp>(op))
    return lowerElementwise(gated, ElementwiseKind::Gated, gated.getGate(), gated.getUp(),
                            uint32_t(gated.getKind()), 1.0);
  if (auto activation = dyn_cast<slm::ActivationOp>(op))
    return lowerElementwise(activation, ElementwiseKind::Activation, activation.getInput(), {},
                            uint32_t(activation.getKind()), 1.0);
  if (auto add = dyn_cast<slm::AddOp>(op))
    return lowerElementwise(add, ElementwiseKind::Add, add.getLhs(), add.getRhs(), 0, 1.0);
  if (auto mul = dyn_cast<slm::MulOp>(op))
    return lowerElementwise(mul, ElementwiseKind::Mul, mul.getLhs(), mul.getRhs(), 0, 1.0);
  if (auto scale = dyn_cast<slm::ScaleOp>(op))
    return lowerElementwise(scale, ElementwiseKind::Scale, scale.getInput(), {}, 0,
                            scale.getFactor().convertToDouble());
  if (auto cap = dyn_cast<slm::SoftcapOp>(op))
    return lowerElementwise(cap, ElementwiseKind::Softcap, cap.getInput(), {}, 0,
                            cap.getCap().convertToDouble());
  if (auto slice = dyn_cast<slm::SliceOp>(op))
    return lowerSlice(slice);
  if (auto select = dyn_cast<slm::SelectRowsOp>(op))
    return lowerSelectRows(select);
  if (isa<slm::WeightOp, slm::RotaryTableOp, slm::JoinOp, func::ReturnOp>(op))
    return {};
  if (isa<slm::RopeOp, slm::HeadNormOp>(op)) {
    for (Operation *user : op.getUsers())
      if (!isa<slm::AttentionOp, slm::RopeOp>(user))
        return refuse(&op, "rotation and head norms are only lowered on the way to attention");
    return {};
  }
  return refuse(&op, "no kernel does this operation");
}

Result<LoweredProgram> Lowering::run(func::FuncOp main) {
  if (options.maxContext < attentionBlock || options.maxTokens < 1 || options.maxLogitRows < 1)
    return invalidArgument("context must be at least " + std::to_string(attentionBlock) +
                           ", found " + std::to_string(options.maxContext));
  auto result = cast<func::ReturnOp>(main.getBody().front().getTerminator());
  logits = result.getOperand(0);
  program.config.maxContext = uint32_t(options.maxContext);
  auto described = [&](StringRef name) {
    auto value = main->getAttrOfType<IntegerAttr>(name);
    return value ? uint32_t(value.getValue().getZExtValue()) : 0;
  };
  program.config.output = format::PortRole(described(outputAttribute));
  program.config.pooling = format::Pooling(described(poolingAttribute));
  program.config.normalize = described(normalizeAttribute);
  for (Operation &op : main.getBody().front())
    SMELT_TRY(lower(op));
  if (places.find(logits) == places.end() || places[logits].location.kind != OperandKind::Logits)
    return refuse(
        result, "the result is not what a head linear or an elementwise operation after it writes");

  // Cache layers, numbered without gaps.
  const uint64_t element = uint64_t(options.cacheElementBytes);
  format::ModelConfig &config = program.config;
  for (auto &[index, layer] : layers) {
    if (index != int64_t(program.layers.size()))
      return corrupt("cache layers have gaps: found " + std::to_string(index) + ", expected " +
                     std::to_string(program.layers.size()));
    layer.keyOffsetPerPosition = config.keyBytesPerPosition;
    layer.valueOffsetPerPosition = config.valueBytesPerPosition;
    config.keyBytesPerPosition += layer.kvHeads * layer.headDim * element;
    config.valueBytesPerPosition += layer.kvHeads * layer.headDim * element;
    program.layers.push_back(layer);
  }
  config.vocabSize = uint32_t(slm::widthOf(logits));
  config.layers = uint32_t(program.layers.size());
  config.maxTokens = uint32_t(options.maxTokens);
  config.maxLogitRows = uint32_t(options.maxLogitRows);
  config.cacheElementBytes = uint32_t(element);
  config.positionBlock = uint32_t(attentionBlock);
  config.scratchBytes = uint64_t(planMemory(buffers));

  // Resolve buffers to offsets.
  for (const PendingInstruction &from : pending) {
    format::Instruction to{};
    to.kernelOne = from.one < 0 ? format::noKernel : uint32_t(from.one);
    to.kernelMany = from.many < 0 ? format::noKernel : uint32_t(from.many);
    to.domain = from.domain;
    to.label = from.label;
    for (size_t i = 0; i < from.operands.size(); ++i) {
      const Location &location = from.operands[i];
      int64_t base = location.buffer == noBuffer ? 0 : buffers[location.buffer].offset;
      to.operands[i] = {location.kind, 0, uint64_t(base + location.value)};
    }
    program.instructions.push_back(to);
  }
  return std::move(program);
}

/// Replaces @main by @program: the same instructions as `slm.call`.
void rewriteAsCalls(func::FuncOp main, const LoweredProgram &program) {
  OpBuilder builder(main);
  auto calls =
      func::FuncOp::create(builder, main.getLoc(), "program", builder.getFunctionType({}, {}));
  builder.setInsertionPointToStart(calls.addEntryBlock());
  auto nameOf = [&](uint32_t index) {
    return index == format::noKernel ? std::string() : program.kernels[index].name();
  };
  for (const format::Instruction &instruction : program.instructions) {
    SmallVector<int64_t> arguments;
    for (const format::Operand &operand : instruction.operands) {
      arguments.push_back(int64_t(operand.kind));
      arguments.push_back(int64_t(operand.value));
    }
    slm::CallOp::create(builder, main.getLoc(), nameOf(instruction.kernelOne),
                        nameOf(instruction.kernelMany), uint32_t(instruction.domain),
                        uint32_t(instruction.label), arguments);
  }
  func::ReturnOp::create(builder, main.getLoc());
  main.erase();
}

} // namespace

Result<LoweredProgram> lowerProgram(ModuleOp module, const WeightResolver &weights,
                                    WeightSink &sink, const LowerOptions &options) {
  // Layers that read one weight or rotary table each name it once more; the section holds it once.
  PassManager passes(module.getContext());
  passes.addPass(createCSEPass());
  if (failed(passes.run(module)))
    return internalError("eliminating common subexpressions before lowering failed");
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main)
    return corrupt("the module has no function @main to lower");
  Lowering lowering(weights, sink, options);
  SMELT_ASSIGN(LoweredProgram program, lowering.run(main));
  rewriteAsCalls(main, program);
  return program;
}

} // namespace smelt
