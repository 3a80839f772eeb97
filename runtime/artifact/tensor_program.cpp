// Checks of the TensorProgram section: nothing in it is believed before it is checked.
#include "runtime/artifact/tensor_program.h"

#include "runtime/artifact/reader.h"
#include "runtime/artifact/view_at.h"

#include <algorithm>
#include <string>

namespace smelt {

using namespace format;

namespace {

constexpr uint64_t constantAlignment = 64;
/// No real tensor or row comes near; these keep products inside 64 bits.
constexpr uint64_t mostTensorBytes = uint64_t(1) << 46;
constexpr int64_t widestRow = int64_t(1) << 26;

struct TypeInfo {
  std::string_view name;
  uint64_t bytes;
};
constexpr TypeInfo typeTable[elementTypeCount] = {{"f32", 4}, {"f64", 8}, {"i64", 8}, {"i32", 4},
                                                  {"i8", 1},  {"u8", 1},  {"bool", 1}};

std::string number(uint64_t value) { return std::to_string(value); }

/// What a role demands of its tensor.
struct RoleInfo {
  bool isInput, isOutput, isInteger, isFloat;
  uint32_t rank; ///< 0: any
};
constexpr RoleInfo roleTable[] = {
    {true, true, false, false, 0},  // Other
    {true, false, true, false, 2},  // Ids
    {true, false, false, false, 2}, // Mask
    {true, false, true, false, 2},  // Positions
    {true, false, true, false, 2},  // TokenTypes
    {true, true, false, false, 0},  // State
    {false, true, false, true, 3},  // Logits
    {false, true, false, true, 3},  // HiddenState
    {false, true, false, true, 2},  // Embedding
    {false, true, false, true, 2},  // Classes
    {false, true, false, true, 3},  // TokenClasses
};

/// One section under check.
class Checker {
public:
  Checker(const TensorProgram &program, uint64_t weightBytes, std::span<const Instruction> rows)
      : program(program), weightBytes(weightBytes), rows(rows) {}

  Status check() const {
    for (size_t i = 0; i < program.tensors.size(); ++i)
      SMELT_TRY(checkTensor(program.tensors[i]).withContext("tensor " + number(i)));
    for (size_t i = 0; i < program.instructions.size(); ++i)
      SMELT_TRY(checkInstruction(i).withContext("instruction " + number(i)));
    for (size_t i = 0; i < program.inputs.size(); ++i)
      SMELT_TRY(
          checkPort(program.inputs, program.outputs, i, true).withContext("input " + number(i)));
    for (size_t i = 0; i < program.outputs.size(); ++i)
      SMELT_TRY(
          checkPort(program.outputs, program.inputs, i, false).withContext("output " + number(i)));
    return {};
  }

private:
  Status checkTensor(const TensorEntry &tensor) const {
    if (uint32_t(tensor.type) >= elementTypeCount)
      return corrupt("unknown element type " + number(uint32_t(tensor.type)));
    if (tensor.rank > maxRank)
      return corrupt("rank " + number(tensor.rank) + ", at most " + number(maxRank) +
                     " is possible");
    if (tensor.isConstant > 1)
      return corrupt("isConstant is " + number(tensor.isConstant));
    std::span<const int64_t> dims(tensor.dims, tensor.rank);
    if (!tensor.isConstant) {
      if (std::any_of(dims.begin(), dims.end(), [](int64_t dim) { return dim < -1; }))
        return corrupt("a dimension is below -1");
      return {};
    }
    uint64_t bytes = 0;
    if (!tensorBytes(dims, elementBytes(tensor.type), bytes))
      return corrupt("the dimensions of a constant are negative or too large");
    if (tensor.offset % constantAlignment != 0 || tensor.offset > weightBytes ||
        bytes > weightBytes - tensor.offset)
      return corrupt("a constant of " + number(bytes) + " bytes at " + number(tensor.offset) +
                     " is not aligned or outside the weights");
    return {};
  }

  bool isName(uint32_t offset) const { return offset < program.names.size(); }
  bool isTensor(uint32_t index) const { return index < program.tensors.size(); }
  bool isKernel(uint32_t index) const { return index < program.kernelNames.size(); }

