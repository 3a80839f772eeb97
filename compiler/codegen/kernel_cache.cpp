// One file per object: a header with sums, the key and the object.
#include "compiler/codegen/kernel_cache.h"

#include "runtime/base/xxh64.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <link.h>
#include <span>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;

namespace smelt {

namespace {

struct FileHeader {
  char magic[8];
  uint64_t keyBytes, objectBytes;
  uint64_t checksum; ///< XXH64 of key and object
};
constexpr char fileMagic[8] = {'s', 'm', 'e', 'l', 't', 'k', 'c', '1'};
constexpr const char *suffix = ".kernel";

uint64_t checksumOf(std::string_view key, std::string_view object) {
  Xxh64 hash;
  hash.update(std::as_bytes(std::span(key)));
  hash.update(std::as_bytes(std::span(object)));
  return hash.digest();
}

std::string hexadecimal(std::span<const unsigned char> bytes) {
  std::string text;
  char digits[3];
  for (unsigned char byte : bytes) {
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

/// Appends the build id of one loaded file (ELF note NT_GNU_BUILD_ID, gABI "Note Section"), or its
/// path, size and time where it has none.
int appendBuildId(dl_phdr_info *info, size_t, void *text) {
  auto &out = *static_cast<std::string *>(text);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) &segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE)
      continue;
    const char *at = reinterpret_cast<const char *>(info->dlpi_addr + segment.p_vaddr);
    for (const char *end = at + segment.p_memsz; at + sizeof(ElfW(Nhdr)) <= end;) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const char *name = at + sizeof note;
      const char *bytes = name + (note.n_namesz + 3) / 4 * 4;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !std::memcmp(name, "GNU", 4)) {
        out += hexadecimal({reinterpret_cast<const unsigned char *>(bytes), note.n_descsz}) + " ";
        return 0;
      }
      at = bytes + (note.n_descsz + 3) / 4 * 4;
    }
  }
  std::error_code error;
  const fs::path path = info->dlpi_name[0] ? fs::path(info->dlpi_name) : "/proc/self/exe";
  const uintmax_t bytes = fs::file_size(path, error);
  if (!error) // the kernel's own library has no file, and no part in this
    out += path.string() + "," + std::to_string(bytes) + "," +
           std::to_string(fs::last_write_time(path, error).time_since_epoch().count()) + " ";
  return 0;
}

} // namespace

const std::string &generatorVersion() {
  static const std::string version = [] {
    std::string text;
    dl_iterate_phdr(appendBuildId, &text);
    return text;
  }();
  return version;
}

std::string KernelCache::pathOf(const std::string &key) const {
  char name[40];
  std::snprintf(name, sizeof name, "/%016llx",
                (unsigned long long)xxh64(std::as_bytes(std::span(key))));
  return folder + name + suffix;
}

std::optional<std::string> KernelCache::find(const std::string &key) {
  {
    std::lock_guard guard(lock);
    if (auto found = objects.find(key); found != objects.end())
      return found->second;
  }
  if (folder.empty())
    return std::nullopt;
  const std::string path = pathOf(key);
  std::ifstream file(path, std::ios::binary);
  FileHeader header;
  if (!file.read(reinterpret_cast<char *>(&header), sizeof header) ||
      std::memcmp(header.magic, fileMagic, sizeof fileMagic) != 0 ||
      header.keyBytes != key.size() || header.objectBytes > mostBytes)
    return std::nullopt;
  std::string foundKey(key.size(), 0), object(header.objectBytes, 0);
  if (!file.read(foundKey.data(), std::streamsize(foundKey.size())) ||
      !file.read(object.data(), std::streamsize(object.size())) || foundKey != key ||
      checksumOf(key, object) != header.checksum)
    return std::nullopt;
  std::error_code ignored; // a folder that may only be read serves as well
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
  std::lock_guard guard(lock);
  objects[key] = object;
  return object;
}

void KernelCache::keep(const std::string &key, const std::string &object) {
  {
    std::lock_guard guard(lock);
    objects[key] = object;
  }
  if (folder.empty())
    return;
  std::error_code error;
  fs::create_directories(folder, error);
  FileHeader header{{}, key.size(), object.size(), checksumOf(key, object)};
  std::memcpy(header.magic, fileMagic, sizeof fileMagic);
  const std::string path = pathOf(key);
  std::string temporary = path + ".XXXXXX";
  const int file = ::mkstemp(temporary.data());
  if (file < 0)
    return;
  std::string bytes(reinterpret_cast<const char *>(&header), sizeof header);
  bytes += key + object;
  const bool written = ::write(file, bytes.data(), bytes.size()) == ssize_t(bytes.size());
  const bool closed = ::close(file) == 0;
  if (!written || !closed || std::rename(temporary.c_str(), path.c_str()) != 0)
    std::remove(temporary.c_str());
}

void KernelCache::trim() {
  if (folder.empty())
    return;
  struct Entry {
    fs::file_time_type used;
    uint64_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  uint64_t total = 0;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    // Temporary files of writers that were killed count as well.
    if (at->path().filename().string().find(suffix) == std::string::npos)
      continue;
    std::error_code gone; // another process may trim too
    const uint64_t bytes = at->file_size(gone);
    const fs::file_time_type used = at->last_write_time(gone);
    if (gone)
      continue;
    entries.push_back({used, bytes, at->path()});
    total += bytes;
  }
  if (total <= mostBytes)
    return;
  std::sort(entries.begin(), entries.end(),
            [](const Entry &a, const Entry &b) { return a.used < b.used; });
  for (const Entry &entry : entries) {
    if (total <= mostBytes / 4 * 3)
      break;
    std::error_code gone;
    fs::remove(entry.path, gone);
    total -= entry.bytes;
  }
}

} // namespace smelt
