// The builder of tensor programs and the fake decoders.
#include "support/fake_tensors.h"

#include <algorithm>

namespace smelt::test {

using namespace format;

uint32_t TensorBuilder::tensor(ElementType type, std::initializer_list<int64_t> dims) {
  TensorEntry entry{};
  entry.type = type;
  entry.rank = uint32_t(dims.size());
  std::copy(dims.begin(), dims.end(), entry.dims);
  image.tensors.push_back(entry);
  return uint32_t(image.tensors.size() - 1);
}

uint32_t TensorBuilder::constant(ElementType type, std::initializer_list<int64_t> dims,
                                 uint64_t offset) {
  uint32_t index = tensor(type, dims);
  image.tensors[index].isConstant = 1;
  image.tensors[index].offset = offset;
  return index;
}

uint32_t TensorBuilder::input(const std::string &name, uint32_t tensor, PortRole role,
                              int32_t growAxis) {
  image.inputs.push_back({name, {tensor, 0, role, noTensor, growAxis, 0}});
  return uint32_t(image.inputs.size() - 1);
}

uint32_t TensorBuilder::output(const std::string &name, uint32_t tensor, PortRole role) {
  image.outputs.push_back({name, {tensor, 0, role, noTensor, -1, 0}});
  return uint32_t(image.outputs.size() - 1);
}

void TensorBuilder::partners(uint32_t input, uint32_t output) {
  image.inputs[input].port.partner = output;
  image.outputs[output].port.partner = input;
}

uint32_t TensorBuilder::kernelIndex(const std::string &name) {
  auto found = std::find(image.kernelNames.begin(), image.kernelNames.end(), name);
  auto index = uint32_t(found - image.kernelNames.begin());
  if (found == image.kernelNames.end())
    image.kernelNames.push_back(name);
  return index;
}

TensorInstruction &TensorBuilder::add(TensorAction action, const std::string &node,
                                      uint32_t outputs, std::initializer_list<uint32_t> operands) {
  TensorInstruction made{};
  made.action = action;
  made.label = uint32_t(OpLabel::Elementwise);
  made.outputs = outputs;
  made.operandCount = uint32_t(operands.size());
  std::fill(std::begin(made.operands), std::end(made.operands), noTensor);
  std::copy(operands.begin(), operands.end(), made.operands);
  std::fill(std::begin(made.release), std::end(made.release), noTensor);
  made.nodeName = uint32_t(image.nodeNames.size());
  image.nodeNames.push_back(node);
  return image.instructions.emplace_back(made);
}

TensorInstruction &TensorBuilder::kernel(const std::string &node, const std::string &shape,
                                         const std::string &compute, uint32_t outputs,
                                         std::initializer_list<uint32_t> operands) {
  TensorInstruction &made = add(TensorAction::Kernel, node, outputs, operands);
  made.shapeKernel = kernelIndex(shape);
  made.computeKernel = kernelIndex(compute);
  return made;
}

TensorInstruction &TensorBuilder::alias(const std::string &node, const std::string &shape,
                                        std::initializer_list<uint32_t> operands) {
  TensorInstruction &made = add(TensorAction::Alias, node, 1, operands);
  made.shapeKernel = kernelIndex(shape);
  return made;
}

TensorInstruction &TensorBuilder::rows(const std::string &node, uint32_t out, uint32_t in,
                                       uint32_t first, uint32_t count) {
  TensorInstruction &made = add(TensorAction::Rows, node, 1, {out, in});
  made.first = first;
  made.count = count;
  return made;
}

TensorInstruction &TensorBuilder::jump(uint32_t target) {
  TensorInstruction &made = add(TensorAction::Jump, "if", 0, {});
  made.target = target;
  return made;
}

TensorInstruction &TensorBuilder::jumpIfFalse(uint32_t condition, uint32_t target) {
  TensorInstruction &made = add(TensorAction::JumpIfFalse, "if", 0, {condition});
  made.target = target;
  return made;
}

TensorInstruction &TensorBuilder::take(uint32_t out, uint32_t in) {
  return add(TensorAction::Take, "if", 1, {out, in});
}

void makeTensorModel(FakeModel &model, const std::function<void(TensorBuilder &)> &build) {
  model.config.layers = 0;
  model.config.keyBytesPerPosition = model.config.valueBytesPerPosition = 0;
  auto operand = [](OperandKind kind, uint64_t value = 0) { return Operand{kind, {}, value}; };
  Instruction rows{0,
                   1,
                   Domain::Tokens,
                   OpLabel::Head,
                   {operand(OperandKind::RowsIn), operand(OperandKind::Weights, 64),
                    operand(OperandKind::Scratch), operand(OperandKind::RowsOut)}};
  model.program = {{"fake_rows_one", "fake_rows_many"}, {rows}, {}};
  model.tensors.emplace();
  TensorBuilder builder(*model.tensors);
  build(builder);
}

namespace {

void makeDecoder(FakeModel &model, bool hasState) {
  makeTensorModel(model, [&](TensorBuilder &b) {
    using enum ElementType;
    uint32_t ids = b.tensor(I64, {-1, -1}), mask = b.tensor(I64, {-1, -1}),
             positions = b.tensor(I32, {-1, -1});
    uint32_t past = hasState ? b.tensor(F32, {-1, -1}) : b.constant(F32, {1, 0}, 0);
    uint32_t present = b.tensor(F32, {-1, -1}), next = b.tensor(F32, {-1, -1}),
             flat = b.tensor(F32, {-1, 1}), table = b.tensor(F32, {-1, fakeVocabulary}),
             logits = b.tensor(F32, {-1, -1, fakeVocabulary});
    b.input("input_ids", ids, PortRole::Ids);
    b.input("attention_mask", mask, PortRole::Mask);
    b.input("position_ids", positions, PortRole::Positions);
    b.output("logits", logits, PortRole::Logits);
    if (hasState)
      b.partners(b.input("past", past, PortRole::State, 1),
                 b.output("present", present, PortRole::State));
    b.kernel("append", "fake_append_shape", "fake_append", 1, {present, past, ids});
    b.kernel("sums", "fake_sums_shape", "fake_sums", 1, {next, present, positions, mask});
    b.alias("flatten", "fake_flatten", {flat, next}).release[0] = next;
    b.rows("head", table, flat, 0, 1).release[0] = flat;
    b.alias("unflatten", "fake_unflatten", {logits, table, ids}).release[0] = table;
  });
}

} // namespace

void makeTensorDecoder(FakeModel &model) { makeDecoder(model, true); }
void makeStatelessDecoder(FakeModel &model) { makeDecoder(model, false); }

} // namespace smelt::test