  Status checkInstruction(size_t index) const {
    const TensorInstruction &i = program.instructions[index];
    if (uint32_t(i.action) > uint32_t(TensorAction::Take))
      return corrupt("unknown action " + number(uint32_t(i.action)));
    if (i.label >= opLabelCount || !isName(i.nodeName))
      return corrupt("unknown label or a name outside the names");
    if (i.operandCount > tensorOperandCount || i.outputs > 2 || i.outputs > i.operandCount)
      return corrupt(number(i.operandCount) + " operands with " + number(i.outputs) + " outputs");
    for (uint32_t k = 0; k < i.operandCount; ++k) {
      bool isOutput = k < i.outputs;
      if (!isTensor(i.operands[k]) && (isOutput || i.operands[k] != noTensor))
        return corrupt("operand " + number(k) + " is tensor " + number(i.operands[k]) + " of " +
                       number(program.tensors.size()));
      if (isOutput && program.tensors[i.operands[k]].isConstant)
        return corrupt("an output is a constant");
    }
    for (uint32_t tensor : i.release)
      if (tensor != noTensor && !isTensor(tensor))
        return corrupt("tensor " + number(tensor) + " is released, there are " +
                       number(program.tensors.size()));
    return checkAction(i, index);
  }

  Status checkAction(const TensorInstruction &i, size_t index) const {
    auto counts = [&](uint32_t outputs, uint32_t operands) {
      return i.outputs == outputs && i.operandCount == operands &&
             std::none_of(i.operands, i.operands + operands,
                          [](uint32_t tensor) { return tensor == noTensor; });
    };
    auto tensor = [&](uint32_t k) -> const TensorEntry & { return program.tensors[i.operands[k]]; };
    bool isForward = i.target > index && i.target <= program.instructions.size();
    switch (i.action) {
    case TensorAction::Kernel:
      if (i.outputs == 0 || !isKernel(i.shapeKernel) || !isKernel(i.computeKernel))
        return corrupt("a kernel instruction without outputs or kernels");
      return {};
    case TensorAction::Alias:
      if (i.outputs != 1 || i.operandCount < 2 || i.operands[1] == noTensor ||
          !isKernel(i.shapeKernel) || tensor(0).type != tensor(1).type)
        return corrupt("an alias whose operands or kernel do not fit");
      return {};
    case TensorAction::Rows:
      if (!counts(1, 2))
        return corrupt("a rows instruction needs one output and one input");
      return checkRows(i, tensor(0), tensor(1));
    case TensorAction::Jump:
      return counts(0, 0) && isForward ? Status() : corrupt("a jump that does not lead forward");
    case TensorAction::JumpIfFalse:
      if (!counts(0, 1) || !isForward || tensor(0).type != ElementType::Bool)
        return corrupt("a conditional jump that does not lead forward or has no condition");
      return {};
    case TensorAction::Take:
      if (!counts(1, 2) || tensor(0).type != tensor(1).type || tensor(0).rank != tensor(1).rank)
        return corrupt("a take between different types or ranks");
      return {};
    }
    return {};
  }

  Status checkRows(const TensorInstruction &i, const TensorEntry &out,
                   const TensorEntry &in) const {
    auto isMatrix = [](const TensorEntry &tensor) {
      return tensor.type == ElementType::F32 && tensor.rank == 2 && tensor.dims[1] >= 1 &&
             tensor.dims[1] <= widestRow;
    };
    if (!isMatrix(out) || !(isMatrix(in) || (in.type == ElementType::I32 && in.rank == 1)))
      return corrupt("rows between tensors that are no float matrices of known width or ids");
    if (i.count == 0 || i.first > rows.size() || i.count > rows.size() - i.first)
      return corrupt("rows of instructions " + number(i.first) + " and " + number(i.count) +
                     " more, the program has " + number(rows.size()));
    return {};
  }

