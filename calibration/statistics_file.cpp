// The statistics file: writing whole files only, refusing everything that was not written so.
//
// Little endian. "SMELTSTA", u32 version 2, u32 zero, then the body, then u64 Checksum of
// everything before it. Body:
//   u32 length + bytes of the model hash
//   u32 number of data sets; each: u32 length + bytes of its hash, u32 shards, u32 number of shards
//     present, u32 index of each, rising
//   u32 number of second moment blocks; each: u64 cols, sums [cols * (cols + 1) / 2]
//   u32 number of linears; each: u32 length + bytes of its name, u64 tokens, u64 cols, sums of
//     squares [cols], sums of absolute values [cols], f32 maxAbsolute[cols], u32 block of its
//     second moments (0xffffffff: none)
// where sums [n] are f64[n], u64 number of residues, u64 index of each, rising, f64 value of each.
// A reader refuses versions it does not know.
#include "calibration/statistics.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smelt {

static_assert(std::endian::native == std::endian::little,
              "the file is written as it lies in memory");

namespace {

constexpr char magic[8] = {'S', 'M', 'E', 'L', 'T', 'S', 'T', 'A'};
constexpr uint32_t version = 2;
constexpr uint32_t noBlock = 0xffffffff;

/// FNV-1a over 8-byte words (the tail by bytes), which is as sensitive to single bits and eight
/// times faster than by bytes.
class Checksum {
public:
  void add(const void *data, size_t size) {
    const auto *bytes = static_cast<const unsigned char *>(data);
    while (size > 0) {
      if (pendingSize == 0 && size >= 8) {
        uint64_t word;
        std::memcpy(&word, bytes, 8);
        mix(word);
        bytes += 8;
        size -= 8;
        continue;
      }
      pending |= uint64_t(*bytes++) << (8 * pendingSize++);
      --size;
      if (pendingSize == 8)
        flush();
    }
  }
  uint64_t finish() {
    if (pendingSize != 0)
      flush();
    return hash;
  }

private:
  void mix(uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 32;
  }
  void flush() {
    mix(pending);
    pending = 0;
    pendingSize = 0;
  }
  uint64_t hash = 0xcbf29ce484222325, pending = 0;
  int pendingSize = 0;
};

class Writer {
public:
  explicit Writer(std::ofstream &out) : out(out) {}

  void bytes(const void *data, size_t size) {
    checksum.add(data, size);
    out.write(static_cast<const char *>(data), std::streamsize(size));
  }
  template <typename T> void number(T value) { bytes(&value, sizeof value); }
  template <typename T> void vector(const std::vector<T> &values) {
    bytes(values.data(), values.size() * sizeof(T));
  }
  void sums(const std::vector<double> &values, const Residues &residues) {
    vector(values);
    number(uint64_t(residues.size()));
    for (auto [index, value] : residues)
      number(index);
    for (auto [index, value] : residues)
      number(value);
  }
  void text(const std::string &value) {
    number(uint32_t(value.size()));
    bytes(value.data(), value.size());
  }
  void finish() {
    uint64_t hash = checksum.finish();
    out.write(reinterpret_cast<const char *>(&hash), sizeof hash);
  }

private:
  std::ofstream &out;
  Checksum checksum;
};

/// Reads within a mapped file; the first thing that does not fit makes everything after it fail.
class Reader {
public:
  Reader(const std::byte *data, size_t size) : at(data), left(size) {}

