// Layout, checks and transfer of cached prompts.
#include "runtime/model/prefix_cache.h"

#include "runtime/base/xxh64.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smelt {

namespace {

constexpr char prefixMagic[8] = {'S', 'M', 'E', 'L', 'T', 'K', 'V', '\n'};

/// At offset 0; int32 tokens[positions] and the pieces of the cache (Backend::visit) follow.
struct PrefixHeader {
  char magic[8];
  uint32_t version;     ///< of this layout
  uint32_t cacheFormat; ///< row of caches.def
  uint64_t artifact;    ///< Artifact::identity()
  uint64_t positions;
  uint64_t bodyBytes;      ///< all that follows the header
  uint64_t bodyChecksum;   ///< XXH64 (seed 0) of it
  uint64_t headerChecksum; ///< XXH64 (seed 0) of the header before this field
};
static_assert(sizeof(PrefixHeader) == 56);
constexpr uint32_t prefixVersion = 1;

uint64_t checksumOf(const PrefixHeader &header) {
  return xxh64(std::as_bytes(std::span(&header, 1)).first(offsetof(PrefixHeader, headerChecksum)));
}

/// A file of the operating system, closed at the end.
class File {
public:
  File(const std::string &path, int flags)
      : handle(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  ~File() {
    if (handle >= 0)
      ::close(handle);
  }
  /// False: the reason is in errno, or 0 at the end of the file.
  bool write(std::span<const std::byte> bytes) {
    return transfer(bytes,
                    [&](const std::byte *at, size_t left) { return ::write(handle, at, left); });
  }
  bool read(std::span<std::byte> bytes) {
    return transfer(bytes, [&](std::byte *at, size_t left) { return ::read(handle, at, left); });
  }
  const int handle;

private:
  template <typename Byte, typename Call> static bool transfer(std::span<Byte> bytes, Call &&call) {
    while (!bytes.empty()) {
      errno = 0;
      ssize_t done = call(bytes.data(), bytes.size());
      if (done <= 0 && errno != EINTR)
        return false;
      bytes = bytes.subspan(size_t(std::max<ssize_t>(done, 0)));
    }
    return true;
  }
};

Status failure(const std::string &what, const std::string &path) {
  int error = errno;
  std::string text = "cannot " + what + " the cached prompt " + path + ": " + std::strerror(error);
  if (error == ENOENT)
    return notFound(text);
  return error == ENOSPC || error == EDQUOT || error == EFBIG ? exhausted(text)
                                                              : invalidArgument(text);
}

/// The header that the slot's first `length` positions get, without checksums.
Result<PrefixHeader> describe(const Session &session, int32_t slot, uint32_t length) {
  PrefixHeader header{};
  std::memcpy(header.magic, prefixMagic, sizeof prefixMagic);
  header.version = prefixVersion;
  header.cacheFormat = session.model().config().cacheFormat;
  header.artifact = session.model().artifact().identity();
  header.positions = length;
  header.bodyBytes = length * sizeof(int32_t);
  SMELT_TRY(session.visit(slot, length, CacheAccess::Measure, [&](std::span<std::byte> piece) {
    header.bodyBytes += piece.size();
    return true;
  }));
  return header;
}

Status checkHeader(const PrefixHeader &header, const Session &session, const std::string &path) {
  if (std::memcmp(header.magic, prefixMagic, sizeof prefixMagic) != 0)
    return corrupt(path + " is not a cached prompt; name another file");
  if (header.version != prefixVersion)
    return unsupported("the cached prompt " + path + " has version " +
                       std::to_string(header.version) + ", expected " +
                       std::to_string(prefixVersion) + "; delete it to have it made again");
  if (header.headerChecksum != checksumOf(header))
    return corrupt("the cached prompt " + path + " is damaged; delete it to have it made again");
  if (header.artifact != session.model().artifact().identity() ||
      header.cacheFormat != session.model().config().cacheFormat)
    return invalidArgument("the cached prompt " + path +
                           " comes from another artifact; name another file, or delete it");
  if (header.positions > session.context())
    return exhausted("the cached prompt " + path + " has " + std::to_string(header.positions) +
                     " positions, the context only " + std::to_string(session.context()) +
                     "; choose a longer context");
  return {};
}

} // namespace

Status savePrefix(const Session &session, int32_t slot, uint32_t length, const std::string &path) {
  if (slot < 0 || uint32_t(slot) >= session.slots() || length > session.cached(slot).size())
    return invalidArgument("slot " + std::to_string(slot) + " does not hold " +
                           std::to_string(length) + " positions");
  SMELT_ASSIGN(PrefixHeader header, describe(session, slot, length));
  const std::string temporary = path + ".tmp-" + std::to_string(::getpid());
  File file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  if (file.handle < 0)
    return failure("write", temporary);

  Xxh64 hash;
  auto put = [&](std::span<const std::byte> bytes) {
    hash.update(bytes);
    return file.write(bytes);
  };
  bool written = file.write(std::as_bytes(std::span(&header, 1))) &&
                 put(std::as_bytes(session.cached(slot).first(length)));
  SMELT_TRY(session.visit(slot, length, CacheAccess::Read, [&](std::span<std::byte> piece) {
    return written = written && put(piece);
  }));
  header.bodyChecksum = hash.digest();
  header.headerChecksum = checksumOf(header);
  written = written && ::lseek(file.handle, 0, SEEK_SET) == 0 &&
            file.write(std::as_bytes(std::span(&header, 1))) && ::fsync(file.handle) == 0 &&
            ::rename(temporary.c_str(), path.c_str()) == 0;
  if (written)
    return {};
  Status status = failure("write", path);
  ::unlink(temporary.c_str());
  return status;
}

Result<uint32_t> loadPrefix(Session &session, int32_t slot, const std::string &path) {
  File file(path, O_RDONLY | O_NONBLOCK); // does not wait for somebody to write into a pipe
  struct stat found = {};
  if (file.handle < 0 || ::fstat(file.handle, &found) != 0)
    return failure("open", path);
  PrefixHeader header{};
  if (!S_ISREG(found.st_mode) || !file.read(std::as_writable_bytes(std::span(&header, 1))))
    return corrupt(path + " is not a cached prompt; name another file");
  SMELT_TRY(checkHeader(header, session, path));
  const auto length = uint32_t(header.positions);
  SMELT_ASSIGN(PrefixHeader expected, describe(session, slot, length));
  auto damaged = [&] {
    return corrupt("the cached prompt " + path + " is damaged; delete it to have it made again");
  };
  if (header.bodyBytes != expected.bodyBytes ||
      uint64_t(found.st_size) != sizeof header + header.bodyBytes)
    return damaged();

  std::vector<int32_t> tokens(length);
  Xxh64 hash;
  auto take = [&](std::span<std::byte> bytes) {
    bool whole = file.read(bytes);
    hash.update(bytes);
    return whole;
  };
  SMELT_TRY(session.truncate(slot, 0));
  bool whole = take(std::as_writable_bytes(std::span(tokens)));
  SMELT_TRY(session.visit(slot, length, CacheAccess::Write, [&](std::span<std::byte> piece) {
    return whole = whole && take(piece);
  }));
  Status adopted =
      whole && hash.digest() == header.bodyChecksum ? session.adopt(slot, tokens) : damaged();
  if (!adopted.ok()) {
    // Kernels read a little beyond what a slot holds, and must find numbers there.
    SMELT_TRY(session.visit(slot, length, CacheAccess::Write, [](std::span<std::byte> piece) {
      std::memset(piece.data(), 0, piece.size());
      return true;
    }));
    return adopted;
  }
  return length;
}

} // namespace smelt
