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

/// Fills in what each instruction finds ahead: the weights of the linear that it is or that follows
/// it, in `all`, which holds every operand.
void findAhead(std::span<const format::Instruction> instructions, std::span<const std::byte> all,
               std::span<ResolvedInstruction> program);

/// Instructions of the model and their kernels; `address(operand)` is where an operand lies.
template <typename Address>
std::vector<ResolvedInstruction>
resolveProgram(const Model &model, std::span<const format::Instruction> instructions,
               std::span<const InstructionKernels> kernels, const Address &address) {
  std::vector<ResolvedInstruction> program;
  program.reserve(instructions.size());
  for (size_t i = 0; i < instructions.size(); ++i) {
    ResolvedInstruction resolved{kernels[i].one,
                                 kernels[i].many,
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
  findAhead(instructions, model.artifact().weights(), program);
  return program;
}

} // namespace smelt
