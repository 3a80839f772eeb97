// The operands of all instructions that lie in the weights section, each offset once.
#include "runtime/model/weight_parts.h"

#include <map>

namespace smelt {

using namespace format;

std::vector<WeightPart> weightPartsOf(std::span<const Instruction> instructions, uint64_t section) {
  std::map<uint64_t, WeightPart> found; // by offset
  for (size_t i = 0; i < instructions.size(); ++i)
    for (const Operand &operand : instructions[i].operands)
      if (operand.kind == OperandKind::Weights) {
        const OpLabel label = instructions[i].label;
        WeightPart &part =
            found.try_emplace(operand.value, WeightPart{.offset = operand.value, .firstReader = i})
                .first->second;
        part.label = label;
        part.isMultiplied |= label == OpLabel::Linear || label == OpLabel::Head;
      }
  std::vector<WeightPart> parts;
  for (const auto &[offset, part] : found) {
    if (!parts.empty())
      parts.back().bytes = offset - parts.back().offset;
    parts.push_back(part);
  }
  if (!parts.empty())
    parts.back().bytes = section - parts.back().offset;
  return parts;
}

uint64_t weightBytesOfToken(const Artifact &artifact) {
  uint64_t bytes = 0;
  for (const WeightPart &part :
       weightPartsOf(artifact.program().instructions, artifact.weights().size()))
    bytes += part.isMultiplied ? part.bytes : 0;
  return bytes;
}

} // namespace smelt