  bool bytes(void *into, size_t size) {
    if (failed || size > left)
      return !(failed = true);
    std::memcpy(into, at, size);
    at += size;
    left -= size;
    return true;
  }
  template <typename T> T number() {
    T value{};
    bytes(&value, sizeof value);
    return value;
  }
  template <typename T> std::vector<T> vector(uint64_t count) {
    if (failed || count > left / sizeof(T)) {
      failed = true;
      return {};
    }
    std::vector<T> values(count);
    bytes(values.data(), count * sizeof(T));
    return values;
  }
  std::vector<double> sums(uint64_t count, Residues &residues) {
    std::vector<double> values = vector<double>(count);
    const uint64_t lost = number<uint64_t>();
    std::vector<uint64_t> indices = vector<uint64_t>(lost);
    std::vector<double> lostValues = vector<double>(lost);
    for (size_t i = 0; i < lostValues.size(); ++i) {
      // Rising, of this vector, and such as rounding leaves behind.
      const bool sound = indices[i] < count && (i == 0 || indices[i] > indices[i - 1]) &&
                         std::isfinite(lostValues[i]) && lostValues[i] != 0;
      failed |= !sound;
      if (sound)
        residues.emplace_hint(residues.end(), indices[i], lostValues[i]);
    }
    return values;
  }
  std::string text() {
    std::vector<char> characters = vector<char>(number<uint32_t>());
    return {characters.begin(), characters.end()};
  }
  bool ok() const { return !failed; }
  size_t remaining() const { return left; }

private:
  const std::byte *at;
  size_t left;
  bool failed = false;
};

/// A whole file, mapped for reading.
class Mapping {
public:
  static Result<std::unique_ptr<Mapping>> open(const std::filesystem::path &path) {
    // Without waiting for somebody to write into a pipe.
    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
      return notFound("cannot open the statistics file " + path.string() + ": " +
                      std::strerror(errno));
    struct stat info;
    bool known = fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
    void *data = MAP_FAILED;
    if (known && info.st_size > 0)
      data = mmap(nullptr, size_t(info.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
    ::close(descriptor);
    if (!known || (info.st_size > 0 && data == MAP_FAILED))
      return corrupt("the statistics file " + path.string() + " is no regular file");
    return std::unique_ptr<Mapping>(new Mapping(data, info.st_size > 0 ? size_t(info.st_size) : 0));
  }
  ~Mapping() {
    if (size)
      munmap(data, size);
  }
  const std::byte *bytes() const { return static_cast<const std::byte *>(data); }
  const size_t size;

private:
  Mapping(void *data, size_t size) : size(size), data(data) {}
  void *data;
};

struct Moments {
  std::shared_ptr<const std::vector<double>> sums;
  std::shared_ptr<const Residues> residues;
};

Status readCoverage(Reader &reader, Statistics &statistics) {
  const uint32_t count = reader.number<uint32_t>();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    std::string hash = reader.text();
    ShardCoverage shards;
    shards.count = reader.number<uint32_t>();
    for (uint32_t index : reader.vector<uint32_t>(reader.number<uint32_t>()))
      if (index >= shards.count || !shards.present.insert(index).second)
        return corrupt("shard " + std::to_string(index) + " of " + std::to_string(shards.count));
    if (!reader.ok() || shards.present.empty())
      return corrupt("it ends within its list of data");
    statistics.data.emplace(std::move(hash), std::move(shards));
  }
  return {};
}

Result<std::vector<Moments>> readBlocks(Reader &reader) {
  std::vector<Moments> blocks;
  const uint32_t count = reader.number<uint32_t>();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    const uint64_t cols = reader.number<uint64_t>();
    if (cols == 0 || cols > (1u << 20))
      return corrupt("second moments of " + std::to_string(cols) + " inputs");
    auto residues = std::make_shared<Residues>();
    auto sums = std::make_shared<const std::vector<double>>(
        reader.sums(uint64_t(triangleSize(int64_t(cols))), *residues));
    blocks.push_back({std::move(sums), std::move(residues)});
  }
  return blocks;
}

Status readInput(Reader &reader, const std::vector<Moments> &blocks, Statistics &statistics) {
  std::string name = reader.text();
  InputStatistics input;
  input.tokens = reader.number<uint64_t>();
  const uint64_t cols = reader.number<uint64_t>();
  input.sumSquares = reader.sums(cols, input.squaresResidues);
  input.sumAbsolute = reader.sums(cols, input.absoluteResidues);
  input.maxAbsolute = reader.vector<float>(cols);
  const uint32_t block = reader.number<uint32_t>();
  if (!reader.ok())
    return corrupt("it ends within linear '" + name + "'");
  if (cols == 0 || input.tokens == 0)
    return corrupt("linear '" + name + "' has no inputs or saw no tokens");
  for (uint64_t k = 0; k < cols; ++k)
    if (!(input.sumSquares[k] >= 0) || !std::isfinite(input.sumSquares[k]) ||
        !(input.sumAbsolute[k] >= 0) || !std::isfinite(input.sumAbsolute[k]))
      return corrupt("linear '" + name + "' has a sum that is no finite positive number");
  if (block != noBlock) {
    if (block >= blocks.size() || blocks[block].sums->size() != size_t(triangleSize(int64_t(cols))))
      return corrupt("linear '" + name + "' names second moments that do not fit it");
    input.secondMoments = blocks[block].sums;
    input.momentResidues = blocks[block].residues;
  }
  if (!statistics.inputs.emplace(name, std::move(input)).second)
    return corrupt("linear '" + name + "' is there twice");
  return {};
}

Result<Statistics> readBody(Reader &reader) {
  Statistics statistics;
  statistics.modelHash = reader.text();
  SMELT_TRY(readCoverage(reader, statistics));
  SMELT_ASSIGN(std::vector<Moments> blocks, readBlocks(reader));
  const uint32_t count = reader.number<uint32_t>();
  if (!reader.ok())
    return corrupt("it ends before its list of linears");
  for (uint32_t i = 0; i < count; ++i)
    SMELT_TRY(readInput(reader, blocks, statistics));
  if (reader.remaining() != 0)
    return corrupt(std::to_string(reader.remaining()) + " bytes follow its last linear");
  return statistics;
}

} // namespace

