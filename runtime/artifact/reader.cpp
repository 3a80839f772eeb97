// The artifact reader. Nothing in the file is believed before it is checked, and offsets are never
// added unchecked.
#include "runtime/artifact/reader.h"

#include "runtime/artifact/view_at.h"
#include "runtime/base/xxh64.h"
#include "runtime/formats/caches.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smelt {

using namespace format;

namespace {

constexpr uint64_t operandAlignment = 64;
/// Bounds that no real model comes near; they keep later products inside 64 bits.
constexpr uint32_t mostSections = 1024, mostLayers = 1 << 16, mostContext = 1 << 24,
                   mostStep = 1 << 20, mostVocabulary = 1 << 26;
constexpr uint64_t mostBytes = uint64_t(1) << 46;

std::string number(uint64_t value) { return std::to_string(value); }

bool allZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte(0); });
}

std::string place(const SectionEntry &entry) {
  std::string text = "section " + std::string(sectionName(entry.kind));
  if (entry.target != 0)
    text += " (target " + number(entry.target) + ")";
  return text;
}

} // namespace

std::string_view sectionName(SectionKind kind) {
  constexpr std::string_view names[] = {"unknown",        "config",    "program",    "weights",
                                        "code",           "tokenizer", "template",   "metadata",
                                        "tensor program", "gpu code",  "gpu argmax", "layer starts",
                                        "gpu candidates"};
  return uint32_t(kind) < std::size(names) ? names[uint32_t(kind)] : names[0];
}

std::string_view opLabelName(OpLabel label) {
  constexpr std::string_view names[opLabelCount] = {
      "embedding", "norm", "quantize", "linear", "rope", "attention", "elementwise", "head"};
  return uint32_t(label) < opLabelCount ? names[uint32_t(label)] : "unknown";
}

std::string_view gpuCodeName(GpuCodeKind kind) {
  switch (kind) {
  case GpuCodeKind::SpirV:
    return "vulkan";
  case GpuCodeKind::Ptx:
    return "cuda";
  }
  return "unknown";
}

bool isArtifact(const std::string &path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    return false;
  std::ifstream file(path, std::ios::binary);
  char start[sizeof magic] = {};
  file.read(start, sizeof start);
  return file && std::memcmp(start, magic, sizeof start) == 0;
}

Result<std::unique_ptr<const Artifact>> Artifact::open(const std::string &path) {
  // Without waiting for somebody to write into a pipe.
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0)
    return notFound("cannot open " + path + ": " + std::strerror(errno));
  struct stat info;
  if (::fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(file);
    return invalidArgument(path + " is not a regular file; give the path of a model.smelt");
  }
  std::unique_ptr<Artifact> artifact(new Artifact);
  if (info.st_size != 0) {
    // Populated at once: one pass over the page tables is much cheaper than a fault per 64 KiB
    // while checking.
    void *memory =
        ::mmap(nullptr, size_t(info.st_size), PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED) {
      int error = errno;
      ::close(file);
      return exhausted("cannot map " + path + ": " + std::strerror(error));
    }
    artifact->bytes = {static_cast<const std::byte *>(memory), size_t(info.st_size)};
    artifact->mapped = true;
  }
  ::close(file);
  SMELT_TRY(artifact->check().withContext(path));
  return std::unique_ptr<const Artifact>(std::move(artifact));
}

Result<std::unique_ptr<const Artifact>> Artifact::fromMemory(std::span<const std::byte> bytes) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % operandAlignment != 0)
    return invalidArgument("an artifact in memory must be aligned to 64 bytes");
  std::unique_ptr<Artifact> artifact(new Artifact);
  artifact->bytes = bytes;
  SMELT_TRY(artifact->check());
  return std::unique_ptr<const Artifact>(std::move(artifact));
}

Artifact::~Artifact() {
  if (mapped)
    ::munmap(const_cast<std::byte *>(bytes.data()), bytes.size());
}

std::span<const std::byte> Artifact::section(SectionKind kind, uint32_t target) const {
  for (const SectionEntry &entry : table)
    if (entry.kind == kind && entry.target == target)
      return bytes.subspan(entry.offset, entry.bytes);
  return {};
}

uint64_t Artifact::identity() const { return xxh64(std::as_bytes(table)); }

std::string_view Artifact::text(SectionKind kind) const {
  auto found = section(kind);
  return {reinterpret_cast<const char *>(found.data()), found.size()};
}

