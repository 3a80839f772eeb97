// Mapping of model files, and the checks that keep a tensor inside its file and a file inside the
// model's folder.
#include "compiler/weights/weight_store.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace smelt {

int64_t bitsOf(StoredType type) {
  switch (type) {
  case StoredType::F64:
  case StoredType::I64:
  case StoredType::U64:
    return 64;
  case StoredType::F32:
  case StoredType::I32:
  case StoredType::U32:
    return 32;
  case StoredType::F16:
  case StoredType::BF16:
  case StoredType::I16:
  case StoredType::U16:
    return 16;
  case StoredType::I8:
  case StoredType::U8:
  case StoredType::Bool:
    return 8;
  case StoredType::I4:
  case StoredType::U4:
    return 4;
  case StoredType::Given:
    return 32; // of the float matrix that it stands for
  }
  return 8;
}

const char *nameOf(StoredType type) {
  static constexpr const char *names[] = {"f32",  "f16", "bf16", "f64",      "i64", "i32",
                                          "i16",  "i8",  "u64",  "u32",      "u16", "u8",
                                          "bool", "i4",  "u4",   "quantized"};
  return names[size_t(type)];
}

Result<std::unique_ptr<MappedFile>> MappedFile::open(const fs::path &path) {
  // Without waiting for somebody to write into a pipe.
  int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (handle < 0)
    return notFound("cannot open " + path.string() + ": " + std::strerror(errno));
  struct stat info{};
  if (::fstat(handle, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(handle);
    return invalidArgument(path.string() + " is not a regular file");
  }
  size_t size = size_t(info.st_size);
  if (size == 0) {
    ::close(handle);
    return corrupt(path.string() + " is empty");
  }
  void *data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, handle, 0);
  int why = errno;
  ::close(handle);
  if (data == MAP_FAILED)
    return exhausted("cannot map " + path.string() + ": " + std::strerror(why));
  return std::unique_ptr<MappedFile>(new MappedFile(static_cast<const std::byte *>(data), size));
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte *>(data), size); }

Result<std::unique_ptr<WeightStore>> WeightStore::open(const std::string &modelPath) {
  auto store = std::make_unique<WeightStore>();
  SMELT_ASSIGN(std::unique_ptr<MappedFile> map, MappedFile::open(modelPath));
  std::error_code error;
  fs::path absolute = fs::absolute(modelPath, error);
  if (!error)
    store->folder = fs::canonical(absolute.parent_path(), error);
  if (error)
    return notFound("cannot resolve the folder of " + modelPath + ": " + error.message());
  store->files.push_back({absolute, std::move(map)});
  return store;
}

/// True if `path` (canonical) lies inside `folder` (canonical).
static bool isInside(const fs::path &path, const fs::path &folder) {
  auto at = path.begin();
  for (const fs::path &part : folder) {
    if (at == path.end() || *at != part)
      return false;
    ++at;
  }
  return at != path.end();
}

Result<int32_t> WeightStore::fileAt(const std::string &location) {
  fs::path relative(location);
  if (location.empty() || location.find('\0') != std::string::npos)
    return corrupt("external data has an empty or malformed location");
  if (relative.is_absolute())
    return invalidArgument("external data location \"" + location +
                           "\" is absolute; it must be relative to the model's folder");
  for (const fs::path &part : relative)
    if (part == "..")
      return invalidArgument(
          "external data location \"" + location +
          "\" leaves the model's folder by \"..\"; keep data files beside the model");
  std::error_code error;
  fs::path full = fs::canonical(folder / relative, error);
  if (error)
    return notFound("external data file \"" + location + "\" not found in " + folder.string() +
                    "; copy it beside the model");
  if (!isInside(full, folder))
    return invalidArgument("external data location \"" + location + "\" is a link to " +
                           full.string() + ", outside the model's folder " + folder.string());
  for (size_t i = 0; i < files.size(); ++i)
    if (files[i].path == full)
      return int32_t(i);
  SMELT_ASSIGN(std::unique_ptr<MappedFile> map, MappedFile::open(full));
  files.push_back({full, std::move(map)});
  return int32_t(files.size() - 1);
}

