// From the instructions of a program to calls with addresses.
#pragma once

#include "runtime/devices/threads.h"
#include "runtime/model/model.h"

#include <vector>

namespace smelt {

/// Every instruction of the model's program; `address(operand)` is where an operand lies.
template <typename Address>
std::vector<ResolvedInstruction> resolveProgram(const Model &model, const Address &address) {
  std::span<const format::Instruction> instructions = model.artifact().instructions();
  std::vector<ResolvedInstruction> program;
  program.reserve(instructions.size());
  for (size_t i = 0; i < instructions.size(); ++i) {
    const InstructionKernels &kernels = model.kernels()[i];
    ResolvedInstruction resolved{kernels.one,           kernels.many, instructions[i].domain,
                                 instructions[i].label, false,        {}};
    for (uint32_t k = 0; k < format::operandCount; ++k) {
      const format::Operand &operand = instructions[i].operands[k];
      resolved.operands[k] = address(operand);
      resolved.waits |= operand.kind != format::OperandKind::None && operand.ready == 0;
    }
    program.push_back(resolved);
  }
  return program;
}

} // namespace smelt
