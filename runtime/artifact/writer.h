// Writes `model.smelt`: sections stream to a temporary file that gets its name only when whole.
// Used by the compiler.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/artifact/image.h"
#include "runtime/base/status.h"
#include "runtime/base/xxh64.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace smelt {

std::vector<std::byte> encodeProgram(const ProgramImage &program);
std::vector<std::byte> encodeTensorProgram(const TensorProgramImage &program);

/// Where an artifact lies until it is whole; where a writer was killed, the next one removes it.
std::string temporaryPathOf(const std::string &path);

/// One artifact being written. Everything goes to temporaryPathOf(path), which is renamed to `path` by
/// finish() and removed by the destructor otherwise; temporary files that killed writers left
/// beside `path` are removed at the start.
class ArtifactWriter {
public:
  static Result<std::unique_ptr<ArtifactWriter>> create(const std::string &path);
  ~ArtifactWriter();
  ArtifactWriter(const ArtifactWriter &) = delete;
  ArtifactWriter &operator=(const ArtifactWriter &) = delete;

  /// Starts a section; one is open at a time. `target` is a row of targets.def for Code, else 0.
  Status beginSection(format::SectionKind kind, uint32_t target = 0);
  Status write(std::span<const std::byte> bytes);
  /// Fills the open section with zeros up to a multiple of `alignment` bytes from its start.
  Status align(uint64_t alignment);
  /// Bytes written to the open section so far: the offset that the next byte gets.
  uint64_t sectionBytes() const { return open.bytes; }
  Status endSection();

  /// A whole section at once.
  Status addSection(format::SectionKind kind, std::span<const std::byte> bytes,
                    uint32_t target = 0);
  Status addSection(format::SectionKind kind, std::string_view text);

  /// Where the bytes are until finish(): for a signal handler that has to remove them.
  const std::string &temporaryPath() const { return temporary; }

  /// Writes table and header, flushes to disk and renames. Nothing can be added afterwards.
  Status finish();

private:
  ArtifactWriter(std::string path, std::string temporary, int file);
  Status flush();
  Status put(const void *data, uint64_t bytes, uint64_t offset);
  Status failure(const std::string &what) const;

  std::string path, temporary;
  int file;
  bool inSection = false, finished = false;
  uint64_t fileBytes = format::sectionAlignment; ///< what is on disk and in `buffer` together
  std::vector<std::byte> buffer;                 ///< not yet on disk
  format::SectionEntry open{};
  Xxh64 checksum;
  std::vector<format::SectionEntry> table;
};

} // namespace smelt
