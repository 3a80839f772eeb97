// The work folder of a compilation: what calibration has found so far, on disk, so that memory
// stays bounded and a stopped run goes on where it was.
#pragma once

#include "calibration/collect.h"
#include "calibration/statistics.h"
#include "runtime/base/status.h"

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace smelt {

/// Keeps other processes from working in a folder until it ends, however it does.
class FolderLock {
public:
  /// Makes the folder where it is missing. InvalidArgument: another has it.
  static Result<FolderLock> take(const std::filesystem::path &folder);
  FolderLock(FolderLock &&other) noexcept : handle(std::exchange(other.handle, -1)) {}
  FolderLock &operator=(FolderLock &&other) noexcept {
    std::swap(handle, other.handle);
    return *this;
  }
  ~FolderLock();

private:
  explicit FolderLock(int handle) : handle(handle) {}
  int handle; ///< of the folder; -1: moved away
};

/// `<output>.work`: a key, the statistics of every finished segment of the model, and the values at
/// the last boundary. Every file appears under its name only when it is whole.
class WorkFolder : public SegmentSink {
public:
  /// `key` says all that the contents depend on; what an earlier run left is kept if it has the
  /// same key and is removed if not. A folder of other things, or in use, is refused.
  static Result<WorkFolder> open(const std::filesystem::path &folder, const std::string &key);

  Result<int64_t> resume(int64_t total, std::vector<Matrix> &boundary) override;
  Status finished(int64_t index, Statistics found, std::span<const Matrix> boundary) override;

  /// Segments that an earlier run had finished when resume() was called.
  int64_t resumed() const { return resumedSegments; }
  /// The statistics by linear; the segment that was used last is in memory. `*this` outlives it.
  StatisticsLookup lookup();
  /// XXH64 over all statistics, as 16 hexadecimal digits.
  std::string statisticsHash() const;
  /// Keeps a text under a name, and gives it back; nothing if there is none.
  [[nodiscard]] Status save(const std::string &name, const std::string &text) const;
  std::optional<std::string> load(const std::string &name) const;
  /// Where an artifact may be tried before it becomes the output.
  std::string trialPath() const { return (folder / "trial.smelt").string(); }
  /// Where the best of several trials waits.
  std::string bestTrialPath() const { return (folder / "best.smelt").string(); }
  /// Where packed matrices are kept.
  std::filesystem::path packedPath() const { return folder / "packed"; }
  /// Where second moments of output gradients are kept; `key` says what they depend on beside the
  /// folder's own key, and may be empty.
  std::filesystem::path outputsPath(const std::string &key) const;
  /// Deletes the folder: its contents are not needed any more.
  void remove();

private:
  struct Segment {
    std::vector<std::string> linears;
    std::string hash; ///< of its statistics
  };

  WorkFolder(std::filesystem::path folder, FolderLock lock)
      : folder(std::move(folder)), lock(std::move(lock)) {}
  std::filesystem::path segmentPath(int64_t index) const;
  std::filesystem::path boundaryPath(int64_t segments) const;
  Status readState();
  Status writeState() const;

  std::filesystem::path folder;
  FolderLock lock;
  std::vector<Segment> segments;
  int64_t resumedSegments = 0;
};

/// Writes a file beside its place and renames it: it appears only when it is whole.
[[nodiscard]] Status writeWhole(const std::filesystem::path &path,
                                const std::function<void(std::ofstream &)> &content);
/// As 16 hexadecimal digits.
std::string hexDigits(uint64_t value);
/// XXH64 over names and sums, as 16 hexadecimal digits.
std::string hashStatistics(const Statistics &statistics);

} // namespace smelt
