// Files of the work folder: state.json, segment-<n>.stats, boundary-<n>.f32.
#include "compiler/driver/work_folder.h"

#include "runtime/base/xxh64.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace smelt {

namespace {

constexpr const char *stateName = "state.json";
/// The beginning of the file `key`: the folder is ours, and what it holds may be deleted.
constexpr std::string_view keyHead = "smelt work folder\n";

} // namespace

std::string hexDigits(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
  return text;
}

Status writeWhole(const fs::path &path, const std::function<void(std::ofstream &)> &content) {
  fs::path partial = path;
  partial += ".partial";
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  content(out);
  out.close();
  std::error_code error;
  if (out)
    fs::rename(partial, path, error);
  if (!out || error) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    return invalidArgument("cannot write '" + path.string() +
                           "': " + (error ? error.message() : std::string(std::strerror(errno))));
  }
  return {};
}

std::string hashStatistics(const Statistics &statistics) {
  Xxh64 hash;
  for (const auto &[name, input] : statistics.inputs) {
    hash.update(std::as_bytes(std::span(name)));
    hash.update(std::as_bytes(std::span(input.sumSquares)));
    hash.update(std::as_bytes(std::span(input.sumAbsolute)));
    hash.update(std::as_bytes(std::span(input.maxAbsolute)));
  }
  return hexDigits(hash.digest());
}

