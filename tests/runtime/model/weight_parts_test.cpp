// Which bytes of the weights a program reads.
#include "runtime/model/weight_parts.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace smelt {
namespace {

using format::OpLabel;

format::Instruction reading(OpLabel label, std::initializer_list<uint64_t> offsets) {
  format::Instruction made{};
  made.label = label;
  size_t operand = 1;
  for (uint64_t offset : offsets)
    made.operands[operand++] = {format::OperandKind::Weights, format::Readiness::Waits, offset};
  return made;
}

TEST(WeightParts, EndWhereTheNextOneBegins) {
  // A table that is looked up and multiplied, a norm, a linear with a bias, and the head on the
  // table.
  const std::vector<format::Instruction> instructions = {
      reading(OpLabel::Embedding, {128}), reading(OpLabel::Norm, {64}),
      reading(OpLabel::Linear, {512, 704}), reading(OpLabel::Rope, {768, 832}),
      reading(OpLabel::Head, {128})};
  const std::vector<WeightPart> parts = weightPartsOf(instructions, 900);
  const std::vector<WeightPart> expected = {
      {64, 64, 1, OpLabel::Norm, false},    {128, 384, 0, OpLabel::Head, true},
      {512, 192, 2, OpLabel::Linear, true}, {704, 64, 2, OpLabel::Linear, true},
      {768, 64, 3, OpLabel::Rope, false},   {832, 68, 3, OpLabel::Rope, false}};
  ASSERT_EQ(parts.size(), expected.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(parts[i].offset, expected[i].offset) << i;
    EXPECT_EQ(parts[i].bytes, expected[i].bytes) << i;
    EXPECT_EQ(parts[i].firstReader, expected[i].firstReader) << i;
    EXPECT_EQ(parts[i].label, expected[i].label) << i;
    EXPECT_EQ(parts[i].isMultiplied, expected[i].isMultiplied) << i;
  }
  EXPECT_TRUE(weightPartsOf({}, 900).empty());
}

} // namespace
} // namespace smelt
