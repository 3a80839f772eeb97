// Fuzz target: any bytes as the tensor program section of an artifact.
#include "fuzz.h"

#include "runtime/artifact/tensor_program.h"
#include "support/fake_tensors.h"

#include <cstring>
#include <memory>
#include <new>

using namespace smelt;
using namespace smelt::format;

namespace {

constexpr uint64_t weightBytes = 320;

/// Every index that was accepted leads somewhere.
uint64_t readAll(const TensorProgram &program, std::span<const Instruction> rows) {
  uint64_t sum = 0;
  auto tensor = [&](uint32_t index) {
    const TensorEntry &entry = program.tensors[index];
    sum += elementBytes(entry.type) + uint64_t(entry.dims[entry.rank == 0 ? 0 : entry.rank - 1]);
  };
  for (const char *name : program.kernelNames)
    sum += std::strlen(name);
  for (size_t at = 0; at < program.instructions.size(); ++at) {
    const TensorInstruction &i = program.instructions[at];
    sum += std::strlen(program.name(i.nodeName));
    for (uint32_t k = 0; k < i.operandCount; ++k)
      if (k < i.outputs || i.operands[k] != noTensor)
        tensor(i.operands[k]);
    if (i.action == TensorAction::Rows)
      for (const Instruction &row : rows.subspan(i.first, i.count))
        sum += uint64_t(row.label);
    if (i.action == TensorAction::Jump || i.action == TensorAction::JumpIfFalse)
      if (i.target <= at)
        __builtin_trap(); // it would never end
  }
  for (const auto &[ports, partners] :
       {std::pair(program.inputs, program.outputs), std::pair(program.outputs, program.inputs)})
    for (const TensorPort &port : ports) {
      sum += std::strlen(program.name(port.nameOffset));
      tensor(port.tensor);
      if (port.role == PortRole::State)
        tensor(partners[port.partner].tensor);
    }
  return sum;
}

} // namespace

std::vector<uint8_t> fuzzSeed() {
  test::FakeModel fake;
  test::makeTensorDecoder(fake);
  test::TensorBuilder builder(*fake.tensors);
  uint32_t flag = builder.tensor(ElementType::Bool, {1});
  builder.constant(ElementType::F32, {16, 4}, 64);
  builder.jumpIfFalse(flag, 7);
  builder.jump(7);
  std::vector<std::byte> bytes = encodeTensorProgram(*fake.tensors);
  auto *data = reinterpret_cast<const uint8_t *>(bytes.data());
  return {data, data + bytes.size()};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // A copy of just the size, so that sanitizers see a byte too many.
  constexpr std::align_val_t alignment{64};
  std::unique_ptr<std::byte[], void (*)(std::byte *)> copy(
      static_cast<std::byte *>(::operator new(size, alignment)),
      [](std::byte *p) { ::operator delete(p, std::align_val_t(64)); });
  std::memcpy(copy.get(), data, size);
  static const test::FakeModel fake = [] {
    test::FakeModel made;
    test::makeTensorDecoder(made);
    return made;
  }();
  auto program = TensorProgram::read({copy.get(), size}, weightBytes, fake.program.instructions);
  if (program.ok()) {
    volatile uint64_t sink = readAll(*program, fake.program.instructions);
    (void)sink;
  }
  return 0;
}
