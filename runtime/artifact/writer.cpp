// The artifact writer: buffered, checksummed while writing, header last, fsync, rename.
#include "runtime/artifact/writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace smelt {

using namespace format;

namespace {

constexpr uint64_t bufferBytes = 1 << 20;
constexpr uint64_t tableAt = sizeof(FileHeader);
constexpr size_t maxSections = (sectionAlignment - tableAt) / sizeof(SectionEntry);

template <typename T> void append(std::vector<std::byte> &out, std::span<const T> items) {
  auto bytes = std::as_bytes(items);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// Removes `<path>.tmp-<pid>` files that nobody holds the lock of: their writer was killed.
void removeAbandoned(const std::string &path) {
  namespace fs = std::filesystem;
  fs::path whole(path);
  std::string prefix = whole.filename().string() + ".tmp-";
  std::error_code ignored;
  fs::path folder = whole.has_parent_path() ? whole.parent_path() : fs::path(".");
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (!entry->path().filename().string().starts_with(prefix))
      continue;
    int file = ::open(entry->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0)
      continue;
    if (::flock(file, LOCK_EX | LOCK_NB) == 0)
      ::unlink(entry->path().c_str());
    ::close(file);
  }
}

} // namespace

std::vector<std::byte> encodeProgram(const ProgramImage &program) {
  std::vector<KernelEntry> kernels;
  std::string names;
  for (const std::string &name : program.kernelNames) {
    kernels.push_back({uint32_t(names.size()), 0});
    names += name;
    names += '\0';
  }
  ProgramHeader header{uint32_t(kernels.size()), uint32_t(program.instructions.size()),
                       uint32_t(program.cacheLayers.size()), uint32_t(names.size())};
  std::vector<std::byte> out;
  append(out, std::span<const ProgramHeader>(&header, 1));
  append(out, std::span<const KernelEntry>(kernels));
  append(out, std::span<const Instruction>(program.instructions));
  append(out, std::span<const CacheLayer>(program.cacheLayers));
  append(out, std::span<const char>(names));
  return out;
}

std::vector<std::byte> encodeTensorProgram(const TensorProgramImage &program) {
  std::string names;
  auto add = [&](const std::string &name) {
    auto offset = uint32_t(names.size());
    names += name;
    names += '\0';
    return offset;
  };
  std::vector<TensorKernelEntry> kernels;
  for (const std::string &name : program.kernelNames)
    kernels.push_back({add(name), 0});
  std::vector<uint32_t> nodeNames;
  for (const std::string &name : program.nodeNames)
    nodeNames.push_back(add(name));
  std::vector<TensorInstruction> instructions = program.instructions;
  for (TensorInstruction &instruction : instructions)
    instruction.nodeName = nodeNames[instruction.nodeName];
  std::vector<TensorPort> ports;
  for (const auto *list : {&program.inputs, &program.outputs})
    for (const TensorProgramImage::Port &entry : *list)
      ports.emplace_back(entry.port).nameOffset = add(entry.name);

  TensorProgramHeader header{uint32_t(kernels.size()),         uint32_t(program.tensors.size()),
                             uint32_t(instructions.size()),    uint32_t(program.inputs.size()),
                             uint32_t(program.outputs.size()), uint32_t(names.size())};
  std::vector<std::byte> out;
  append(out, std::span<const TensorProgramHeader>(&header, 1));
  append(out, std::span<const TensorKernelEntry>(kernels));
  append(out, std::span<const TensorEntry>(program.tensors));
  append(out, std::span<const TensorInstruction>(instructions));
  append(out, std::span<const TensorPort>(ports));
  append(out, std::span<const char>(names));
  return out;
}

std::string temporaryPathOf(const std::string &path) {
  return path + ".tmp-" + std::to_string(::getpid());
}

ArtifactWriter::ArtifactWriter(std::string path, std::string temporary, int file)
    : path(std::move(path)), temporary(std::move(temporary)), file(file) {
  buffer.reserve(bufferBytes);
}

ArtifactWriter::~ArtifactWriter() {
  if (!finished)
    ::unlink(temporary.c_str());
  ::close(file);
}

Status ArtifactWriter::failure(const std::string &what) const {
  int error = errno;
  std::string text = "cannot " + what + ": " + std::strerror(error);
  return error == ENOSPC || error == EDQUOT || error == EFBIG ? exhausted(text)
                                                              : invalidArgument(text);
}