Status writeStatistics(const Statistics &statistics, const std::filesystem::path &path) {
  std::filesystem::path temporary = path;
  temporary += ".partial";
  auto fail = [&](const std::string &what) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return invalidArgument("cannot " + what + " the statistics file " + path.string() + ": " +
                           std::strerror(errno));
  };
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  if (!out)
    return fail("create");
  Writer writer(out);
  writer.bytes(magic, sizeof magic);
  writer.number(version);
  writer.number(uint32_t(0));
  writer.text(statistics.modelHash);
  writer.number(uint32_t(statistics.data.size()));
  for (const auto &[hash, shards] : statistics.data) {
    writer.text(hash);
    writer.number(shards.count);
    writer.number(uint32_t(shards.present.size()));
    for (uint32_t index : shards.present)
      writer.number(index);
  }
  std::map<const void *, uint32_t> blockIndex;
  std::vector<const InputStatistics *> blockOwners;
  for (const auto &[name, input] : statistics.inputs)
    if (input.secondMoments &&
        blockIndex.emplace(input.secondMoments.get(), uint32_t(blockOwners.size())).second)
      blockOwners.push_back(&input);
  writer.number(uint32_t(blockOwners.size()));
  for (const InputStatistics *owner : blockOwners) {
    writer.number(uint64_t(owner->cols()));
    writer.sums(*owner->secondMoments, *owner->momentResidues);
  }
  writer.number(uint32_t(statistics.inputs.size()));
  for (const auto &[name, input] : statistics.inputs) {
    writer.text(name);
    writer.number(input.tokens);
    writer.number(uint64_t(input.cols()));
    writer.sums(input.sumSquares, input.squaresResidues);
    writer.sums(input.sumAbsolute, input.absoluteResidues);
    writer.vector(input.maxAbsolute);
    writer.number(input.secondMoments ? blockIndex.at(input.secondMoments.get()) : noBlock);
  }
  writer.finish();
  out.close();
  if (!out)
    return fail("write");
  std::error_code failure;
  std::filesystem::rename(temporary, path, failure);
  if (failure) {
    errno = failure.value();
    return fail("rename to");
  }
  return {};
}

Result<Statistics> readStatistics(const std::filesystem::path &path) {
  SMELT_ASSIGN(std::unique_ptr<Mapping> file, Mapping::open(path));
  const std::string where = "the statistics file " + path.string();
  constexpr size_t headerSize = sizeof magic + 8, hashSize = 8;
  if (file->size < headerSize + hashSize || std::memcmp(file->bytes(), magic, sizeof magic) != 0)
    return corrupt(where + " is no statistics file of smelt");
  Reader header(file->bytes() + sizeof magic, 8);
  if (uint32_t found = header.number<uint32_t>(); found != version)
    return unsupported(where + " has version " + std::to_string(found) + ", this smelt reads " +
                       std::to_string(version));
  Checksum checksum;
  checksum.add(file->bytes(), file->size - hashSize);
  Reader tail(file->bytes() + file->size - hashSize, hashSize);
  if (tail.number<uint64_t>() != checksum.finish())
    return corrupt(where + " is damaged: its checksum does not match, calibrate again");
  Reader body(file->bytes() + headerSize, file->size - headerSize - hashSize);
  Result<Statistics> statistics = readBody(body);
  if (!statistics)
    return std::move(statistics).status().withContext(where);
  return statistics;
}

} // namespace smelt
