// What instructions find ahead.
#include "runtime/model/resolve.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

format::Instruction instruction(format::OpLabel label, format::OperandKind kind, uint64_t value) {
  format::Instruction made{};
  made.label = label;
  made.operands[1].kind = kind;
  made.operands[1].value = value;
  return made;
}

TEST(FindAhead, NamesTheNextMatrix) {
  using format::OperandKind;
  using format::OpLabel;
  std::vector<std::byte> all(1000);
  // Weights of a norm are no matrix; the second linear's lie before the first's.
  const std::vector<format::Instruction> instructions = {
      instruction(OpLabel::Norm, OperandKind::Weights, 990),
      instruction(OpLabel::Linear, OperandKind::Weights, 400),
      instruction(OpLabel::Linear, OperandKind::Scratch, 7),
      instruction(OpLabel::Linear, OperandKind::Weights, 100),
      instruction(OpLabel::Head, OperandKind::Weights, 600),
      instruction(OpLabel::Norm, OperandKind::Weights, 990)};
  std::vector<ResolvedInstruction> program(instructions.size());
  findAhead(instructions, all, program);
  auto range = [&](size_t i) {
    return std::pair(program[i].ahead.data() - all.data(), program[i].ahead.size());
  };
  EXPECT_EQ(range(0), std::pair(ptrdiff_t(400), size_t(200)));
  EXPECT_EQ(range(1), range(0));
  EXPECT_EQ(range(2), std::pair(ptrdiff_t(100), size_t(300)));
  EXPECT_EQ(range(3), range(2));
  EXPECT_EQ(range(4), std::pair(ptrdiff_t(600), size_t(390)));
  EXPECT_TRUE(program[5].ahead.empty());
}

} // namespace
} // namespace smelt
