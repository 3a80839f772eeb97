// Weights where they lie: the model's files mapped once, and rows that name tensors inside them.
#pragma once

#include "calibration/graph.h"
#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// Element types a stored tensor may have; a superset of DataType, which names those a model
/// computes with.
enum class StoredType : uint32_t {
  F32,
  F16,
  BF16,
  F64,
  I64,
  I32,
  I16,
  I8,
  U64,
  U32,
  U16,
  U8,
  Bool,
  I4,
  U4,
  Given ///< a matrix of integers with scales that lie in other rows
};

/// Bits of one element; two 4-bit elements share a byte.
int64_t bitsOf(StoredType type);
/// Lower-case name, as in messages: "f32".
const char *nameOf(StoredType type);

/// A file mapped for reading.
class MappedFile {
public:
  static Result<std::unique_ptr<MappedFile>> open(const std::filesystem::path &path);
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data, size}; }

private:
  MappedFile(const std::byte *data, size_t size) : data(data), size(size) {}
  const std::byte *data;
  size_t size;
};

/// One stored tensor. `file` is -1 if the store owns the bytes (converted from another encoding).
struct WeightRow {
  std::string name;
  int32_t file = -1;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  StoredType type = StoredType::F32;
  std::vector<int64_t> shape;
  std::shared_ptr<const GivenCodes> given = nullptr; ///< type Given
};

/// The tensors of one model. Files are mapped once and stay mapped for the life of the store; rows
/// are only ever added.
class WeightStore {
public:
  /// Maps the model file itself, file 0. External data is looked for in its folder only.
  static Result<std::unique_ptr<WeightStore>> open(const std::string &modelPath);

  std::span<const std::byte> modelBytes() const { return files[0].map->bytes(); }

  /// A tensor whose bytes lie in the model file. Fails if they do not fit the shape or the file.
  Result<int64_t> addEmbedded(std::string name, uint64_t offset, uint64_t bytes, StoredType type,
                              std::vector<int64_t> shape);
  /// A tensor in a data file named relative to the model's folder. `bytes` 0 means as many as the
  /// shape needs. Absolute names,
  /// `..` and links that leave the folder are refused.
  Result<int64_t> addExternal(std::string name, const std::string &location, uint64_t offset,
                              uint64_t bytes, StoredType type, std::vector<int64_t> shape);
  /// A tensor whose bytes the store keeps itself.
  Result<int64_t> addOwned(std::string name, std::vector<std::byte> bytes, StoredType type,
                           std::vector<int64_t> shape);

  /// A matrix whose codes, scales and zero points lie in the bytes of other rows: onnx.weight and
  /// slm.weight name it like a float matrix of `shape`. Views of it decode when they are read.
  /// Fails if an element of `codes` lies outside the rows' bytes.
  struct GivenRow {
    int64_t codes = -1, scales = -1, zeros = -1; ///< rows; zeros -1: layout.zeroPoint
    GivenCodes layout;                           ///< all but the pointers
  };
  Result<int64_t> addGiven(std::string name, const GivenRow &given);

  int64_t size() const { return int64_t(rows.size()); }
  const WeightRow &row(int64_t id) const { return rows[size_t(id)]; }
  std::span<const std::byte> bytesOf(int64_t id) const;

  /// The view that `slm.weight` names: element (r, c) lies offset + r * rowStride + c * colStride
  /// elements into row `id`. Fails if any element lies outside, or if the row holds no f32, f16 or
  /// bf16.
  Result<WeightView> view(int64_t id, int64_t offset, int64_t viewRows, int64_t viewCols,
                          int64_t rowStride, int64_t colStride) const;
  /// From now on view() gives views of these very elements the transform of `view`.
  void setTransform(const WeightView &view);

private:
  struct File {
    std::filesystem::path path;
    std::unique_ptr<MappedFile> map;
  };
  Result<int32_t> fileAt(const std::string &location);
  Result<int64_t> add(WeightRow row);

  std::filesystem::path folder; ///< canonical
  std::vector<File> files;
  std::vector<std::vector<std::byte>> owned; ///< by row id; empty for mapped rows
  std::vector<WeightRow> rows;
  std::multimap<const std::byte *, WeightView> transformed; ///< by their first element
};

} // namespace smelt
