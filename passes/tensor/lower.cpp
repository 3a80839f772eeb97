// Instructions of a tensor program: one a node, jumps for branches, releases after the last use.
#include "passes/tensor/lower.h"

#include "passes/lower/kernels/layout.h"
#include "passes/raise/evaluate.h"
#include "passes/tensor/builder.h"

#include <cstring>
#include <map>

using namespace mlir;
using namespace smelt::onnx_ir;
using smelt::format::ElementType;
using smelt::format::noTensor;
using smelt::format::OperandKind;
using smelt::format::OpLabel;
using smelt::format::TensorAction;
using smelt::format::TensorInstruction;

namespace smelt {

namespace {

/// The element type that a program's values of this type have.
ElementType elementTypeOf(Type type) {
  Type computed = tensor::computedType(type);
  if (isa<FloatType>(computed))
    return computed.isF64() ? ElementType::F64 : ElementType::F32;
  switch (computed.getIntOrFloatBitWidth()) {
  case 1:
    return ElementType::Bool;
  case 8:
    return computed.isUnsignedInteger() ? ElementType::U8 : ElementType::I8;
  case 32:
    return ElementType::I32;
  default:
    return ElementType::I64;
  }
}

/// Attributes of each primitive, in the order of TensorSpec::ints (passes/lower/tensor_ops.def).
ArrayRef<StringRef> attributeOrder(TensorOp op) {
  static const std::map<TensorOp, std::vector<StringRef>> order = {
      {TensorOp::Mod, {"fmod"}},
      {TensorOp::BitShift, {"left"}},
      {TensorOp::IsInf, {"detect_negative", "detect_positive"}},
      {TensorOp::Reshape, {"allowzero"}},
      {TensorOp::Squeeze, {"axes"}},
      {TensorOp::Unsqueeze, {"axes"}},
      {TensorOp::Flatten, {"axis"}},
      {TensorOp::Transpose, {"perm"}},
      {TensorOp::Slice, {"axes"}},
      {TensorOp::Concat, {"axis"}},
      {TensorOp::Pad, {"mode", "axes"}},
      {TensorOp::Gather, {"axis"}},
      {TensorOp::GatherElements, {"axis"}},
      {TensorOp::GatherND, {"batch_dims", "depth"}},
      {TensorOp::ScatterElements, {"axis", "reduction"}},
      {TensorOp::ScatterND, {"reduction", "depth"}},
      {TensorOp::Trilu, {"upper"}},
      {TensorOp::ReduceSum, {"keepdims", "axes"}},
      {TensorOp::ReduceMean, {"keepdims", "axes"}},
      {TensorOp::ReduceMax, {"keepdims", "axes"}},
      {TensorOp::ReduceMin, {"keepdims", "axes"}},
      {TensorOp::ReduceProd, {"keepdims", "axes"}},
      {TensorOp::ArgMax, {"axis", "keepdims", "select_last_index"}},
      {TensorOp::ArgMin, {"axis", "keepdims", "select_last_index"}},
      {TensorOp::CumSum, {"axis", "exclusive", "reverse"}},
      {TensorOp::TopK, {"axis", "largest", "sorted"}},
      {TensorOp::Shape, {"start", "end"}},
      {TensorOp::OneHot, {"axis"}},
      {TensorOp::EyeLike, {"k"}},
      {TensorOp::Conv, {"group", "strides", "dilations", "pads"}},
      {TensorOp::AveragePool,
       {"kernel_shape", "strides", "dilations", "pads", "ceil_mode", "count_include_pad"}},
      {TensorOp::MaxPool,
       {"kernel_shape", "strides", "dilations", "pads", "ceil_mode", "count_include_pad"}},
  };
  auto found = order.find(op);
  return found == order.end() ? ArrayRef<StringRef>() : ArrayRef<StringRef>(found->second);
}

bool isView(TensorOp op) {
  return op == TensorOp::Reshape || op == TensorOp::Squeeze || op == TensorOp::Unsqueeze ||
         op == TensorOp::Flatten;
}

OpLabel labelOf(TensorOp op) {
  return op == TensorOp::MatMul || op == TensorOp::Conv ? OpLabel::Attention : OpLabel::Elementwise;
}

class TensorLowering {
public:
  TensorLowering(TensorWeights &stored, const WeightResolver &weights, WeightSink &sink,
                 const LowerOptions &options)
      : stored(stored), weights(weights), sink(sink), options(options) {}

