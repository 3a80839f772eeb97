// Compiled kernels by content: what was compiled once, in this process or an earlier one, is not
// compiled again.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace smelt {

/// Objects by key. Safe from several threads and several processes on one folder: files appear
/// whole (atomic rename), and one that is damaged or of another key counts as absent. A folder that
/// cannot be read or written is the same as none.
class KernelCache {
public:
  static constexpr uint64_t defaultBytes = uint64_t(256) << 20;

  /// `folder` empty: in memory only. `mostBytes`: of the files, kept by trim().
  explicit KernelCache(std::string folder = {}, uint64_t mostBytes = defaultBytes)
      : folder(std::move(folder)), mostBytes(mostBytes) {}

  /// The object kept under `key`; its file then counts as just used.
  std::optional<std::string> find(const std::string &key);
  void keep(const std::string &key, const std::string &object);
  /// Removes the files that were not used for longest until three quarters of the bound are left,
  /// if there are more than the bound.
  void trim();

private:
  std::string pathOf(const std::string &key) const;

  std::string folder;
  uint64_t mostBytes;
  std::mutex lock; ///< of `objects`
  std::map<std::string, std::string> objects;
};

/// What beside the kernel and its target decides the object: this program and the libraries it has
/// loaded (MLIR, LLVM), by their build ids.
const std::string &generatorVersion();

} // namespace smelt