Status Artifact::check() {
  SMELT_TRY(checkHeader());
  SMELT_TRY(checkTable());
  SMELT_TRY(checkSums());
  SMELT_TRY(checkConfig());
  weightBytes = section(SectionKind::Weights);
  SMELT_TRY(readPrograms());
  SMELT_TRY(readTensorProgram());
  SMELT_TRY(checkLayerStarts());
  return checkGpuCode();
}

Status Artifact::checkHeader() {
  std::span<const FileHeader> view;
  if (bytes.size() < sizeof magic || std::memcmp(bytes.data(), magic, sizeof magic) != 0) {
    if (bytes.size() >= 5 && std::memcmp(bytes.data(), magic, 5) == 0)
      return corrupt("not a whole smelt artifact: its first bytes were changed, as a transfer in "
                     "text mode does, or it is truncated; copy it again");
    return corrupt("not a smelt artifact: it does not start with SMELT; make one with 'smelt "
                   "compile'");
  }
  if (!viewAt(bytes, 0, 1, view))
    return corrupt("truncated: " + number(bytes.size()) + " bytes found, a header has " +
                   number(sizeof(FileHeader)));
  const FileHeader &header = view[0];
  if (header.majorVersion != majorVersion)
    return unsupported("artifact format version " + number(header.majorVersion) +
                       " found, this smelt reads version " + number(majorVersion) +
                       "; compile the model again with this version");
  if (xxh64(bytes.first(offsetof(FileHeader, headerChecksum))) != header.headerChecksum)
    return corrupt("the header's checksum does not match; the file was damaged, copy it again");
  if (header.fileBytes != bytes.size())
    return corrupt((header.fileBytes > bytes.size() ? "truncated: " : "too long: ") +
                   number(bytes.size()) + " bytes found, " + number(header.fileBytes) +
                   " expected; copy the file again");
  knowsMinor = header.minorVersion <= minorVersion;
  if (knowsMinor && !allZero(std::as_bytes(std::span(header.reserved))))
    return corrupt("reserved bytes of the header are not zero; the file was damaged");
  if (header.sectionCount > mostSections || header.tableOffset < sizeof(FileHeader) ||
      !viewAt(bytes, header.tableOffset, header.sectionCount, table))
    return corrupt("the section table lies outside the file");
  if (xxh64(std::as_bytes(table)) != header.tableChecksum)
    return corrupt("the section table's checksum does not match; the file was damaged, copy it "
                   "again");
  return {};
}

