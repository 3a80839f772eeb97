// The reader against every truncation and bit flip of a small artifact, and against consistent lies
// in it.
#include "runtime/artifact/reader.h"
#include "runtime/base/xxh64.h"
#include "runtime/formats/caches.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <new>

using namespace smelt;
using namespace smelt::format;
using namespace smelt::test;

namespace {

/// A copy of bytes, aligned as a mapping is.
class Aligned {
public:
  explicit Aligned(std::span<const std::byte> from)
      : memory(static_cast<std::byte *>(::operator new(from.size() + 1, std::align_val_t(4096)))),
        bytes(memory.get(), from.size()) {
    std::memcpy(bytes.data(), from.data(), from.size());
  }
  template <typename T> T &at(uint64_t offset) {
    return *reinterpret_cast<T *>(bytes.data() + offset);
  }

private:
  struct Free {
    void operator()(std::byte *p) const { ::operator delete(p, std::align_val_t(4096)); }
  };
  std::unique_ptr<std::byte, Free> memory;

public:
  std::span<std::byte> bytes;
};

/// The fake model without code and tokenizer: small enough to flip every bit.
std::vector<std::byte> smallArtifact(const std::function<void(FakeModel &)> &change = {}) {
  TemporaryFolder folder;
  return readFile(writeFake(folder, [&](FakeModel &model) {
    model.targets.clear();
    model.tokenizer.clear();
    if (change)
      change(model);
  }));
}

Status readStatus(std::span<const std::byte> bytes) { return Artifact::fromMemory(bytes).status(); }

TEST(Reader, TheSmallArtifactIsFine) {
  Aligned copy(smallArtifact());
  EXPECT_TRUE(readStatus(copy.bytes).ok()) << readStatus(copy.bytes).message();
}

TEST(Reader, EveryTruncationIsRefused) {
  auto whole = smallArtifact();
  Aligned copy(whole);
  for (size_t size = 0; size < whole.size(); ++size) {
    Status status = readStatus(copy.bytes.first(size));
    ASSERT_EQ(status.code(), StatusCode::Corrupt) << size;
    ASSERT_FALSE(status.message().empty());
  }
}

TEST(Reader, EveryBitFlipIsRefused) {
  auto whole = smallArtifact();
  Aligned copy(whole);
  for (size_t byte = 0; byte < whole.size(); ++byte) {
    // Padding: one bit per byte is enough, and everything else gets all eight.
    bool padding = whole[byte] == std::byte(0) && byte % 4096 > 2048;
    for (int bit = padding ? int(byte % 8) : 0; bit < (padding ? int(byte % 8) + 1 : 8); ++bit) {
      copy.bytes[byte] ^= std::byte(1 << bit);
      ASSERT_FALSE(readStatus(copy.bytes).ok()) << byte << " bit " << bit;
      copy.bytes[byte] ^= std::byte(1 << bit);
    }
  }
  EXPECT_TRUE(readStatus(copy.bytes).ok());
}

TEST(Reader, ForeignFilesAreNamedAsSuch) {
  TemporaryFolder folder;
  for (std::string text : {"", "x", "GGUF....", "SMELT\n\n, a novel", "SMELT"}) {
    writeFile(folder.path("f"), std::as_bytes(std::span(text)));
    auto artifact = Artifact::open(folder.path("f"));
    ASSERT_FALSE(artifact.ok()) << text;
    EXPECT_EQ(artifact.status().code(), StatusCode::Corrupt) << text;
    EXPECT_NE(artifact.status().message().find("smelt artifact"), std::string::npos);
  }
  EXPECT_EQ(Artifact::open(folder.path("missing")).status().code(), StatusCode::NotFound);
  EXPECT_EQ(Artifact::open(folder.path("")).status().code(), StatusCode::InvalidArgument);
}

/// Puts checksums right after a change, so that only the check of the meaning can refuse it.
void seal(Aligned &file) {
  auto &header = file.at<FileHeader>(0);
  auto *table = &file.at<SectionEntry>(header.tableOffset);
  for (uint32_t i = 0; i < header.sectionCount; ++i)
    if (table[i].offset <= file.bytes.size() &&
        table[i].bytes <= file.bytes.size() - table[i].offset)
      table[i].checksum = xxh64(file.bytes.subspan(table[i].offset, table[i].bytes));
  header.tableChecksum = xxh64(std::as_bytes(std::span(table, header.sectionCount)));
  header.headerChecksum = xxh64(file.bytes.first(offsetof(FileHeader, headerChecksum)));
}

struct Lie {
  const char *name;
  std::function<void(Aligned &)> tell;
  const char *expected; ///< part of the message
};

TEST(Reader, ConsistentLiesAreRefused) {
  auto whole = smallArtifact();
  constexpr uint64_t table = sizeof(FileHeader);
  const Lie lies[] = {
      {"major version", [](Aligned &f) { f.at<FileHeader>(0).majorVersion = 9; }, "version 9"},
      {"table outside", [](Aligned &f) { f.at<FileHeader>(0).tableOffset = ~0ull - 8; }, "table"},
      {"table in the header", [](Aligned &f) { f.at<FileHeader>(0).tableOffset = 8; }, "table"},
      {"section outside", [&](Aligned &f) { f.at<SectionEntry>(table).bytes = ~0ull - 4096; },
       "outside"},
      {"section overlaps", [&](Aligned &f) { f.at<SectionEntry>(table).bytes = 4097; }, "overlap"},
      {"section not aligned", [&](Aligned &f) { f.at<SectionEntry>(table).offset += 8; },
       "multiple"},
      {"section twice", [&](Aligned &f) { f.at<SectionEntry>(table).kind = SectionKind::Program; },
       "twice"},
      {"no config", [&](Aligned &f) { f.at<SectionEntry>(table).kind = SectionKind(77); },
       "no section config"},
      {"config size", [&](Aligned &f) { f.at<SectionEntry>(table).bytes -= 8; }, "config has"},
  };
  for (const Lie &lie : lies) {
    Aligned file(whole);
    lie.tell(file);
    auto &header = file.at<FileHeader>(0);
    if (header.tableOffset == table)
      seal(file);
    else
      header.headerChecksum = xxh64(file.bytes.first(offsetof(FileHeader, headerChecksum)));
    Status status = readStatus(file.bytes);
    EXPECT_FALSE(status.ok()) << lie.name;
    EXPECT_NE(status.message().find(lie.expected), std::string::npos)
        << lie.name << ": " << status.message();
  }
}

struct BadModel {
  const char *name;
  std::function<void(FakeModel &)> change;
};

TEST(Reader, EveryBoundIsChecked) {
  const BadModel models[] = {
      {"output", [](FakeModel &m) { m.config.output = PortRole(11); }},
      {"pooling", [](FakeModel &m) { m.config.pooling = Pooling(4); }},
      {"bidirectional", [](FakeModel &m) { m.config.bidirectional = 2; }},
      {"vocabulary", [](FakeModel &m) { m.config.vocabSize = 0; }},
      {"context", [](FakeModel &m) { m.config.maxContext = ~0u; }},
      {"tokens", [](FakeModel &m) { m.config.maxTokens = 0; }},
      {"logit rows", [](FakeModel &m) { m.config.maxLogitRows = ~0u; }},
      {"cache", [](FakeModel &m) { m.config.cacheFormat = cacheFormatCount(); }},
      {"position block", [](FakeModel &m) { m.config.positionBlock = 8; }},
      {"key bytes", [](FakeModel &m) { m.config.keyBytesPerPosition = ~0ull; }},
      {"key bytes too few", [](FakeModel &m) { m.config.keyBytesPerPosition = 8; }},
      {"scratch", [](FakeModel &m) { m.config.scratchBytes = ~0ull; }},
      {"temperature", [](FakeModel &m) { m.config.temperature = -1; }},
      {"temperature NaN", [](FakeModel &m) { m.config.temperature = __builtin_nanf(""); }},
      {"top-p", [](FakeModel &m) { m.config.topP = 2; }},
      {"end token", [](FakeModel &m) { m.config.eosTokens[3] = fakeVocabulary; }},
      {"bos", [](FakeModel &m) { m.config.addBos = 1; }},
      {"layers", [](FakeModel &m) { m.config.layers = 2; }},
      {"layer offset", [](FakeModel &m) { m.program.cacheLayers[0].keyOffsetPerPosition = ~0ull; }},
      {"layer heads", [](FakeModel &m) { m.program.cacheLayers[0].kvHeads = 0; }},
      {"kernel", [](FakeModel &m) { m.program.instructions[0].kernelOne = 4; }},
      {"domain", [](FakeModel &m) { m.program.instructions[0].domain = Domain(2); }},
      {"label", [](FakeModel &m) { m.program.instructions[0].label = OpLabel(8); }},
      {"operand kind",
       [](FakeModel &m) { m.program.instructions[0].operands[7].kind = OperandKind(99); }},
      {"weights",
       [](FakeModel &m) { m.program.instructions[2].operands[2].value = m.weights.size(); }},
      {"weights alignment", [](FakeModel &m) { m.program.instructions[2].operands[2].value = 8; }},
      {"scratch offset", [](FakeModel &m) { m.program.instructions[1].operands[3].value = 64; }},
      {"cache layer", [](FakeModel &m) { m.program.instructions[0].operands[2].value = 1; }},
      {"no weights", [](FakeModel &m) { m.weights.clear(); }},
  };
  for (const BadModel &model : models) {
    Aligned file(smallArtifact(model.change));
    Status status = readStatus(file.bytes);
    EXPECT_EQ(status.code(), StatusCode::Corrupt) << model.name;
  }
}

TEST(Reader, ProgramCountsThatDoNotFit) {
  auto whole = smallArtifact();
  for (uint32_t ProgramHeader::*field :
       {&ProgramHeader::kernelCount, &ProgramHeader::instructionCount, &ProgramHeader::layerCount,
        &ProgramHeader::nameBytes}) {
    for (uint32_t value : {0u, 1u, 5u, 0x7fffffffu, ~0u}) {
      Aligned file(whole);
      uint64_t at = file.at<SectionEntry>(sizeof(FileHeader) + sizeof(SectionEntry)).offset;
      if (file.at<ProgramHeader>(at).*field == value)
        continue;
      file.at<ProgramHeader>(at).*field = value;
      seal(file);
      EXPECT_EQ(readStatus(file.bytes).code(), StatusCode::Corrupt) << value;
    }
  }
}

TEST(Reader, GpuCodeIsThatOfTheProgram) {
  constexpr size_t kernels = 4, moduleBytes = 8;
  auto statusAfter = [&](const std::function<void(std::vector<GpuProgramKernel> &)> &change) {
    std::vector<GpuProgramKernel> table;
    for (size_t i = 0; i < kernels; ++i) {
      const GpuKernel kernel{64, 1, 1, 0, kernels * sizeof(GpuProgramKernel), moduleBytes};
      table.push_back({kernel, i % 2 ? kernel : GpuKernel()});
    }
    change(table);
    auto bytes = std::as_bytes(std::span(table));
    FakeModel model;
    std::vector<std::byte> section(bytes.begin(), bytes.end());
    section.resize(section.size() + moduleBytes);
    model.sections.push_back({SectionKind::GpuCode, uint32_t(GpuCodeKind::SpirV), section});
    TemporaryFolder folder;
    EXPECT_TRUE(model.write(folder.path("model.smelt")).ok());
    auto artifact = Artifact::open(folder.path("model.smelt"));
    if (artifact.ok())
      EXPECT_EQ((*artifact)->gpuKernels(GpuCodeKind::SpirV).size(), kernels);
    return artifact.ok() ? Status() : artifact.status();
  };
  Status status = statusAfter([](auto &) {});
  EXPECT_TRUE(status.ok()) << status.message();
  status = statusAfter([](auto &table) { table.resize(2); });
  EXPECT_NE(status.message().find("the kernels of the program"), std::string::npos);
  for (auto change : std::initializer_list<void (*)(GpuKernel &)>{
           [](GpuKernel &k) { k.offset += 4; }, [](GpuKernel &k) { k.offset = ~uint64_t(0); },
           [](GpuKernel &k) { k.bytes = ~uint64_t(3); }, [](GpuKernel &k) { k.bytes = 6; }}) {
    for (auto form : {&GpuProgramKernel::usual, &GpuProgramKernel::wide}) {
      status = statusAfter([&](auto &table) { change(table[3].*form); });
      EXPECT_NE(status.message().find("the module of kernel 3 lies outside"), std::string::npos);
    }
  }
  for (auto change : std::initializer_list<void (*)(GpuKernel &)>{
           [](GpuKernel &k) { k.threads = 0; }, [](GpuKernel &k) { k.groups = 0; },
           [](GpuKernel &k) { k.rowsPerGroup = 0; }, [](GpuKernel &k) { k.overPositions = 2; }}) {
    for (auto form : {&GpuProgramKernel::usual, &GpuProgramKernel::wide}) {
      status = statusAfter([&](auto &table) { change(table[1].*form); });
      EXPECT_NE(status.message().find("kernel 1 cannot be started"), std::string::npos);
    }
  }
}

/// What the reader says of a fake model with one more section; empty: nothing.
std::string messageWith(SectionKind kind, std::vector<std::byte> bytes) {
  FakeModel model;
  model.sections.push_back({kind,
                            kind == SectionKind::LayerStarts ? 0 : uint32_t(GpuCodeKind::SpirV),
                            std::move(bytes)});
  TemporaryFolder folder;
  EXPECT_TRUE(model.write(folder.path("model.smelt")).ok());
  auto artifact = Artifact::open(folder.path("model.smelt"));
  return artifact.ok() ? "" : artifact.status().message();
}

TEST(Reader, LogitKernelsAreTwoWithNames) {
  SectionKind kind = SectionKind::GpuArgmax;
  auto messageAfter = [&](const std::function<void(std::vector<GpuNamedKernel> &)> &change) {
    std::vector<GpuNamedKernel> table(2);
    for (GpuNamedKernel &kernel : table)
      kernel = {"name", {64, 1, 1, 0, sizeof(GpuNamedKernel), 8}};
    change(table);
    auto bytes = std::as_bytes(std::span(table));
    return messageWith(kind, {bytes.begin(), bytes.end()});
  };
  for (SectionKind each : {SectionKind::GpuArgmax, SectionKind::GpuCandidates}) {
    kind = each;
    EXPECT_EQ(messageAfter([](auto &) {}), "");
    EXPECT_NE(messageAfter([](auto &table) { table.pop_back(); }).find("does not have its kernels"),
              std::string::npos);
    EXPECT_NE(messageAfter([](auto &table) {
                std::fill(std::begin(table[1].name), std::end(table[1].name), 'x');
              }).find("the name of a kernel does not end"),
              std::string::npos);
    EXPECT_NE(messageAfter([](auto &table) { table[1].kernel.offset = 256; }).find("kernel 1 lies"),
              std::string::npos);
  }
}

TEST(Reader, TheDivisibleProgramIsOfTheSameModel) {
  auto openedWith = [](const std::function<void(ProgramImage &)> &change) {
    FakeModel model;
    ProgramImage second = model.program;
    change(second);
    model.sections.push_back(
        {SectionKind::Program, uint32_t(ProgramKind::Divisible), encodeProgram(second)});
    TemporaryFolder folder;
    EXPECT_TRUE(model.write(folder.path("model.smelt")).ok());
    return Artifact::open(folder.path("model.smelt"));
  };
  auto messageAfter = [&](const std::function<void(ProgramImage &)> &change) {
    auto artifact = openedWith(change);
    return artifact.ok() ? "" : artifact.status().message();
  };
  auto artifact = openedWith([](ProgramImage &p) {
    p.kernelNames.push_back("another");
    p.instructions.pop_back();
  });
  ASSERT_TRUE(artifact.ok()) << artifact.status().message();
  const TokenProgram &whole = (*artifact)->program(), &divisible = (*artifact)->divisibleProgram();
  EXPECT_EQ(divisible.kernelNames.size(), whole.kernelNames.size() + 1);
  EXPECT_EQ(divisible.instructions.size() + 1, whole.instructions.size());
  EXPECT_NE(messageAfter([](auto &p) { p.cacheLayers[0].headDim *= 2; }).find("other cache layers"),
            std::string::npos);
  EXPECT_NE(messageAfter([](auto &p) { p.cacheLayers.clear(); }).find("0 cache layers"),
            std::string::npos);
  EXPECT_NE(messageAfter([](auto &p) { p.kernelNames.resize(1); }).find("kernel 1 of 1"),
            std::string::npos);
  EXPECT_NE(messageAfter([](auto &p) {
              p.instructions[0].operands[0] = {OperandKind::Weights, Readiness::Ready, 1 << 30};
            }).find("operand in weights"),
            std::string::npos);
}

TEST(Reader, OneProgramIsDivisibleToo) {
  FakeModel model;
  TemporaryFolder folder;
  ASSERT_TRUE(model.write(folder.path("model.smelt")).ok());
  auto artifact = Artifact::open(folder.path("model.smelt"));
  ASSERT_TRUE(artifact.ok());
  EXPECT_EQ(&(*artifact)->program(), &(*artifact)->divisibleProgram());
}

TEST(Reader, LayerStartsLieInScratch) {
  const FakeModel model; // one layer
  const auto rows = uint32_t(model.config.scratchBytes / model.config.maxTokens);
  auto messageOf = [](LayerStart start) {
    auto bytes = std::as_bytes(std::span(&start, 1));
    return messageWith(SectionKind::LayerStarts, {bytes.begin(), bytes.end()});
  };
  EXPECT_EQ(messageOf({1, rows, 0}), "");
  EXPECT_EQ(messageOf({~0u, 0, 7}), ""); // cannot be divided: the rest means nothing
  const auto instructions = uint32_t(model.program.instructions.size());
  for (LayerStart wrong :
       {LayerStart{instructions, rows, 0}, LayerStart{1, rows, 4}, LayerStart{1, rows + 4, 0},
        LayerStart{1, 2, 0}, LayerStart{1, 4, 2}, LayerStart{1, 4, ~uint64_t(3)}})
    EXPECT_NE(messageOf(wrong).find("layer 0 begins outside"), std::string::npos);
  EXPECT_NE(messageWith(SectionKind::LayerStarts, std::vector<std::byte>(32)).find("one for each"),
            std::string::npos);
}

TEST(Reader, ANewerMinorVersionAndUnknownSectionsAreRead) {
  Aligned file(smallArtifact());
  auto &header = file.at<FileHeader>(0);
  header.minorVersion = minorVersion + 1;
  header.reserved[3] = 1;
  auto *table = &file.at<SectionEntry>(sizeof(FileHeader));
  table[header.sectionCount - 1].kind = SectionKind(1234);
  seal(file);
  Status status = readStatus(file.bytes);
  EXPECT_TRUE(status.ok()) << status.message();
}

} // namespace
