// Where the weights of linears begin and end.
#include "runtime/model/resolve.h"

#include <set>

namespace smelt {

using namespace format;

void findAhead(std::span<const Instruction> instructions, std::span<const std::byte> all,
               std::span<ResolvedInstruction> program) {
  auto weightsOf = [](const Instruction &instruction) -> const Operand * {
    const Operand &operand = instruction.operands[1];
    const bool isLinear =
        instruction.label == OpLabel::Linear || instruction.label == OpLabel::Head;
    return isLinear && operand.kind == OperandKind::Weights ? &operand : nullptr;
  };
  // A matrix ends where the next one begins, or further on: hints need not be exact.
  std::set<uint64_t> bounds{all.size()};
  for (const Instruction &instruction : instructions)
    if (const Operand *weights = weightsOf(instruction))
      bounds.insert(weights->value);
  std::span<const std::byte> ahead;
  for (size_t i = program.size(); i-- > 0;) {
    if (const Operand *weights = weightsOf(instructions[i]); weights && weights->value < all.size())
      ahead = all.subspan(weights->value, *bounds.upper_bound(weights->value) - weights->value);
    program[i].ahead = ahead;
  }
}

} // namespace smelt
