// Fuzz target: any bytes as an artifact. Checksums are put right first, so that mutations reach the
// checks of meaning.
#include "fuzz.h"

#include "runtime/artifact/reader.h"
#include "runtime/base/xxh64.h"
#include "support/fake_model.h"

#include <cstring>
#include <memory>
#include <new>

using namespace smelt;
using namespace smelt::format;

namespace {

void seal(std::span<std::byte> file) {
  FileHeader header;
  if (file.size() < sizeof header)
    return;
  std::memcpy(&header, file.data(), sizeof header);
  header.fileBytes = file.size();
  uint64_t tableBytes = uint64_t(header.sectionCount) * sizeof(SectionEntry);
  if (header.tableOffset <= file.size() && tableBytes <= file.size() - header.tableOffset) {
    for (uint32_t i = 0; i < header.sectionCount; ++i) {
      SectionEntry entry;
      std::byte *at = file.data() + header.tableOffset + i * sizeof entry;
      std::memcpy(&entry, at, sizeof entry);
      if (entry.offset <= file.size() && entry.bytes <= file.size() - entry.offset)
        entry.checksum = xxh64(file.subspan(entry.offset, entry.bytes));
      std::memcpy(at, &entry, sizeof entry);
    }
    header.tableChecksum = xxh64(file.subspan(header.tableOffset, tableBytes));
  }
  header.headerChecksum =
      xxh64(std::as_bytes(std::span(&header, 1)).first(offsetof(FileHeader, headerChecksum)));
  std::memcpy(file.data(), &header, sizeof header);
}

} // namespace

std::vector<uint8_t> fuzzSeed() {
  test::TemporaryFolder folder;
  auto bytes = test::readFile(test::writeFake(folder, [](test::FakeModel &model) {
    model.targets.clear();
    model.tokenizer.clear();
  }));
  auto *data = reinterpret_cast<const uint8_t *>(bytes.data());
  return {data, data + bytes.size()};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  constexpr std::align_val_t alignment{4096};
  std::unique_ptr<std::byte[], void (*)(std::byte *)> copy(
      static_cast<std::byte *>(::operator new(size + 1, alignment)),
      [](std::byte *p) { ::operator delete(p, std::align_val_t(4096)); });
  std::span<std::byte> bytes(copy.get(), size);
  std::memcpy(bytes.data(), data, size);
  seal(bytes);
  auto artifact = Artifact::fromMemory(bytes);
  if (artifact.ok()) {
    // What was accepted must be readable where it says.
    uint64_t sum = 0;
    for (const TokenProgram *program :
         {&(*artifact)->program(), &(*artifact)->divisibleProgram()}) {
      for (const Instruction &instruction : program->instructions)
        for (const Operand &operand : instruction.operands)
          if (operand.kind == OperandKind::Weights)
            sum += uint64_t((*artifact)->weights()[operand.value]);
      for (const char *name : program->kernelNames)
        sum += std::strlen(name);
    }
    volatile uint64_t sink = sum;
    (void)sink;
  }
  return 0;
}
