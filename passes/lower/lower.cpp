// From model operations to a program: which kernels run on which buffers, in what order.
//
// Every value tensor<?xWxf32> gets a place: a buffer of float rows, or a column range of one
// (slices cost nothing). What a linear reads is a second form of the value, its activations
// (kernels/layout.h), made by the norm before it or by a quantize kernel.
#include "passes/lower/lower.h"
#include "passes/lower/kernels.h"
#include "passes/lower/lowering.h"
#include "passes/lower/plan_cuts.h"
#include "passes/raise/raise.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using smelt::format::Domain;
using smelt::format::OperandKind;
using smelt::format::OpLabel;

namespace smelt {

Status Lowering::refuse(Operation *op, const std::string &why) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  op->print(stream, OpPrintingFlags().elideLargeElementsAttrs());
  return unsupported("cannot lower " + text.substr(0, 300) + ": " + why);
}

//===--- Places and buffers -------------------------------------------------------------------===//

int64_t Lowering::newBuffer(int64_t bytes) {
  buffers.push_back({bytes});
  return int64_t(buffers.size()) - 1;
}

void Lowering::joinBuffers(int64_t first, int64_t second) {
  const int64_t shift = roundUp(buffers[first].bytes, 64);
  auto move = [&](Location &location) {
    if (location.buffer == first && location.end < 0)
      location.end = shift;
    if (location.buffer != second)
      return;
    location.buffer = first;
    location.value += shift;
    location.begin += shift;
    location.end += location.end < 0 ? 0 : shift;
  };
  for (PendingInstruction &instruction : pending)
    llvm::for_each(instruction.operands, move);
  for (auto &[value, place] : places)
    move(place.location);
  for (auto &[key, location] : activations)
    move(location);
  PlannedBuffer &joined = buffers[first], &gone = buffers[second];
  joined.bytes = shift + gone.bytes;
  joined.first = std::min(joined.first, gone.first);
  joined.last = std::max(joined.last, gone.last);
  gone.first = -1;
}

