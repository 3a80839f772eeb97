// What instructions find ahead.
#include "runtime/model/resolve.h"

#include "runtime/model/weight_parts.h"

namespace smelt {

using namespace format;

void findAhead(std::span<const Instruction> instructions, std::span<const std::byte> all,
               std::span<ResolvedInstruction> program) {
  const std::vector<WeightPart> parts = weightPartsOf(instructions, all.size());
  std::span<const std::byte> ahead;
  for (size_t i = program.size(); i-- > 0;) {
    const OpLabel label = instructions[i].label;
    const Operand &weights = instructions[i].operands[1];
    if ((label == OpLabel::Linear || label == OpLabel::Head) &&
        weights.kind == OperandKind::Weights) {
      auto part = std::ranges::lower_bound(parts, weights.value, {}, &WeightPart::offset);
      ahead = all.subspan(part->offset, part->bytes);
    }
    program[i].ahead = ahead;
  }
}

} // namespace smelt