static std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// Bytes that a shape needs, or nothing if a dimension is negative or the product overflows.
static std::optional<uint64_t> bytesFor(const std::vector<int64_t> &shape, StoredType type) {
  uint64_t bits = uint64_t(bitsOf(type));
  for (int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(bits, uint64_t(dim), &bits))
      return std::nullopt;
  return bits / 8 + (bits % 8 != 0);
}

Result<int64_t> WeightStore::add(WeightRow row) {
  std::optional<uint64_t> needed = bytesFor(row.shape, row.type);
  if (!needed)
    return corrupt("tensor \"" + row.name + "\" has the impossible shape " + shapeText(row.shape));
  if (row.bytes == 0)
    row.bytes = *needed;
  if (row.bytes != *needed)
    return corrupt("tensor \"" + row.name + "\" " + shapeText(row.shape) + " of " +
                   nameOf(row.type) + " needs " + std::to_string(*needed) + " bytes, found " +
                   std::to_string(row.bytes));
  if (row.file >= 0) {
    uint64_t size = files[size_t(row.file)].map->bytes().size();
    if (row.offset > size || row.bytes > size - row.offset)
      return corrupt("tensor \"" + row.name + "\" ends at byte " +
                     std::to_string(row.offset + row.bytes) + " of " +
                     files[size_t(row.file)].path.filename().string() + ", which has only " +
                     std::to_string(size) + "; the file is truncated or not the one of this model");
  }
  rows.push_back(std::move(row));
  owned.emplace_back();
  return int64_t(rows.size() - 1);
}

Result<int64_t> WeightStore::addEmbedded(std::string name, uint64_t offset, uint64_t bytes,
                                         StoredType type, std::vector<int64_t> shape) {
  return add({std::move(name), 0, offset, bytes, type, std::move(shape)});
}

Result<int64_t> WeightStore::addExternal(std::string name, const std::string &location,
                                         uint64_t offset, uint64_t bytes, StoredType type,
                                         std::vector<int64_t> shape) {
  Result<int32_t> file = fileAt(location);
  if (!file.ok())
    return std::move(file).status().withContext("tensor \"" + name + "\"");
  return add({std::move(name), *file, offset, bytes, type, std::move(shape)});
}

Result<int64_t> WeightStore::addOwned(std::string name, std::vector<std::byte> bytes,
                                      StoredType type, std::vector<int64_t> shape) {
  SMELT_ASSIGN(int64_t id, add({std::move(name), -1, 0, bytes.size(), type, std::move(shape)}));
  if (rows[size_t(id)].bytes != bytes.size())
    return corrupt("tensor \"" + rows[size_t(id)].name + "\" has no data");
  owned[size_t(id)] = std::move(bytes);
  return id;
}