  Result<LoweredTensors> run(func::FuncOp main);

private:
  Status block(Block &block);
  Status lower(Operation &op);
  Status node(NodeOp node);
  Status choice(NodeOp node);
  Status linear(slm::LinearOp op);
  Status embedding(slm::EmbeddingOp op);

  Result<uint32_t> tensorOf(Value value);
  uint32_t newTensor(Value value);
  Result<uint32_t> constantTensor(RankedTensorType type, std::vector<std::byte> bytes);
  Result<std::vector<std::byte>> storedBytes(WeightOp op);

  uint32_t tensorKernel(TensorSpec spec);
  uint32_t rowKernel(KernelSpec spec, bool one);
  format::Instruction rowInstruction(const KernelSpec &spec, OpLabel label,
                                     std::vector<format::Operand> operands);
  uint32_t nameIndex(StringRef name);
  TensorInstruction start(TensorAction action, OpLabel label, StringRef name);
  void push(TensorInstruction instruction);
  void addRows(StringRef name, Value in, uint32_t out, size_t first, OpLabel label);
  void placeReleases();

  TensorWeights &stored;
  const WeightResolver &weights;
  WeightSink &sink;
  LowerOptions options;
  LoweredTensors lowered;
  llvm::DenseMap<Value, uint32_t> tensors;
  llvm::StringMap<uint32_t> kernelIndex, rowKernelIndex, names;
  std::map<std::vector<std::byte>, uint32_t> smallConstants;
  std::map<int64_t, uint32_t> storedTensors;
};

//===--- Tensors ------------------------------------------------------------------------------===//

uint32_t TensorLowering::newTensor(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  format::TensorEntry entry{};
  entry.type = elementTypeOf(type.getElementType());
  entry.rank = uint32_t(type.getRank());
  for (int64_t i = 0; i < type.getRank(); ++i)
    entry.dims[i] = type.isDynamicDim(unsigned(i)) ? -1 : type.getDimSize(unsigned(i));
  lowered.image.tensors.push_back(entry);
  return tensors[value] = uint32_t(lowered.image.tensors.size() - 1);
}

Result<uint32_t> TensorLowering::constantTensor(RankedTensorType type,
                                                std::vector<std::byte> bytes) {
  // Small constants of equal bytes and type are one.
  constexpr size_t small = 4096;
  std::vector<std::byte> key;
  if (bytes.size() <= small) {
    key = bytes;
    auto note = [&](int64_t number) {
      const auto *raw = reinterpret_cast<const std::byte *>(&number);
      key.insert(key.end(), raw, raw + sizeof number);
    };
    for (int64_t dim : type.getShape())
      note(dim);
    note(type.getRank());
    note(int64_t(elementTypeOf(type.getElementType())));
    if (auto found = smallConstants.find(key); found != smallConstants.end())
      return found->second;
  }
  format::TensorEntry entry{};
  entry.type = elementTypeOf(type.getElementType());
  entry.rank = uint32_t(type.getRank());
  llvm::copy(type.getShape(), entry.dims);
  entry.isConstant = 1;
  SMELT_ASSIGN(int64_t offset, sink.begin());
  entry.offset = uint64_t(offset);
  SMELT_TRY(sink.write(bytes));
  lowered.image.tensors.push_back(entry);
  uint32_t index = uint32_t(lowered.image.tensors.size() - 1);
  if (!key.empty())
    smallConstants[key] = index;
  return index;
}

template <typename T> void append(std::vector<std::byte> &bytes, T value) {
  const auto *raw = reinterpret_cast<const std::byte *>(&value);
  bytes.insert(bytes.end(), raw, raw + sizeof value);
}

/// `value` as the bytes of one element.
void appendElement(std::vector<std::byte> &bytes, ElementType type, const APInt &whole,
                   bool isSigned) {
  int64_t value = isSigned ? whole.getSExtValue() : int64_t(whole.getZExtValue());
  switch (type) {
  case ElementType::I64:
    return append(bytes, value);
  case ElementType::I32:
    return append(bytes, int32_t(value));
  case ElementType::Bool:
    return append(bytes, uint8_t(value != 0));
  default:
    return append(bytes, uint8_t(value));
  }
}

std::vector<std::byte> bytesOf(DenseElementsAttr value) {
  std::vector<std::byte> bytes;
  Type element = value.getElementType();
  ElementType type = elementTypeOf(element);
  if (isa<FloatType>(element)) {
    for (APFloat number : value.getValues<APFloat>()) {
      bool loses = false;
      if (type == ElementType::F64) {
        append(bytes, number.convertToDouble());
      } else {
        number.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &loses);
        append(bytes, number.convertToFloat());
      }
    }
    return bytes;
  }
  bool isSigned = !element.isUnsignedInteger() && element.getIntOrFloatBitWidth() != 1;
  for (const APInt &number : value.getValues<APInt>())
    appendElement(bytes, type, number, isSigned);
  return bytes;
}

/// A stored tensor in the element type that programs compute with.
Result<std::vector<std::byte>> TensorLowering::storedBytes(WeightOp op) {
  auto type = cast<RankedTensorType>(op.getType());
  Type element = type.getElementType();
  std::vector<std::byte> bytes;
  if (isa<FloatType>(element) && !element.isF64()) {
    SMELT_ASSIGN(std::vector<float> values, stored.floatsOf(op.getId()));
    auto raw = std::as_bytes(std::span(values));
    bytes.assign(raw.begin(), raw.end());
    return bytes;
  }
  std::span<const std::byte> raw = stored.bytesOf(op.getId());
  unsigned bits = element.getIntOrFloatBitWidth();
  size_t count = size_t(type.getNumElements());
  if (raw.size() < (bits == 1 ? count : (count * bits + 7) / 8))
    return corrupt("initializer \"" + op.getName().str() + "\" is shorter than its shape");
  ElementType computed = elementTypeOf(element);
  if (tensor::computedType(element) == element && bits != 1) {
    bytes.assign(raw.begin(), raw.end());
    return bytes;
  }
  bool isSigned = !element.isUnsignedInteger() && bits != 1;
  for (size_t i = 0; i < count; ++i) {
    if (bits == 4) {
      uint64_t nibble = uint64_t(raw[i / 2]) >> (i % 2 * 4) & 15;
      appendElement(bytes, computed, APInt(4, nibble), isSigned);
      continue;
    }
    unsigned width = std::max(bits, 8u);
    uint64_t value = 0;
    std::memcpy(&value, raw.data() + i * (width / 8), width / 8);
    appendElement(bytes, computed, APInt(width, value), isSigned);
  }
  return bytes;
}

Result<uint32_t> TensorLowering::tensorOf(Value value) {
  if (auto found = tensors.find(value); found != tensors.end())
    return found->second;
  Operation *op = value.getDefiningOp();
  if (isa_and_nonnull<NoneOp>(op))
    return noTensor;
  if (auto constant = dyn_cast_or_null<ConstantOp>(op)) {
    auto dense = dyn_cast<DenseElementsAttr>(constant.getValue());
    if (!dense)
      return corrupt("constant \"" + constant.getName().str() + "\" has no plain elements");
    SMELT_ASSIGN(uint32_t index,
                 constantTensor(cast<RankedTensorType>(constant.getType()), bytesOf(dense)));
    return tensors[value] = index;
  }
  if (auto weight = dyn_cast_or_null<WeightOp>(op)) {
    if (auto found = storedTensors.find(weight.getId()); found != storedTensors.end())
      return found->second;
    SMELT_ASSIGN(std::vector<std::byte> bytes, storedBytes(weight));
    SMELT_ASSIGN(uint32_t index,
                 constantTensor(cast<RankedTensorType>(weight.getType()), std::move(bytes)));
    storedTensors[weight.getId()] = index;
    return tensors[value] = index;
  }
  return internalError("a value of the graph was never lowered");
}

//===--- Kernels and instructions -------------------------------------------------------------===//

uint32_t TensorLowering::tensorKernel(TensorSpec spec) {
  auto [entry, isNew] = kernelIndex.try_emplace(spec.name(), uint32_t(lowered.kernels.size()));
  if (isNew) {
    lowered.image.kernelNames.push_back(spec.name());
    lowered.kernels.push_back(std::move(spec));
  }
  return entry->second;
}

uint32_t TensorLowering::rowKernel(KernelSpec spec, bool one) {
  spec.one = one;
  auto [entry, isNew] =
      rowKernelIndex.try_emplace(spec.name(), uint32_t(lowered.rowKernels.size()));
  if (isNew)
    lowered.rowKernels.push_back(spec);
  return entry->second;
}

format::Instruction TensorLowering::rowInstruction(const KernelSpec &spec, OpLabel label,
                                                   std::vector<format::Operand> operands) {
  format::Instruction instruction{};
  instruction.kernelOne = rowKernel(spec, true);
  instruction.kernelMany = rowKernel(spec, false);
  instruction.domain = format::Domain::Tokens;
  instruction.label = label;
  llvm::copy(operands, instruction.operands);
  return instruction;
}

uint32_t TensorLowering::nameIndex(StringRef name) {
  auto [entry, isNew] = names.try_emplace(name, uint32_t(lowered.image.nodeNames.size()));
  if (isNew)
    lowered.image.nodeNames.push_back(name.str());
  return entry->second;
}

TensorInstruction TensorLowering::start(TensorAction action, OpLabel label, StringRef name) {
  TensorInstruction instruction{};
  instruction.action = action;
  instruction.label = uint32_t(label);
  instruction.shapeKernel = instruction.computeKernel = format::noKernel;
  std::fill(std::begin(instruction.operands), std::end(instruction.operands), noTensor);
  std::fill(std::begin(instruction.release), std::end(instruction.release), noTensor);
  instruction.nodeName = nameIndex(name);
  return instruction;
}

void TensorLowering::push(TensorInstruction instruction) {
  lowered.image.instructions.push_back(instruction);
}

Status TensorLowering::node(NodeOp node) {
  if (node.getType() == "If")
    return choice(node);
  std::optional<TensorOp> op = findTensorOp(node.getType().str());
  if (!op || !node.getDomain().empty())
    return unsupported("node \"" + node.getName().str() + "\" is no primitive");
  TensorSpec spec;
  spec.op = *op;
  TensorInstruction instruction =
      start(isView(*op) ? TensorAction::Alias : TensorAction::Kernel, labelOf(*op), node.getName());
  instruction.outputs = node->getNumResults();
  SmallVector<uint32_t> operands;
  for (Value input : node.getInputs()) {
    SMELT_ASSIGN(uint32_t index, tensorOf(input));
    operands.push_back(index);
  }
  if (instruction.outputs + operands.size() > format::tensorOperandCount)
    return internalError("node \"" + node.getName().str() + "\" has too many operands");
  for (Value result : node->getResults())
    instruction.operands[instruction.operandCount++] = newTensor(result);
  for (uint32_t index : operands)
    instruction.operands[instruction.operandCount++] = index;
  for (uint32_t i = 0; i < instruction.operandCount; ++i) {
    bool isGiven = instruction.operands[i] != noTensor;
    const format::TensorEntry entry =
        isGiven ? lowered.image.tensors[instruction.operands[i]] : format::TensorEntry{};
    spec.types.push_back(entry.type);
    spec.ranks.push_back(entry.rank);
    spec.given.push_back(isGiven);
  }
  for (StringRef name : attributeOrder(*op)) {
    Attribute value = node.getNodeAttributes().get(name);
    if (auto list = dyn_cast_or_null<DenseI64ArrayAttr>(value))
      spec.ints.insert(spec.ints.end(), list.asArrayRef().begin(), list.asArrayRef().end());
    else if (auto number = dyn_cast_or_null<IntegerAttr>(value))
      spec.ints.push_back(number.getInt());
    else
      return internalError("node \"" + node.getName().str() + "\" lacks " + name.str());
  }
  if (*op == TensorOp::ConstantOfShape) {
    auto given = node.getNodeAttributes().getAs<ElementsAttr>("value");
    std::optional<Tensor> value = given ? smelt::tensorOf(given) : std::nullopt;
    if (!value || value->elements() != 1)
      return unsupported("node \"" + node.getName().str() + "\" has no one value to fill with");
    if (spec.types[0] == ElementType::F32 || spec.types[0] == ElementType::F64)
      spec.real = value->at(0);
    else
      spec.ints.push_back(value->integer(0));
  }
  if (std::string wrong = spec.check(); !wrong.empty())
    return unsupported("node \"" + node.getName().str() + "\": " + wrong);
  spec.isShape = true;
  instruction.shapeKernel = tensorKernel(spec);
  spec.isShape = false;
  if (!isView(*op))
    instruction.computeKernel = tensorKernel(spec);
  push(instruction);
  return {};
}

/// condition false: to the second branch; each branch ends with what its values become.
Status TensorLowering::choice(NodeOp node) {
  auto branch = [&](StringRef name) -> Block & {
    auto index = node.getNodeAttributes().getAs<IntegerAttr>(name);
    return node->getRegion(unsigned(index.getInt())).front();
  };
  SMELT_ASSIGN(uint32_t condition, tensorOf(node.getInputs()[0]));
  SmallVector<uint32_t> results;
  for (Value result : node->getResults())
    results.push_back(newTensor(result));
  auto take = [&](Block &from) -> Status {
    SMELT_TRY(block(from));
    for (auto [result, value] : llvm::zip(results, from.getTerminator()->getOperands())) {
      TensorInstruction instruction =
          start(TensorAction::Take, OpLabel::Elementwise, node.getName());
      instruction.outputs = 1;
      instruction.operandCount = 2;
      instruction.operands[0] = result;
      SMELT_ASSIGN(instruction.operands[1], tensorOf(value));
      push(instruction);
    }
    return {};
  };
  std::vector<TensorInstruction> &code = lowered.image.instructions;
  TensorInstruction test = start(TensorAction::JumpIfFalse, OpLabel::Elementwise, node.getName());
  test.operandCount = 1;
  test.operands[0] = condition;
  size_t testAt = code.size();
  push(test);
  SMELT_TRY(take(branch("then_branch")));
  size_t jumpAt = code.size();
  push(start(TensorAction::Jump, OpLabel::Elementwise, node.getName()));
  code[testAt].target = uint32_t(code.size());
  SMELT_TRY(take(branch("else_branch")));
  code[jumpAt].target = uint32_t(code.size());
  return {};
}

//===--- Rows ---------------------------------------------------------------------------------===//

void TensorLowering::addRows(StringRef name, Value in, uint32_t out, size_t first, OpLabel label) {
  TensorInstruction instruction = start(TensorAction::Rows, label, name);
  instruction.outputs = 1;
  instruction.operandCount = 2;
  instruction.operands[0] = out;
  instruction.operands[1] = tensors.lookup(in);
  instruction.first = uint32_t(first);
  instruction.count = uint32_t(lowered.instructions.size() - first);
  push(instruction);
}

Status TensorLowering::linear(slm::LinearOp op) {
  if (!op.getFormat() || !op.getActivation() || !op.getPackedOffset())
    return internalError("linear \"" + op.getName().str() + "\" was not quantized");
  SMELT_ASSIGN(WeightFormat format, findFormat(op.getFormat()->str()));
  SMELT_ASSIGN(ActivationFormat activation, findActivation(op.getActivation()->str()));
  SMELT_ASSIGN(uint32_t in, tensorOf(op.getInput()));
  tensors[op.getInput()] = in;
  size_t first = lowered.instructions.size();
  KernelSpec spec;
  spec.cols = slm::widthOf(op.getInput());
  spec.activation = activation;
  spec.kind = KernelKind::Quantize;
  spec.inStride = spec.cols;
  int64_t bytes = activationBytes(activation, spec.cols, options.maxTokens);
  lowered.config.scratchBytes =
      std::max(lowered.config.scratchBytes, uint64_t(roundUp(bytes, int64_t(64))));
  lowered.instructions.push_back(rowInstruction(
      spec, OpLabel::Quantize, {{OperandKind::RowsIn, {}, 0}, {OperandKind::Scratch, {}, 0}, {}}));

  format::Operand bias{};
  if (op.getBias()) {
    SMELT_ASSIGN(WeightView view, weights(op.getBias()));
    std::vector<float> values(size_t(view.rows * view.cols));
    readRows(view, 0, view.rows, values.data());
    values.resize(size_t(roundUp(int64_t(values.size()), int64_t(16))), 0.0f);
    SMELT_ASSIGN(int64_t offset, sink.begin());
    SMELT_TRY(sink.write(std::as_bytes(std::span(values))));
    bias = {OperandKind::Weights, {}, uint64_t(offset)};
  }
  spec.kind = KernelKind::Linear;
  spec.inStride = 0;
  spec.format = format;
  spec.rows = spec.outStride = slm::widthOf(op.getResult());
  spec.bias = bool(op.getBias());
  lowered.instructions.push_back(
      rowInstruction(spec, OpLabel::Linear,
                     {{OperandKind::Scratch, {}, 0},
                      {OperandKind::Weights, {}, uint64_t(*op.getPackedOffset())},
                      bias,
                      {OperandKind::RowsOut, {}, 0}}));
  addRows(op.getName(), op.getInput(), newTensor(op.getResult()), first, OpLabel::Linear);
  return {};
}

Status TensorLowering::embedding(slm::EmbeddingOp op) {
  if (!op.getFormat() || !op.getPackedOffset())
    return internalError("embedding \"" + op.getName().str() + "\" was not quantized");
  KernelSpec spec;
  spec.kind = KernelKind::Embed;
  SMELT_ASSIGN(spec.format, findFormat(op.getFormat()->str()));
  spec.rows = slm::rowsOf(op.getTable());
  spec.cols = spec.outStride = slm::widthOf(op.getTable());
  spec.scalar = op.getScale().convertToDouble();
  SMELT_ASSIGN(uint32_t in, tensorOf(op.getIds()));
  tensors[op.getIds()] = in;
  size_t first = lowered.instructions.size();
  lowered.instructions.push_back(
      rowInstruction(spec, OpLabel::Embedding,
                     {{OperandKind::Weights, {}, uint64_t(*op.getPackedOffset())},
                      {OperandKind::RowsIn, {}, 0},
                      {OperandKind::RowsOut, {}, 0}}));
  addRows(op.getName(), op.getIds(), newTensor(op.getResult()), first, OpLabel::Embedding);
  return {};
}

//===--- The whole ----------------------------------------------------------------------------===//

Status TensorLowering::lower(Operation &op) {
  if (auto node = dyn_cast<NodeOp>(op))
    return this->node(node);
  if (auto linear = dyn_cast<slm::LinearOp>(op))
    return this->linear(linear);
  if (auto embedding = dyn_cast<slm::EmbeddingOp>(op))
    return this->embedding(embedding);
  return {}; // constants and weights, when they are read
}

Status TensorLowering::block(Block &block) {
  for (Operation &op : block.without_terminator())
    SMELT_TRY(lower(op));
  return {};
}

/// Every tensor that is no result goes after the last instruction that reads or makes it. What
/// lives across branches goes behind them: a jump must not pass its release by.
void TensorLowering::placeReleases() {
  std::vector<TensorInstruction> &code = lowered.image.instructions;
  std::vector<int64_t> firstUse(lowered.image.tensors.size(), -1), lastUse(firstUse);
  for (size_t at = 0; at < code.size(); ++at)
    for (uint32_t i = 0; i < code[at].operandCount; ++i)
      if (uint32_t tensor = code[at].operands[i]; tensor != noTensor) {
        if (firstUse[tensor] < 0)
          firstUse[tensor] = int64_t(at);
        lastUse[tensor] = int64_t(at);
      }
  for (const auto &port : lowered.image.inputs)
    firstUse[port.port.tensor] = 0;
  // Regions of code that a jump at `from` may pass by: (from, to).
  for (bool isMoved = true; isMoved;) {
    isMoved = false;
    for (size_t from = 0; from < code.size(); ++from) {
      if (code[from].action != TensorAction::Jump && code[from].action != TensorAction::JumpIfFalse)
        continue;
      auto to = int64_t(code[from].target);
      for (size_t tensor = 0; tensor < lastUse.size(); ++tensor)
        if (lastUse[tensor] > int64_t(from) && lastUse[tensor] < to &&
            firstUse[tensor] <= int64_t(from)) {
          lastUse[tensor] = to;
          isMoved = true;
        }
    }
  }
  for (const auto &port : lowered.image.outputs)
    lastUse[port.port.tensor] = -1;
  std::vector<std::vector<uint32_t>> due(code.size() + 1);
  for (size_t tensor = 0; tensor < lastUse.size(); ++tensor)
    if (lastUse[tensor] >= 0 && !lowered.image.tensors[tensor].isConstant)
      due[size_t(lastUse[tensor])].push_back(uint32_t(tensor));
  // An instruction has room for a few; the next one takes the rest, if it is always reached.
  for (size_t at = 0; at < code.size(); ++at) {
    size_t room = std::size(code[at].release);
    for (size_t i = 0; i < due[at].size(); ++i) {
      if (i < room)
        code[at].release[i] = due[at][i];
      else if (code[at].action != TensorAction::Jump)
        due[at + 1].push_back(due[at][i]);
    }
  }
}

Result<LoweredTensors> TensorLowering::run(func::FuncOp main) {
  format::ModelConfig &config = lowered.config;
  TensorProgramImage &image = lowered.image;
  auto nameOf = [](auto attribute, size_t i) {
    return attribute ? attribute.getValue().str() : "value" + std::to_string(i);
  };
  for (BlockArgument argument : main.getArguments()) {
    unsigned i = argument.getArgNumber();
    TensorProgramImage::Port port{nameOf(main.getArgAttrOfType<StringAttr>(i, "onnx.name"), i), {}};
    port.port = {newTensor(argument), 0, format::PortRole::Other, noTensor, -1, 0};
    image.inputs.push_back(std::move(port));
  }
  SMELT_TRY(block(main.front()));
  for (auto [i, value] : llvm::enumerate(main.front().getTerminator()->getOperands())) {
    TensorProgramImage::Port port{
        nameOf(main.getResultAttrOfType<StringAttr>(unsigned(i), "onnx.name"), i), {}};
    SMELT_ASSIGN(uint32_t tensor, tensorOf(value));
    port.port = {tensor, 0, format::PortRole::Other, noTensor, -1, 0};
    image.outputs.push_back(std::move(port));
  }
  placeReleases();
  config.maxContext = uint32_t(options.maxContext);
  config.maxTokens = uint32_t(options.maxTokens);
  config.maxLogitRows = uint32_t(options.maxLogitRows);
  config.cacheFormat = uint32_t(CacheFormat::F32);
  config.positionBlock = uint32_t(attentionBlock);
  return std::move(lowered);
}

} // namespace

Result<LoweredTensors> lowerTensors(ModuleOp module, TensorWeights &stored,
                                    const WeightResolver &weights, WeightSink &sink,
                                    const LowerOptions &options) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main)
    return corrupt("the module has no function @main to lower");
  TensorLowering lowering(stored, weights, sink, options);
  SMELT_ASSIGN(LoweredTensors lowered, lowering.run(main));
  assignRoles(main, lowered);
  return lowered;
}

} // namespace smelt