Result<FolderLock> FolderLock::take(const fs::path &folder) {
  // Again where the one who had it has removed it meanwhile.
  while (true) {
    std::error_code error;
    fs::create_directories(folder, error);
    FolderLock lock(error ? -1 : ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (error || lock.handle < 0)
      return invalidArgument("cannot make the work folder '" + folder.string() +
                             "': " + (error ? error.message() : std::strerror(errno)));
    // Some file systems lack locks: then nobody is kept out.
    if (::flock(lock.handle, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      return invalidArgument("another smelt works in '" + folder.string() +
                             "': wait until it is done, or name another folder with --work");
    struct stat ours {
    }, there{};
    if (::fstat(lock.handle, &ours) == 0 && ::stat(folder.c_str(), &there) == 0 &&
        ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
      return lock;
  }
}

FolderLock::~FolderLock() {
  if (handle >= 0)
    ::close(handle);
}

Result<WorkFolder> WorkFolder::open(const fs::path &path, const std::string &key) {
  SMELT_ASSIGN(FolderLock lock, FolderLock::take(path));
  WorkFolder work(path, std::move(lock));
  std::error_code error;
  std::ifstream found(path / "key", std::ios::binary);
  std::string old((std::istreambuf_iterator<char>(found)), std::istreambuf_iterator<char>());
  if (old == std::string(keyHead) + key && work.readState().ok())
    return work;
  if (!old.starts_with(keyHead) && !fs::is_empty(path, error))
    return invalidArgument("'" + path.string() +
                           "' is no work folder of this smelt, and what lies in it would be lost: "
                           "name a folder of its own, or delete this one");
  // Another model, other data or another way: nothing of it can be used. The key goes last, so
  // that a folder that is half empty is still ours.
  work.segments.clear();
  for (const fs::directory_entry &entry : fs::directory_iterator(path, error))
    if (entry.path().filename() != "key")
      fs::remove_all(entry.path(), error);
  SMELT_TRY(writeWhole(path / "key", [&](std::ofstream &out) { out << keyHead << key; }));
  return work;
}

fs::path WorkFolder::segmentPath(int64_t index) const {
  return folder / ("segment-" + std::to_string(index) + ".stats");
}

fs::path WorkFolder::boundaryPath(int64_t segments) const {
  return folder / ("boundary-" + std::to_string(segments) + ".f32");
}

Status WorkFolder::readState() {
  std::ifstream in(folder / stateName, std::ios::binary);
  Json state = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!state.is_array())
    return corrupt("there is no state");
  for (const Json &entry : state) {
    if (!entry.is_object() || !entry.contains("linears") || !entry["linears"].is_array() ||
        !entry.contains("hash") || !entry["hash"].is_string())
      return corrupt("the state is damaged");
    Segment segment;
    segment.hash = entry["hash"].get<std::string>();
    for (const Json &name : entry["linears"]) {
      if (!name.is_string())
        return corrupt("the state is damaged");
      segment.linears.push_back(name.get<std::string>());
    }
    std::error_code error;
    if (!fs::exists(segmentPath(int64_t(segments.size())), error))
      return corrupt("the statistics of a segment are gone");
    segments.push_back(std::move(segment));
  }
  return {};
}

Status WorkFolder::writeState() const {
  Json state = Json::array();
  for (const Segment &segment : segments)
    state.push_back({{"linears", segment.linears}, {"hash", segment.hash}});
  return writeWhole(folder / stateName, [&](std::ofstream &out) {
    out << state.dump(-1, ' ', false, Json::error_handler_t::replace);
  });
}

Result<int64_t> WorkFolder::resume(int64_t total, std::vector<Matrix> &boundary) {
  resumedSegments = int64_t(segments.size());
  if (resumedSegments == 0)
    return int64_t(0);
  if (resumedSegments > total)
    return internalError("the work folder has more segments than the model");
  if (resumedSegments == total)
    return total;
  // Boundary file: u64 count of matrices, then of each: i64 rows, i64 cols, floats.
  std::ifstream in(boundaryPath(resumedSegments), std::ios::binary);
  uint64_t count = 0;
  in.read(reinterpret_cast<char *>(&count), sizeof count);
  bool fits = in && count == boundary.size();
  for (size_t i = 0; fits && i < count; ++i) {
    int64_t shape[2] = {};
    in.read(reinterpret_cast<char *>(shape), sizeof shape);
    fits = in && shape[0] > 0 && shape[1] > 0 && shape[0] < (1 << 24) && shape[1] < (1 << 24);
    if (!fits)
      break;
    boundary[i] = {shape[0], shape[1],
                   std::make_unique_for_overwrite<float[]>(size_t(shape[0] * shape[1]))};
    in.read(reinterpret_cast<char *>(boundary[i].data.get()),
            std::streamsize(shape[0] * shape[1] * 4));
    fits = bool(in);
  }
  if (fits)
    return resumedSegments;
  // Begin anew rather than fail: the work folder is only a cache.
  segments.clear();
  resumedSegments = 0;
  for (Matrix &matrix : boundary)
    matrix = {};
  return int64_t(0);
}

Status WorkFolder::finished(int64_t index, Statistics found, std::span<const Matrix> boundary) {
  Segment segment;
  for (const auto &[name, input] : found.inputs)
    segment.linears.push_back(name);
  segment.hash = hashStatistics(found);
  SMELT_TRY(writeStatistics(found, segmentPath(index)));
  SMELT_TRY(writeWhole(boundaryPath(index + 1), [&](std::ofstream &out) {
    uint64_t count = boundary.size();
    out.write(reinterpret_cast<const char *>(&count), sizeof count);
    for (const Matrix &matrix : boundary) {
      const int64_t shape[2] = {matrix.rows, matrix.cols};
      out.write(reinterpret_cast<const char *>(shape), sizeof shape);
      out.write(reinterpret_cast<const char *>(matrix.data.get()),
                std::streamsize(matrix.rows * matrix.cols * 4));
    }
  }));
  segments.push_back(std::move(segment));
  SMELT_TRY(writeState());
  std::error_code ignored;
  fs::remove(boundaryPath(index), ignored);
  return {};
}

StatisticsLookup WorkFolder::lookup() {
  std::map<std::string, int64_t> places;
  for (size_t i = 0; i < segments.size(); ++i)
    for (const std::string &name : segments[i].linears)
      places[name] = int64_t(i);
  struct Loaded {
    int64_t index = -1;
    std::shared_ptr<const Statistics> statistics;
  };
  return [this, places = std::move(places), loaded = std::make_shared<Loaded>()](
             const std::string &linear) -> Result<std::shared_ptr<const InputStatistics>> {
    auto place = places.find(linear);
    if (place == places.end())
      return std::shared_ptr<const InputStatistics>();
    if (loaded->index != place->second) {
      loaded->statistics.reset(); // before the next one is read: one at a time in memory
      Result<Statistics> found = readStatistics(segmentPath(place->second));
      if (!found)
        return Status(found.status())
            .withContext("the work folder '" + folder.string() + "' is damaged, delete it");
      loaded->statistics = std::make_shared<const Statistics>(*std::move(found));
      loaded->index = place->second;
    }
    auto input = loaded->statistics->inputs.find(linear);
    if (input == loaded->statistics->inputs.end())
      return std::shared_ptr<const InputStatistics>();
    return std::shared_ptr<const InputStatistics>(loaded->statistics, &input->second);
  };
}

std::string WorkFolder::statisticsHash() const {
  Xxh64 hash;
  for (const Segment &segment : segments)
    hash.update(std::as_bytes(std::span(segment.hash)));
  return hexDigits(hash.digest());
}

Status WorkFolder::save(const std::string &name, const std::string &text) const {
  return writeWhole(folder / name, [&](std::ofstream &out) { out << text; });
}

std::optional<std::string> WorkFolder::load(const std::string &name) const {
  std::ifstream in(folder / name, std::ios::binary);
  if (!in)
    return std::nullopt;
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

fs::path WorkFolder::outputsPath(const std::string &key) const {
  Xxh64 hash;
  hash.update(std::as_bytes(std::span(key)));
  return folder / (key.empty() ? "outputs" : "outputs-" + hexDigits(hash.digest()));
}

void WorkFolder::remove() {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

} // namespace smelt