  Status checkPort(std::span<const TensorPort> ports, std::span<const TensorPort> others, size_t i,
                   bool isInput) const {
    const TensorPort &port = ports[i];
    if (!isTensor(port.tensor) || !isName(port.nameOffset))
      return corrupt("its tensor or name is outside the lists");
    if (uint32_t(port.role) >= std::size(roleTable))
      return corrupt("unknown role " + number(uint32_t(port.role)));
    const TensorEntry &tensor = program.tensors[port.tensor];
    if (isInput && tensor.isConstant)
      return corrupt("an input is a constant");
    if (isInput && std::any_of(ports.begin(), ports.begin() + std::ptrdiff_t(i),
                               [&](const TensorPort &p) { return p.tensor == port.tensor; }))
      return corrupt("two inputs are the same tensor");
    const RoleInfo &role = roleTable[uint32_t(port.role)];
    bool isInteger = tensor.type == ElementType::I64 || tensor.type == ElementType::I32;
    if (!(isInput ? role.isInput : role.isOutput) || (role.isInteger && !isInteger) ||
        (role.isFloat && tensor.type != ElementType::F32) ||
        (role.rank != 0 && tensor.rank != role.rank))
      return corrupt("its role does not fit its type or rank");
    if (port.role != PortRole::State)
      return port.partner == noTensor ? Status() : corrupt("it has a partner, but is no state");
    if (port.partner >= others.size() || others[port.partner].role != PortRole::State ||
        others[port.partner].partner != i || !isTensor(others[port.partner].tensor))
      return corrupt("its partner does not fit it");
    const TensorEntry &partner = program.tensors[others[port.partner].tensor];
    if (partner.type != tensor.type || partner.rank != tensor.rank)
      return corrupt("its partner has another type or rank");
    if (isInput && (port.growAxis < -1 || port.growAxis >= int64_t(tensor.rank)))
      return corrupt("its axis of growth is " + std::to_string(port.growAxis));
    return {};
  }

  const TensorProgram &program;
  uint64_t weightBytes;
  std::span<const Instruction> rows;
};

} // namespace

std::string_view elementTypeName(ElementType type) {
  return uint32_t(type) < elementTypeCount ? typeTable[uint32_t(type)].name : "unknown";
}

uint64_t elementBytes(ElementType type) { return typeTable[uint32_t(type)].bytes; }

bool tensorBytes(std::span<const int64_t> dims, uint64_t each, uint64_t &bytes) {
  bytes = each;
  // A zero makes the product zero whatever stands beside it.
  bool isEmpty = false;
  for (int64_t dim : dims) {
    if (dim < 0)
      return false;
    isEmpty = isEmpty || dim == 0;
  }
  if (isEmpty) {
    bytes = 0;
    return true;
  }
  for (int64_t dim : dims)
    if (__builtin_mul_overflow(bytes, uint64_t(dim), &bytes) || bytes > mostTensorBytes)
      return false;
  return true;
}

Result<TensorProgram> TensorProgram::read(std::span<const std::byte> section, uint64_t weightBytes,
                                          std::span<const Instruction> rows) {
  std::span<const TensorProgramHeader> headers;
  if (!viewAt(section, 0, 1, headers))
    return corrupt("too short for its header");
  const TensorProgramHeader &header = headers[0];
  TensorProgram program;
  uint64_t at = sizeof header;
  auto take = [&](uint32_t count, auto &out) {
    bool fits = viewAt(section, at, count, out);
    at += fits ? out.size_bytes() : 0;
    return fits;
  };
  std::span<const TensorKernelEntry> kernels;
  if (!take(header.kernelCount, kernels) || !take(header.tensorCount, program.tensors) ||
      !take(header.instructionCount, program.instructions) ||
      !take(header.inputCount, program.inputs) || !take(header.outputCount, program.outputs) ||
      !take(header.nameBytes, program.names) || at != section.size())
    return corrupt(number(section.size()) + " bytes do not hold the counts in its header");
  if (!program.names.empty() && program.names.back() != '\0')
    return corrupt("the names do not end with a zero byte");
  for (const TensorKernelEntry &kernel : kernels) {
    if (kernel.nameOffset >= program.names.size())
      return corrupt("a kernel's name lies outside the names");
    program.kernelNames.push_back(program.name(kernel.nameOffset));
  }
  SMELT_TRY(Checker(program, weightBytes, rows).check());
  return program;
}

} // namespace smelt