Status Artifact::checkTable() {
  struct Range {
    uint64_t begin, end;
  };
  auto tableBegin = uint64_t(reinterpret_cast<const std::byte *>(table.data()) - bytes.data());
  std::vector<Range> ranges = {{0, sizeof(FileHeader)},
                               {tableBegin, tableBegin + table.size_bytes()}};
  for (const SectionEntry &entry : table) {
    if (entry.offset % sectionAlignment != 0)
      return corrupt(place(entry) + " starts at " + number(entry.offset) +
                     ", which is no multiple of " + number(sectionAlignment));
    if (entry.offset > bytes.size() || entry.bytes > bytes.size() - entry.offset)
      return corrupt(place(entry) + " lies outside the file");
    if (knowsMinor && !allZero(std::as_bytes(std::span(entry.reserved))))
      return corrupt(place(entry) + " has reserved bytes that are not zero");
    ranges.push_back({entry.offset, entry.offset + entry.bytes});
    for (const SectionEntry &other : table)
      if (&other != &entry && other.kind == entry.kind && other.target == entry.target)
        return corrupt(place(entry) + " is there twice");
  }
  for (SectionKind kind : {SectionKind::Config, SectionKind::Program, SectionKind::Weights})
    if (std::none_of(table.begin(), table.end(),
                     [&](const SectionEntry &entry) { return entry.kind == kind; }))
      return corrupt("there is no section " + std::string(sectionName(kind)));

  // No two ranges overlap, and what lies between them is zero.
  std::sort(ranges.begin(), ranges.end(), [](const Range &a, const Range &b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t end = 0;
  for (const Range &range : ranges) {
    if (range.begin < end)
      return corrupt("two sections overlap at " + number(range.begin));
    if (!allZero(bytes.subspan(end, range.begin - end)))
      return corrupt("bytes between sections are not zero before " + number(range.begin) +
                     "; the file was damaged");
    end = range.end;
  }
  if (!allZero(bytes.subspan(end)))
    return corrupt("bytes after the last section are not zero; the file was damaged");
  return {};
}

Status Artifact::checkSums() const {
  for (const SectionEntry &entry : table)
    if (xxh64(bytes.subspan(entry.offset, entry.bytes)) != entry.checksum)
      return corrupt(place(entry) + ": the checksum does not match; the file was damaged, copy it "
                                    "again");
  return {};
}

Status Artifact::checkConfig() {
  auto found = section(SectionKind::Config);
  if (found.size() != sizeof(ModelConfig))
    return corrupt("section config has " + number(found.size()) + " bytes, expected " +
                   number(sizeof(ModelConfig)));
  modelConfig = reinterpret_cast<const ModelConfig *>(found.data());
  const ModelConfig &c = *modelConfig;
  auto between = [](uint64_t value, uint64_t least, uint64_t most) {
    return value >= least && value <= most;
  };
  const char *wrong = nullptr;
  if (!between(c.vocabSize, 1, mostVocabulary))
    wrong = "vocabSize";
  else if (!between(c.layers, 0, mostLayers))
    wrong = "layers";
  else if (!between(c.maxContext, 1, mostContext))
    wrong = "maxContext";
  else if (!between(c.maxTokens, 1, mostStep))
    wrong = "maxTokens";
  else if (!between(c.maxLogitRows, 1, mostStep))
    wrong = "maxLogitRows";
  else if (c.cacheFormat >= cacheFormatCount())
    wrong = "cacheFormat";
  else if (!between(c.positionBlock, 16, 1 << 16) || c.positionBlock % 16 != 0)
    wrong = "positionBlock";
  else if (c.keyBytesPerPosition > mostBytes / mostContext ||
           c.valueBytesPerPosition > mostBytes / mostContext)
    wrong = "cache bytes per position";
  else if (c.scratchBytes > mostBytes)
    wrong = "scratchBytes";
  else if (!(c.temperature >= 0) || !std::isfinite(c.temperature))
    wrong = "temperature";
  else if (!(c.topP >= 0 && c.topP <= 1))
    wrong = "topP";
  else if (!(c.repetitionPenalty >= 0) || !std::isfinite(c.repetitionPenalty))
    wrong = "repetitionPenalty";
  else if (c.addBos > 1 || (c.addBos == 1 && c.bosToken < 0))
    wrong = "addBos";
  else if (c.inputVocab > mostVocabulary || c.tokenTypes > mostVocabulary)
    wrong = "inputVocab or tokenTypes";
  else if (c.bidirectional > 1 || c.normalize > 1)
    wrong = "bidirectional or normalize";
  else if (uint32_t(c.output) > uint32_t(PortRole::TokenClasses))
    wrong = "output";
  else if (uint32_t(c.pooling) > uint32_t(Pooling::Last))
    wrong = "pooling";
  auto validToken = [&](int32_t token) {
    return token >= -1 && token < int64_t(c.inputVocab != 0 ? c.inputVocab : c.vocabSize);
  };
  if (!validToken(c.bosToken) || !validToken(c.padToken) ||
      !std::all_of(std::begin(c.eosTokens), std::end(c.eosTokens), validToken))
    wrong = "special tokens";
  if (wrong)
    return corrupt(std::string("section config: ") + wrong + " is out of range");
  return {};
}

Status Artifact::readPrograms() {
  SMELT_ASSIGN(whole, readProgram(section(SectionKind::Program, uint32_t(ProgramKind::Whole))));
  const auto second = section(SectionKind::Program, uint32_t(ProgramKind::Divisible));
  if (!second.empty()) {
    const std::span<const CacheLayer> ofWhole = layers;
    SMELT_ASSIGN(divisible, readProgram(second));
    if (!std::ranges::equal(std::as_bytes(layers), std::as_bytes(ofWhole)))
      return corrupt("section program (target 1) has other cache layers than target 0");
  }
  return checkLayers();
}

/// Of one section; leaves its cache layers in `layers`.
Result<TokenProgram> Artifact::readProgram(std::span<const std::byte> found) {
  TokenProgram program;
  std::span<const ProgramHeader> headers;
  if (!viewAt(found, 0, 1, headers))
    return corrupt("section program is too short for its header");
  const ProgramHeader &header = headers[0];
  uint64_t at = sizeof(ProgramHeader);
  std::span<const KernelEntry> kernels;
  std::span<const char> nameBytes;
  bool fits = viewAt(found, at, header.kernelCount, kernels);
  at += kernels.size_bytes();
  fits = fits && viewAt(found, at, header.instructionCount, program.instructions);
  at += program.instructions.size_bytes();
  fits = fits && viewAt(found, at, header.layerCount, layers);
  at += layers.size_bytes();
  fits = fits && viewAt(found, at, header.nameBytes, nameBytes);
  at += nameBytes.size_bytes();
  if (!fits || at != found.size())
    return corrupt("section program has " + number(found.size()) +
                   " bytes, which do not hold the counts in its header");
  if (header.layerCount != modelConfig->layers)
    return corrupt("section program has " + number(header.layerCount) +
                   " cache layers, the config has " + number(modelConfig->layers));
  if (!nameBytes.empty() && nameBytes.back() != '\0')
    return corrupt("section program: the kernel names do not end with a zero byte");
  for (const KernelEntry &kernel : kernels) {
    if (kernel.nameOffset >= nameBytes.size())
      return corrupt("section program: a kernel's name lies outside the names");
    program.kernelNames.push_back(nameBytes.data() + kernel.nameOffset);
  }
  for (size_t i = 0; i < program.instructions.size(); ++i)
    SMELT_TRY(checkInstruction(program.instructions[i], kernels.size())
                  .withContext("section program: instruction " + number(i)));
  return program;
}

Status Artifact::checkLayers() const {
  for (size_t i = 0; i < layers.size(); ++i) {
    const CacheLayer &layer = layers[i];
    bool sane = layer.kvHeads >= 1 && layer.kvHeads <= 1 << 12 && layer.headDim >= 1 &&
                layer.headDim <= 1 << 14;
    auto inside = [&](uint64_t offset, int64_t each, uint64_t whole) {
      return offset <= whole && layer.kvHeads * uint64_t(each) <= whole - offset;
    };
    const auto cache = CacheFormat(modelConfig->cacheFormat);
    if (!sane ||
        !inside(layer.keyOffsetPerPosition, keyBytes(cache, layer.headDim),
                modelConfig->keyBytesPerPosition) ||
        !inside(layer.valueOffsetPerPosition, valueBytes(cache, layer.headDim),
                modelConfig->valueBytesPerPosition) ||
        layer.keyOffsetPerPosition * modelConfig->positionBlock % operandAlignment != 0 ||
        layer.valueOffsetPerPosition * modelConfig->positionBlock % operandAlignment != 0)
      return corrupt("section program: cache layer " + number(i) +
                     " does not fit the cache sizes of the config");
  }
  return {};
}

std::span<const GpuProgramKernel> Artifact::gpuKernels(GpuCodeKind kind) const {
  std::span<const GpuProgramKernel> kernels;
  auto found = section(SectionKind::GpuCode, uint32_t(kind));
  return viewAt(found, 0, divisibleProgram().kernelNames.size(), kernels)
             ? kernels
             : std::span<const GpuProgramKernel>();
}

std::span<const LayerStart> Artifact::layerStarts() const {
  std::span<const LayerStart> starts;
  viewAt(section(SectionKind::LayerStarts), 0, layers.size(), starts);
  return starts;
}

Status Artifact::checkLayerStarts() const {
  const std::span<const LayerStart> starts = layerStarts();
  if (starts.size() * sizeof(LayerStart) != section(SectionKind::LayerStarts).size())
    return corrupt("section layer starts: it does not have one for each layer");
  uint32_t least = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    const LayerStart &start = starts[i];
    if (start.rowBytes == 0)
      continue;
    const uint64_t bytes = uint64_t(start.rowBytes) * modelConfig->maxTokens;
    if (start.instruction < least || start.instruction >= divisibleProgram().instructions.size() ||
        start.scratch % 4 != 0 || start.rowBytes % 4 != 0 || bytes > modelConfig->scratchBytes ||
        start.scratch > modelConfig->scratchBytes - bytes)
      return corrupt("section layer starts: layer " + number(i) + " begins outside");
    least = start.instruction;
  }
  return {};
}

std::span<const GpuNamedKernel> Artifact::logitKernelsOf(SectionKind of, GpuCodeKind kind) const {
  std::span<const GpuNamedKernel> kernels;
  viewAt(section(of, uint32_t(kind)), 0, logitKernels, kernels);
  return kernels;
}

std::string Artifact::gpuNames() const {
  std::string names;
  for (const SectionEntry &entry : table)
    if (entry.kind == SectionKind::GpuCode)
      names += (names.empty() ? "" : ", ") + std::string(gpuCodeName(GpuCodeKind(entry.target)));
  return names;
}

/// The module of a kernel of a section, and what starts it.
static Status checkKernel(const GpuKernel &kernel, size_t i, const SectionEntry &entry) {
  if (kernel.offset > entry.bytes || kernel.bytes > entry.bytes - kernel.offset ||
      kernel.offset % 4 != 0 || kernel.bytes % 4 != 0)
    return corrupt("the module of kernel " + number(i) + " lies outside");
  if (!kernel.threads || !kernel.groups || !kernel.rowsPerGroup || kernel.overPositions > 1)
    return corrupt("kernel " + number(i) + " cannot be started");
  return {};
}

Status Artifact::checkGpuCode() const {
  for (const SectionEntry &entry : table) {
    const GpuCodeKind kind{entry.target};
    Status status;
    auto check = [&](const GpuKernel &kernel, size_t i) {
      if (status.ok())
        status = checkKernel(kernel, i, entry);
    };
    if (entry.kind == SectionKind::GpuCode) {
      const auto kernels = gpuKernels(kind);
      if (runsTensors() || kernels.size() != divisibleProgram().kernelNames.size())
        status = corrupt("it does not have the kernels of the program");
      for (size_t i = 0; i < kernels.size(); ++i) {
        check(kernels[i].usual, i);
        if (kernels[i].wide.bytes)
          check(kernels[i].wide, i);
      }
    } else if (entry.kind == SectionKind::GpuArgmax || entry.kind == SectionKind::GpuCandidates) {
      const auto kernels = logitKernelsOf(entry.kind, kind);
      if (kernels.size() != logitKernels)
        status = corrupt("it does not have its kernels");
      for (size_t i = 0; i < kernels.size(); ++i) {
        if (!std::memchr(kernels[i].name, 0, sizeof kernels[i].name))
          status = corrupt("the name of a kernel does not end");
        check(kernels[i].kernel, i);
      }
    }
    if (!status.ok())
      return std::move(status).withContext("section " + std::string(sectionName(entry.kind)) +
                                           " (target " + number(entry.target) + ")");
  }
  return {};
}

bool Artifact::runsTensors() const {
  return std::any_of(table.begin(), table.end(), [](const SectionEntry &entry) {
    return entry.kind == SectionKind::TensorProgram;
  });
}

Status Artifact::readTensorProgram() {
  if (!runsTensors())
    return {};
  auto read = TensorProgram::read(section(SectionKind::TensorProgram), weightBytes.size(),
                                  whole.instructions);
  if (!read.ok())
    return std::move(read).status().withContext("section tensor program");
  tensors = *std::move(read);
  return {};
}

Status Artifact::checkInstruction(const Instruction &instruction, size_t kernels) const {
  for (uint32_t kernel : {instruction.kernelOne, instruction.kernelMany})
    if (kernel != noKernel && kernel >= kernels)
      return corrupt("kernel " + number(kernel) + " of " + number(kernels));
  if (uint32_t(instruction.domain) > uint32_t(Domain::LogitRows) ||
      uint32_t(instruction.label) >= opLabelCount)
    return corrupt("unknown domain or label");
  if (runsTensors() && instruction.domain != Domain::Tokens)
    return corrupt("an instruction of a tensor program that does not work on rows");
  for (const Operand &operand : instruction.operands)
    SMELT_TRY(checkOperand(operand));
  return {};
}

Status Artifact::checkOperand(const Operand &operand) const {
  if (operand.ready > Readiness::ReadyForMany)
    return corrupt("operand has readiness " + number(uint32_t(operand.ready)) + ", expected 0 to " +
                   number(uint32_t(Readiness::ReadyForMany)));
  auto inside = [&](const char *what, uint64_t limit, bool aligned) -> Status {
    if (operand.value >= limit)
      return corrupt(std::string("operand in ") + what + " at " + number(operand.value) +
                     ", there are only " + number(limit));
    if (aligned && operand.value % operandAlignment != 0)
      return corrupt(std::string("operand in ") + what + " at " + number(operand.value) +
                     " is not aligned to 64 bytes");
    return {};
  };
  bool isRows = operand.kind == OperandKind::RowsIn || operand.kind == OperandKind::RowsOut;
  bool isShared = operand.kind == OperandKind::None || operand.kind == OperandKind::Weights ||
                  operand.kind == OperandKind::Scratch;
  if (!isShared && isRows != runsTensors())
    return corrupt("operand kind " + number(uint32_t(operand.kind)) +
                   " does not exist in this kind of program");
  switch (operand.kind) {
  case OperandKind::Weights:
    return inside("weights", weightBytes.size(), true);
  case OperandKind::Scratch:
    return inside("scratch", modelConfig->scratchBytes, false);
  case OperandKind::KeyCache:
  case OperandKind::ValueCache:
    return inside("cache layers", layers.size(), false);
  case OperandKind::None:
  case OperandKind::Tokens:
  case OperandKind::Positions:
  case OperandKind::LogitRows:
  case OperandKind::Logits:
  case OperandKind::RowsIn:
  case OperandKind::RowsOut:
    return {};
  }
  return corrupt("unknown operand kind " + number(uint32_t(operand.kind)));
}

} // namespace smelt