Result<int64_t> WeightStore::addGiven(std::string name, const GivenRow &given) {
  auto layout = std::make_shared<GivenCodes>(given.layout);
  const GivenCodes &g = *layout;
  auto outside = [&](const char *what) {
    return corrupt("quantized weight \"" + name + "\" " + shapeText({g.rows, g.cols}) + ": its " +
                   what + " do not fit its shape and groups");
  };
  constexpr int64_t most = int64_t(1) << 40;
  if (g.rows <= 0 || g.cols <= 0 || g.rows > most / g.cols || g.rowGroup <= 0 || g.colGroup <= 0 ||
      (g.bits != 2 && g.bits != 4 && g.bits != 8))
    return outside("sizes");
  // The last element lies furthest: strides are never negative.
  auto holds = [&](int64_t id, int64_t rowStride, int64_t colStride, int64_t rowGroup,
                   int64_t colGroup, int64_t bits) {
    if (id < 0 || id >= size() || rowStride < 0 || colStride < 0)
      return false;
    __int128 last = __int128((g.rows - 1) / rowGroup) * rowStride +
                    __int128((g.cols - 1) / colGroup) * colStride;
    return (last + 1) * bits <= __int128(bytesOf(id).size()) * 8;
  };
  if (!holds(given.codes, g.codeRowStride, 1, 1, 1, g.bits))
    return outside("codes");
  switch (given.scales >= 0 && given.scales < size() ? row(given.scales).type : StoredType::I4) {
  case StoredType::F32:
    layout->scaleType = DataType::F32;
    break;
  case StoredType::F16:
    layout->scaleType = DataType::F16;
    break;
  case StoredType::BF16:
    layout->scaleType = DataType::BF16;
    break;
  default:
    return outside("scales, which are no f32, f16 or bf16,");
  }
  const int64_t scaleBits = bitsOf(row(given.scales).type);
  if (!holds(given.scales, g.scaleRowStride, g.scaleColStride, g.rowGroup, g.colGroup, scaleBits))
    return outside("scales");
  layout->codes = bytesOf(given.codes).data();
  layout->scales = bytesOf(given.scales).data();
  if (given.zeros >= 0) {
    if ((g.floatZeros && row(given.zeros).type != row(given.scales).type) ||
        !holds(given.zeros, g.zeroRowStride, g.zeroColStride, g.rowGroup, g.colGroup,
               g.floatZeros ? scaleBits : g.bits))
      return outside("zero points");
    layout->zeros = bytesOf(given.zeros).data();
  }
  WeightRow row{std::move(name), -1, 0, 0, StoredType::Given, {g.rows, g.cols}, std::move(layout)};
  rows.push_back(std::move(row));
  owned.emplace_back();
  return int64_t(rows.size() - 1);
}

std::span<const std::byte> WeightStore::bytesOf(int64_t id) const {
  const WeightRow &at = row(id);
  if (at.file < 0)
    return owned[size_t(id)];
  return files[size_t(at.file)].map->bytes().subspan(at.offset, at.bytes);
}

Result<WeightView> WeightStore::view(int64_t id, int64_t offset, int64_t viewRows, int64_t viewCols,
                                     int64_t rowStride, int64_t colStride) const {
  if (id < 0 || id >= size())
    return internalError("weight " + std::to_string(id) + " is not in the store of " +
                         std::to_string(size()));
  const WeightRow &at = row(id);
  WeightView view;
  switch (at.type) {
  case StoredType::F32:
    view.type = DataType::F32;
    break;
  case StoredType::F16:
    view.type = DataType::F16;
    break;
  case StoredType::BF16:
    view.type = DataType::BF16;
    break;
  case StoredType::Given:
    view.type = DataType::Given;
    break;
  default:
    return unsupported("weight \"" + at.name + "\" holds " + nameOf(at.type) +
                       "; f32, f16 or bf16 is needed here");
  }
  // The last element lies furthest: strides are never negative.
  __int128 last =
      __int128(offset) + __int128(viewRows - 1) * rowStride + __int128(viewCols - 1) * colStride;
  __int128 count = at.given ? __int128(at.given->rows) * at.given->cols
                            : __int128(at.bytes) * 8 / bitsOf(at.type);
  if (offset < 0 || rowStride < 0 || colStride < 0 || viewRows <= 0 || viewCols <= 0 ||
      last >= count)
    return internalError("view " + shapeText({viewRows, viewCols}) + " lies outside weight \"" +
                         at.name + "\" " + shapeText(at.shape));
  view.name = at.name;
  view.given = at.given;
  view.givenOffset = offset;
  view.data = at.given ? at.given->codes : bytesOf(id).data() + offset * (bitsOf(at.type) / 8);
  view.rows = viewRows;
  view.cols = viewCols;
  view.rowStride = rowStride;
  view.colStride = colStride;
  const auto [begin, end] = transformed.equal_range(view.data);
  for (auto found = begin; found != end; ++found)
    if (isSameView(found->second, view))
      view.transform = found->second.transform;
  return view;
}

void WeightStore::setTransform(const WeightView &view) { transformed.emplace(view.data, view); }

} // namespace smelt
