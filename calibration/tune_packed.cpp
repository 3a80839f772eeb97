// Between packed tiles and matrices with floating scales.
#include "calibration/tune_packed.h"
#include "calibration/tile_quantizer.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace smelt {

namespace {

std::vector<float> levelsOf(const FormatInfo &info) {
  std::vector<float> levels;
  for (int code = 0; code < 1 << info.bits; ++code)
    levels.push_back(info.grid == Grid::Table        ? float(tableValues[size_t(code)])
                     : info.grid == Grid::Asymmetric ? float(code)
                                                     : float(code - (1 << (info.bits - 1))));
  return levels;
}

bool isSameView(const WeightView &a, const WeightView &b) {
  return a.data == b.data && a.givenOffset == b.givenOffset && a.rows == b.rows &&
         a.cols == b.cols && a.rowStride == b.rowStride && a.colStride == b.colStride;
}

/// The matrices of one packed linear, one per part.
class Unpacked {
public:
  explicit Unpacked(PackedLinear &linear)
      : linear(linear), info(formatInfo(linear.format)), cols(linear.weights.parts[0].cols),
        tileSize(tileBytes(linear.format, cols)) {}

  Result<std::vector<TunedMatrix>> matrices(const Graph &graph) const {
    std::vector<TunedMatrix> parts;
    for (const WeightView &part : linear.weights.parts) {
      TunedMatrix matrix;
      for (size_t i = 0; i < graph.weights.size(); ++i)
        if (isSameView(graph.weights[i], part))
          matrix.weights.push_back(int32_t(i));
      if (matrix.weights.empty())
        return internalError("packed weight '" + part.name + "' is none of the float model's");
      matrix.rows = part.rows;
      matrix.cols = cols;
      matrix.group = info.group ? info.group : cols;
      matrix.levels = levelsOf(info);
      matrix.train = hasLearnableScales(linear.format);
      matrix.codes.resize(size_t(part.rows * cols));
      matrix.steps.resize(size_t(part.rows * matrix.groups()));
      if (info.grid == Grid::Asymmetric)
        matrix.offsets.resize(matrix.steps.size());
      parts.push_back(std::move(matrix));
    }
    OwnedTileCodes tile;
    for (int64_t index = 0; index < tiles(); ++index) {
      unpackCodes(linear.format, tileAt(index), cols, tile);
      for (int64_t row = 0; row < tileRows; ++row)
        if (const RowSource source = rowSource(linear.weights, index * tileRows + row);
            source.part >= 0)
          readRow(tile, row, source.row, parts[size_t(source.part)]);
    }
    return parts;
  }

  /// Stores the steps and offsets that were learned.
  void store(std::span<const TunedMatrix> parts) {
    OwnedTileCodes tile;
    for (int64_t index = 0; index < tiles(); ++index) {
      unpackCodes(linear.format, tileAt(index), cols, tile);
      for (int64_t row = 0; row < tileRows; ++row)
        if (const RowSource source = rowSource(linear.weights, index * tileRows + row);
            source.part >= 0)
          writeRow(parts[size_t(source.part)], source.row, row, tile);
      packTile(linear.format, tile.view(cols), tileAt(index));
    }
  }

private:
  int64_t tiles() const { return int64_t(linear.bytes.size()) / tileSize; }
  std::span<std::byte> tileAt(int64_t index) const {
    return std::span(linear.bytes).subspan(size_t(index * tileSize), size_t(tileSize));
  }

  void readRow(const OwnedTileCodes &tile, int64_t row, int64_t to, TunedMatrix &matrix) const {
    std::copy_n(tile.codes.begin() + row * cols, cols, matrix.codes.begin() + to * cols);
    const int64_t groups = matrix.groups();
    for (int64_t g = 0; g < groups; ++g) {
      const size_t from = size_t(row * groups + g), at = size_t(to * groups + g);
      switch (info.scales) {
      case ScaleStorage::None:
      case ScaleStorage::Row:
        matrix.steps[at] = tile.scales[size_t(row)];
        break;
      case ScaleStorage::Half:
      case ScaleStorage::Float:
        matrix.steps[at] = tile.scales[from];
        break;
      case ScaleStorage::Code:
        matrix.steps[at] = tile.scales[size_t(row)] * scaleOf(tile.groupScales[from]);
        if (info.grid == Grid::Asymmetric)
          matrix.offsets[at] = tile.minimums[size_t(row)] * float(tile.groupMinimums[from]);
        break;
      }
    }
  }

  float scaleOf(uint8_t code) const {
    return info.grid == Grid::Table ? float(int8_t(code)) : float(code);
  }

  void writeRow(const TunedMatrix &matrix, int64_t from, int64_t row, OwnedTileCodes &tile) const {
    const int64_t groups = matrix.groups();
    const float *steps = matrix.steps.data() + from * groups;
    const bool isSigned = info.grid == Grid::Table;
    storeCodes(steps, groups, isSigned, tile.scales[size_t(row)],
               tile.groupScales.data() + row * groups);
    if (info.grid == Grid::Asymmetric)
      storeCodes(matrix.offsets.data() + from * groups, groups, false, tile.minimums[size_t(row)],
                 tile.groupMinimums.data() + row * groups);
  }

  /// codes = values / factor, rounded; the factor grows if the largest would not fit.
  static void storeCodes(const float *values, int64_t count, bool isSigned, float &factor,
                         uint8_t *codes) {
    const float low = isSigned ? -127 : 0, high = isSigned ? 127 : 255;
    float largest = 0;
    for (int64_t i = 0; i < count; ++i)
      largest = std::max(largest, isSigned ? std::fabs(values[i]) : values[i]);
    if (largest > (high + 0.5f) * factor)
      factor = bfloat16ToFloat(floatToBfloat16(largest / high));
    for (int64_t i = 0; i < count && factor > 0; ++i) {
      const float code = std::clamp(std::nearbyint(values[i] / factor), low, high);
      codes[i] = isSigned ? uint8_t(int8_t(code)) : uint8_t(code);
    }
  }

  PackedLinear &linear;
  const FormatInfo &info;
  const int64_t cols, tileSize;
};

} // namespace

bool hasLearnableScales(WeightFormat format) {
  return formatInfo(format).scales == ScaleStorage::Code;
}

Status tunePacked(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                  std::span<PackedLinear> linears, const TuneOptions &options) {
  std::vector<TunedMatrix> matrices;
  std::vector<size_t> first; // of the matrices of each linear
  for (PackedLinear &linear : linears) {
    first.push_back(matrices.size());
    const Grid grid = formatInfo(linear.format).grid;
    if (grid == Grid::Float || grid == Grid::Given)
      continue; // as the float model has them
    SMELT_ASSIGN(std::vector<TunedMatrix> parts, Unpacked(linear).matrices(graph));
    std::ranges::move(parts, std::back_inserter(matrices));
  }
  first.push_back(matrices.size());
  SMELT_TRY(tuneScales(graph, samples, matrices, options));
  for (size_t i = 0; i < linears.size(); ++i) {
    const std::span parts = std::span(matrices).subspan(first[i], first[i + 1] - first[i]);
    if (!parts.empty() && parts[0].train)
      Unpacked(linears[i]).store(parts);
  }
  return {};
}

} // namespace smelt