Location Lowering::newActivations(ActivationFormat format, int64_t cols, Domain domain,
                                  bool isOwn) {
  int64_t bytes = activationBytes(format, cols, rowsOf(domain));
  if (isOwn)
    bytes = std::max(bytes, threadCopies * activationLayout(format, cols, true).blockBytes);
  return {OperandKind::Scratch, 0, newBuffer(bytes), isOwn};
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
  if (place.location.buffer != noBuffer && domain == Domain::Tokens)
    buffers.back().rowBytes = width * 4;
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

slm::ActivationOp Lowering::appliedWhenQuantized(Value value) {
  auto function = value.getDefiningOp<slm::ActivationOp>();
  Readers readers = readersOf(value);
  // A scale of the whole row would compute the function twice.
  bool isCheap = readers.activation && *readers.activation != ActivationFormat::A8T;
  bool isApplied = function && isCheap && !readers.others && function.getInput().hasOneUse();
  return isApplied ? function : slm::ActivationOp();
}

std::optional<ActivationFormat> Lowering::writtenAtOnce(Value value) const {
  Readers readers = readersOf(value);
  const bool isWritten = options.joinsSteps && readers.activation && !readers.others &&
                         *readers.activation != ActivationFormat::A8T &&
                         slm::widthOf(value) % blockInputs == 0;
  return isWritten ? readers.activation : std::nullopt;
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
  slm::ActivationOp function = appliedWhenQuantized(input);
  SMELT_ASSIGN(Place place, placeOf(function ? function.getInput() : input));
  Domain domain = place.gather ? Domain::LogitRows : place.domain;
  KernelSpec spec;
  spec.kind = KernelKind::Quantize;
  spec.activation = format;
  spec.activationKind = function ? uint32_t(function.getKind()) : 0;
  spec.cols = slm::widthOf(input);
  spec.inStride = place.stride;
  spec.logitRows = domain == Domain::LogitRows;
  spec.gatherRows = place.gather;
  Location out = newActivations(format, spec.cols, domain);
  emit(spec, domain, OpLabel::Quantize, {place.location, out, {OperandKind::LogitRows, 0}});
  return activations[key] = out;
}

void Lowering::quantizeMany(Value value, const Place &rows, ActivationFormat format, Location out) {
  KernelSpec spec;
  spec.kind = KernelKind::Quantize;
  spec.activation = format;
  spec.cols = slm::widthOf(value);
  spec.inStride = rows.stride;
  spec.logitRows = rows.domain == Domain::LogitRows;
  emit(spec, rows.domain, OpLabel::Quantize, {rows.location, out}, false);
  activations[std::make_pair(value.getAsOpaquePointer(), format)] = out;
}

//===--- Weights section ----------------------------------------------------------------------===//

Result<Location> Lowering::appendFloats(const std::vector<float> &values) {
  SMELT_ASSIGN(int64_t offset, stored.offsetOf(values));
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

//===--- Instructions -------------------------------------------------------------------------===//

int64_t Lowering::kernel(KernelSpec spec, bool one) {
  spec.one = one;
  spec.logitRows &= !one; // one row is one row
  spec.ownCopy &= one;
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
  if (op.getNumResults() == 1 && appliedWhenQuantized(op.getResult(0)))
    return {};
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

/// What each operand touches, its buffer as a whole; after planMemory.
std::vector<TouchedRange> Lowering::touchedBy(const PendingInstruction &instruction,
                                              bool one) const {
  const KernelSpec &spec = program.kernels[one ? instruction.one : instruction.many];
  std::vector<TouchedRange> touched;
  for (auto [i, location] : llvm::enumerate(instruction.operands)) {
    TouchedRange range{int64_t(location.kind), 0, 0, writesOperand(spec, i)};
    if (location.buffer != noBuffer) {
      range.own = one && location.isOwn ? location.buffer : -1;
      const PlannedBuffer &buffer = buffers[location.buffer];
      range.begin = buffer.offset + location.begin;
      range.end = buffer.offset + (location.end < 0 ? buffer.bytes : location.end);
    } else if (location.kind == OperandKind::KeyCache || location.kind == OperandKind::ValueCache) {
      range.begin = location.value;
      range.end = location.value + 1;
    } else if (location.kind == OperandKind::Logits) {
      range.end = 1;
    }
    touched.push_back(range);
  }
  return touched;
}

/// The first instruction that touches the cache of each layer.
std::vector<int64_t> Lowering::attentionOfLayers() const {
  std::vector<int64_t> found(program.layers.size(), -1);
  for (auto [index, instruction] : llvm::enumerate(pending))
    for (const Location &operand : instruction.operands)
      if (operand.kind == OperandKind::KeyCache && found[size_t(operand.value)] < 0)
        found[size_t(operand.value)] = int64_t(index);
  return found;
}

/// Which operands need no barrier, by Operand::ready. Steps of one row and of several wait at
/// different places, and several tokens may have logits of one row.
std::vector<std::vector<format::Readiness>> Lowering::planReadiness() const {
  using format::Readiness;
  std::vector<std::vector<std::array<bool, 2>>> ready; // [instruction][operand] for one, for many
  for (const PendingInstruction &instruction : pending)
    ready.emplace_back(instruction.operands.size(), std::array{true, true});
  for (auto [oneToken, oneLogitRow] : {std::pair(true, true), {false, true}, {false, false}}) {
    std::vector<std::vector<TouchedRange>> touched;
    std::vector<std::pair<size_t, bool>> ran; // instruction, by the kernel of one row
    for (auto [index, instruction] : llvm::enumerate(pending)) {
      const bool one = instruction.domain == Domain::Tokens ? oneToken : oneLogitRow;
      if ((one ? instruction.one : instruction.many) < 0)
        continue;
      touched.push_back(touchedBy(instruction, one));
      ran.emplace_back(index, one);
    }
    planBarriers(touched);
    for (auto [at, operands] : llvm::zip(ran, touched))
      for (auto [i, operand] : llvm::enumerate(operands))
        ready[at.first][i][at.second ? 0 : 1] &= operand.ready;
  }
  std::vector<std::vector<Readiness>> readiness;
  for (const auto &operands : ready) {
    readiness.emplace_back();
    for (auto [one, many] : operands)
      readiness.back().push_back(one ? (many ? Readiness::Ready : Readiness::ReadyForOne)
                                     : (many ? Readiness::ReadyForMany : Readiness::Waits));
  }
  return readiness;
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
  format::ModelConfig &config = program.config;
  for (auto &[index, layer] : layers) {
    if (index != int64_t(program.layers.size()))
      return corrupt("cache layers have gaps: found " + std::to_string(index) + ", expected " +
                     std::to_string(program.layers.size()));
    layer.keyOffsetPerPosition = config.keyBytesPerPosition;
    layer.valueOffsetPerPosition = config.valueBytesPerPosition;
    config.keyBytesPerPosition += layer.kvHeads * keyBytes(options.cache, layer.headDim);
    config.valueBytesPerPosition += layer.kvHeads * valueBytes(options.cache, layer.headDim);
    program.layers.push_back(layer);
  }
  config.vocabSize = uint32_t(slm::widthOf(logits));
  config.layers = uint32_t(program.layers.size());
  config.maxTokens = uint32_t(options.maxTokens);
  config.maxLogitRows = uint32_t(options.maxLogitRows);
  config.cacheFormat = uint32_t(options.cache);
  config.positionBlock = uint32_t(attentionBlock);
  config.scratchBytes = uint64_t(planMemory(buffers));
  program.layerStarts = planCuts(attentionOfLayers(), buffers);

  const std::vector<std::vector<format::Readiness>> readiness = planReadiness();
  // Resolve buffers to offsets.
  for (auto [index, from] : llvm::enumerate(pending)) {
    format::Instruction to{};
    to.kernelOne = from.one < 0 ? format::noKernel : uint32_t(from.one);
    to.kernelMany = from.many < 0 ? format::noKernel : uint32_t(from.many);
    to.domain = from.domain;
    to.label = from.label;
    for (size_t i = 0; i < from.operands.size(); ++i) {
      const Location &location = from.operands[i];
      int64_t base = location.buffer == noBuffer ? 0 : buffers[location.buffer].offset;
      to.operands[i] = {location.kind, readiness[index][i], uint64_t(base + location.value)};
    }
    program.instructions.push_back(to);
  }
  return std::move(program);
}

namespace {

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
                                    FloatStore &stored, const LowerOptions &options) {
  // Layers that read one weight or rotary table each name it once more; the section holds it once.
  PassManager passes(module.getContext());
  passes.addPass(createCSEPass());
  if (failed(passes.run(module)))
    return internalError("eliminating common subexpressions before lowering failed");
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main)
    return corrupt("the module has no function @main to lower");
  Lowering lowering(weights, stored, options);
  SMELT_ASSIGN(LoweredProgram program, lowering.run(main));
  rewriteAsCalls(main, program);
  return program;
}

} // namespace smelt
