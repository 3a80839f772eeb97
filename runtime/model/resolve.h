// From the instructions of a program to calls with addresses.
#pragma once

#include "runtime/devices/threads.h"
#include "runtime/model/model.h"

#include <algorithm>
#include <iterator>
#include <vector>

namespace smelt {

/// Whether an instruction's kernel of one row or of several must wait for those before it: not all
/// of its operands are ready.
inline bool waitsForOthers(const format::Instruction &instruction, bool one) {
  using format::Readiness;
  const Readiness enough = one ? Readiness::ReadyForOne : Readiness::ReadyForMany;
  return std::any_of(std::begin(instruction.operands), std::end(instruction.operands),
                     [&](const format::Operand &operand) {
                       return operand.kind != format::OperandKind::None &&
                              operand.ready != Readiness::Ready && operand.ready != enough;
                     });
}

/// Fills in what each instruction finds ahead: the weights of the linears, which follow each other
/// in `all`.
void findAhead(std::span<const format::Instruction> instructions, std::span<const std::byte> all,
               std::span<ResolvedInstruction> program);

/// The instructions of the model's program from `first` on; `address(operand)` is where an operand
/// lies.
template <typename Address>
std::vector<ResolvedInstruction> resolveProgram(const Model &model, const Address &address,
                                                uint32_t first = 0) {
  std::span<const format::Instruction> instructions = model.artifact().instructions();
  std::vector<ResolvedInstruction> program;
  program.reserve(instructions.size() - first);
  for (size_t i = first; i < instructions.size(); ++i) {
    const InstructionKernels &kernels = model.kernels()[i];
    ResolvedInstruction resolved{kernels.one,
                                 kernels.many,
                                 instructions[i].domain,
                                 instructions[i].label,
                                 waitsForOthers(instructions[i], true),
                                 waitsForOthers(instructions[i], false),
                                 {},
                                 {}};
    for (uint32_t k = 0; k < format::operandCount; ++k)
      resolved.operands[k] = address(instructions[i].operands[k]);
    program.push_back(resolved);
  }
  findAhead(instructions.subspan(first), model.artifact().weights(), program);
  return program;
}

} // namespace smelt
