// The reader against lies in a tensor program.
#include "runtime/artifact/reader.h"
#include "support/fake_tensors.h"

#include <gtest/gtest.h>

#include <limits>

using namespace smelt;
using namespace smelt::format;
using namespace smelt::test;

namespace {

Status status(const std::function<void(FakeModel &)> &change) {
  TemporaryFolder folder;
  return Artifact::open(writeFake(folder,
                                  [&](FakeModel &fake) {
                                    fake.targets.clear();
                                    makeTensorDecoder(fake);
                                    change(fake);
                                  }))
      .status();
}

TEST(TensorProgram, ReadsWhatWasWritten) {
  TemporaryFolder folder;
  auto artifact = Artifact::open(writeFake(folder, makeTensorDecoder));
  ASSERT_TRUE(artifact.ok()) << artifact.status().message();
  const TensorProgram *program = (*artifact)->tensorProgram();
  ASSERT_NE(program, nullptr);
  ASSERT_EQ(program->instructions.size(), 5u);
  EXPECT_STREQ(program->name(program->instructions[3].nodeName), "head");
  EXPECT_STREQ(program->name(program->inputs[3].nameOffset), "past");
  EXPECT_STREQ(program->name(program->outputs[1].nameOffset), "present");
  EXPECT_STREQ(program->kernelNames[program->instructions[1].computeKernel], "fake_sums");
  EXPECT_EQ(program->tensors.size(), 9u);
  auto plain = Artifact::open(writeFake(folder));
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ((*plain)->tensorProgram(), nullptr);
}

TEST(TensorProgram, EveryBoundIsChecked) {
  auto tensor = [](FakeModel &m, size_t i) -> TensorEntry & { return m.tensors->tensors[i]; };
  auto at = [](FakeModel &m, size_t i) -> TensorInstruction & {
    return m.tensors->instructions[i];
  };
  auto in = [](FakeModel &m, size_t i) -> TensorPort & { return m.tensors->inputs[i].port; };
  auto out = [](FakeModel &m, size_t i) -> TensorPort & { return m.tensors->outputs[i].port; };
  /// Makes tensor 4 (the state) a constant at `offset`, and nothing's output or input.
  auto constant = [](FakeModel &m, uint64_t offset, int64_t dim) {
    TensorEntry entry{};
    entry.isConstant = 1;
    entry.rank = 2;
    entry.offset = offset;
    entry.dims[0] = dim;
    entry.dims[1] = 4;
    m.tensors->tensors.push_back(entry);
  };
  constexpr int64_t huge = std::numeric_limits<int64_t>::max();
  const std::pair<const char *, std::function<void(FakeModel &)>> lies[] = {
      {"type", [&](FakeModel &m) { tensor(m, 0).type = ElementType(7); }},
      {"rank", [&](FakeModel &m) { tensor(m, 4).rank = 9; }},
      {"constant flag", [&](FakeModel &m) { tensor(m, 4).isConstant = 2; }},
      {"dimension", [&](FakeModel &m) { tensor(m, 4).dims[0] = -2; }},
      {"constant outside", [&](FakeModel &m) { constant(m, 64, 17); }},
      {"constant far outside", [&](FakeModel &m) { constant(m, ~uint64_t(63), 1); }},
      {"constant not aligned", [&](FakeModel &m) { constant(m, 8, 1); }},
      {"constant overflow", [&](FakeModel &m) { constant(m, 64, huge); }},
      {"constant negative", [&](FakeModel &m) { constant(m, 64, -1); }},
      {"action", [&](FakeModel &m) { at(m, 0).action = TensorAction(6); }},
      {"label", [&](FakeModel &m) { at(m, 0).label = 8; }},
      {"operand", [&](FakeModel &m) { at(m, 0).operands[1] = 9; }},
      {"output operand", [&](FakeModel &m) { at(m, 0).operands[0] = noTensor; }},
      {"operand count", [&](FakeModel &m) { at(m, 0).operandCount = 8; }},
      {"outputs", [&](FakeModel &m) { at(m, 0).outputs = 3; }},
      {"no outputs", [&](FakeModel &m) { at(m, 0).outputs = 0; }},
      {"more outputs than operands", [&](FakeModel &m) { at(m, 0).operandCount = 0; }},
      {"output to a constant",
       [&](FakeModel &m) {
         constant(m, 64, 1);
         at(m, 0).operands[0] = 9;
       }},
      {"shape kernel", [&](FakeModel &m) { at(m, 0).shapeKernel = 99; }},
      {"compute kernel", [&](FakeModel &m) { at(m, 0).computeKernel = 99; }},
      {"release", [&](FakeModel &m) { at(m, 0).release[6] = 9; }},
      {"alias kernel", [&](FakeModel &m) { at(m, 2).shapeKernel = 99; }},
      {"alias of nothing", [&](FakeModel &m) { at(m, 2).operands[1] = noTensor; }},
      {"alias of another type", [&](FakeModel &m) { at(m, 2).operands[1] = 0; }},
      {"rows beyond", [&](FakeModel &m) { at(m, 3).count = 2; }},
      {"rows far beyond", [&](FakeModel &m) { at(m, 3).first = ~0u; }},
      {"no rows", [&](FakeModel &m) { at(m, 3).count = 0; }},
      {"rows of unknown width", [&](FakeModel &m) { tensor(m, 6).dims[1] = -1; }},
      {"rows of absurd width", [&](FakeModel &m) { tensor(m, 7).dims[1] = huge; }},
      {"rows of integers", [&](FakeModel &m) { at(m, 3).operands[1] = 0; }},
      {"rows of nothing", [&](FakeModel &m) { at(m, 3).operands[1] = noTensor; }},
      {"logits in rows",
       [&](FakeModel &m) { m.program.instructions[0].operands[4].kind = OperandKind::Logits; }},
      {"logit rows", [&](FakeModel &m) { m.program.instructions[0].domain = Domain::LogitRows; }},
      {"rows in a token program", [&](FakeModel &m) { m.tensors.reset(); }},
      {"jump back", [&](FakeModel &m) { TensorBuilder(*m.tensors).jump(5); }},
      {"jump outside", [&](FakeModel &m) { TensorBuilder(*m.tensors).jump(7); }},
      {"jump without condition",
       [&](FakeModel &m) { TensorBuilder(*m.tensors).jumpIfFalse(noTensor, 6); }},
      {"jump by a float", [&](FakeModel &m) { TensorBuilder(*m.tensors).jumpIfFalse(4, 6); }},
      {"take of another type", [&](FakeModel &m) { TensorBuilder(*m.tensors).take(0, 4); }},
      {"take of another rank", [&](FakeModel &m) { TensorBuilder(*m.tensors).take(8, 4); }},
      {"port tensor", [&](FakeModel &m) { in(m, 0).tensor = 9; }},
      {"role", [&](FakeModel &m) { in(m, 0).role = PortRole(11); }},
      {"logits as an input", [&](FakeModel &m) { in(m, 0).role = PortRole::Logits; }},
      {"ids as an output", [&](FakeModel &m) { out(m, 0).role = PortRole::Ids; }},
      {"ids of floats", [&](FakeModel &m) { in(m, 0).tensor = 5; }},
      {"logits of rank 2", [&](FakeModel &m) { out(m, 0).tensor = 5; }},
      {"the same input twice", [&](FakeModel &m) { in(m, 0).tensor = in(m, 1).tensor; }},
      {"constant input",
       [&](FakeModel &m) {
         constant(m, 64, 1);
         in(m, 3).tensor = 9;
       }},
      {"partner", [&](FakeModel &m) { in(m, 3).partner = 2; }},
      {"partner of another role", [&](FakeModel &m) { in(m, 3).partner = 0; }},
      {"partner that is not back", [&](FakeModel &m) { out(m, 1).partner = 0; }},
      {"partner of another type", [&](FakeModel &m) { out(m, 1).tensor = 0; }},
      {"partner without state", [&](FakeModel &m) { in(m, 0).partner = 0; }},
      {"axis of growth", [&](FakeModel &m) { in(m, 3).growAxis = 2; }},
      {"negative axis of growth", [&](FakeModel &m) { in(m, 3).growAxis = -2; }},
  };
  EXPECT_TRUE(status([](FakeModel &) {}).ok()) << status([](FakeModel &) {}).message();
  EXPECT_TRUE(status([&](FakeModel &m) { constant(m, 64, 16); }).ok());
  for (const auto &[name, change] : lies) {
    Status found = status(change);
    EXPECT_EQ(found.code(), StatusCode::Corrupt) << name;
    EXPECT_NE(found.message().find("section "), std::string::npos) << name;
  }
}

TEST(TensorProgram, CountsThatDoNotFit) {
  FakeModel fake;
  makeTensorDecoder(fake);
  std::vector<std::byte> whole = encodeTensorProgram(*fake.tensors);
  auto code = [&](std::span<const std::byte> section) {
    return TensorProgram::read(section, fake.weights.size(), fake.program.instructions)
        .status()
        .code();
  };
  EXPECT_EQ(code(whole), StatusCode::Ok);
  for (size_t size = 0; size < whole.size(); ++size)
    ASSERT_EQ(code(std::span(whole).first(size)), StatusCode::Corrupt) << size;
  for (uint32_t TensorProgramHeader::*field :
       {&TensorProgramHeader::kernelCount, &TensorProgramHeader::tensorCount,
        &TensorProgramHeader::instructionCount, &TensorProgramHeader::inputCount,
        &TensorProgramHeader::outputCount, &TensorProgramHeader::nameBytes}) {
    for (uint32_t value : {0u, 1u, 7u, 0x7fffffffu, ~0u}) {
      std::vector<std::byte> changed = whole;
      auto &header = *reinterpret_cast<TensorProgramHeader *>(changed.data());
      if (std::exchange(header.*field, value) != value)
        EXPECT_EQ(code(changed), StatusCode::Corrupt) << value;
    }
  }
}

} // namespace