Result<std::unique_ptr<ArtifactWriter>> ArtifactWriter::create(const std::string &path) {
  std::error_code ignored;
  if (path.empty())
    return invalidArgument("the output path is empty");
  if (std::filesystem::is_directory(path, ignored))
    return invalidArgument("cannot write " + path + ": it is a folder; name a file in it");
  removeAbandoned(path);
  std::string temporary = temporaryPathOf(path);
  int file = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (file < 0)
    return invalidArgument("cannot write " + path + ": " + std::strerror(errno) +
                           "; choose an output in a folder that exists and can be written");
  // Held until the file is closed: tells a live writer from an abandoned file. Best effort, some
  // file systems lack it.
  (void)!::flock(file, LOCK_EX | LOCK_NB);
  return std::unique_ptr<ArtifactWriter>(new ArtifactWriter(path, temporary, file));
}

Status ArtifactWriter::put(const void *data, uint64_t bytes, uint64_t offset) {
  const char *at = static_cast<const char *>(data);
  while (bytes != 0) {
    ssize_t done = ::pwrite(file, at, bytes, off_t(offset));
    if (done < 0 && errno == EINTR)
      continue;
    if (done < 0)
      return failure("write " + temporary);
    at += done;
    bytes -= uint64_t(done);
    offset += uint64_t(done);
  }
  return {};
}

Status ArtifactWriter::flush() {
  SMELT_TRY(put(buffer.data(), buffer.size(), fileBytes - buffer.size()));
  buffer.clear();
  return {};
}

Status ArtifactWriter::beginSection(SectionKind kind, uint32_t target) {
  if (finished || inSection)
    return internalError("a section was begun while another is open or after the end");
  if (table.size() == maxSections)
    return internalError("an artifact holds at most " + std::to_string(maxSections) + " sections");
  SMELT_TRY(flush());
  fileBytes = (fileBytes + sectionAlignment - 1) / sectionAlignment * sectionAlignment;
  open = SectionEntry{};
  open.kind = kind;
  open.target = target;
  open.offset = fileBytes;
  checksum = Xxh64();
  inSection = true;
  return {};
}

Status ArtifactWriter::write(std::span<const std::byte> bytes) {
  if (!inSection)
    return internalError("bytes were written outside any section");
  checksum.update(bytes);
  open.bytes += bytes.size();
  if (buffer.size() + bytes.size() > bufferBytes)
    SMELT_TRY(flush());
  if (bytes.size() >= bufferBytes) {
    SMELT_TRY(put(bytes.data(), bytes.size(), fileBytes));
  } else {
    buffer.insert(buffer.end(), bytes.begin(), bytes.end());
  }
  fileBytes += bytes.size();
  return {};
}

Status ArtifactWriter::align(uint64_t alignment) {
  static constexpr std::byte zeros[4096] = {};
  uint64_t missing = (alignment - open.bytes % alignment) % alignment;
  while (missing != 0) {
    uint64_t piece = std::min<uint64_t>(missing, sizeof zeros);
    SMELT_TRY(write({zeros, piece}));
    missing -= piece;
  }
  return {};
}

Status ArtifactWriter::endSection() {
  if (!inSection)
    return internalError("no section is open");
  open.checksum = checksum.digest();
  table.push_back(open);
  inSection = false;
  return {};
}

Status ArtifactWriter::addSection(SectionKind kind, std::span<const std::byte> bytes,
                                  uint32_t target) {
  SMELT_TRY(beginSection(kind, target));
  SMELT_TRY(write(bytes));
  return endSection();
}

Status ArtifactWriter::addSection(SectionKind kind, std::string_view text) {
  return addSection(kind, std::as_bytes(std::span(text.data(), text.size())));
}

Status ArtifactWriter::finish() {
  if (inSection || finished)
    return internalError("an artifact was finished twice or inside a section");
  SMELT_TRY(flush());
  SMELT_TRY(put(table.data(), table.size() * sizeof(SectionEntry), tableAt));

  FileHeader header{};
  std::memcpy(header.magic, magic, sizeof magic);
  header.majorVersion = majorVersion;
  header.minorVersion = minorVersion;
  header.sectionCount = uint32_t(table.size());
  header.fileBytes = fileBytes;
  header.tableOffset = tableAt;
  header.tableChecksum = xxh64(std::as_bytes(std::span(table)));
  header.headerChecksum =
      xxh64(std::as_bytes(std::span(&header, 1)).first(offsetof(FileHeader, headerChecksum)));
  SMELT_TRY(put(&header, sizeof header, 0));
  // The last section may end in alignment that nothing was written to.
  if (::ftruncate(file, off_t(fileBytes)) != 0 || ::fsync(file) != 0)
    return failure("write " + temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return failure("rename " + temporary + " to " + path);
  finished = true;

  // The rename itself is durable once the folder is; a file system that cannot sync folders is no
  // error.
  std::string folder = std::filesystem::path(path).parent_path().string();
  int handle = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle >= 0) {
    (void)!::fsync(handle);
    ::close(handle);
  }
  return {};
}

} // namespace smelt
