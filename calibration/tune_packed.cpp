// Between packed tiles and matrices with floating scales.
#include "calibration/tune_packed.h"
#include "calibration/tile_quantizer.h"

#include <algorithm>
#include <cmath>

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

/// Factors of the rows of a matrix, [rows]: a step is an 8-bit code times its row's factor.
struct RowFactors {
  std::vector<float> steps, offsets;
  bool isSigned = false; ///< the codes of steps
};

/// The code whose product with `factor` is nearest to the value.
float codeOf(float value, float factor, bool isSigned) {
  return factor > 0 ? std::clamp(std::nearbyint(value / factor), isSigned ? -127.0f : 0.0f,
                                 isSigned ? 127.0f : 255.0f)
                    : 0.0f;
}

/// Makes every step and offset a code times its row's factor.
void settle(TunedMatrix &matrix, const RowFactors &factors) {
  const int64_t groups = matrix.groups();
  for (int64_t n = 0; n < matrix.rows; ++n)
    for (int64_t i = n * groups; i < (n + 1) * groups; ++i) {
      float &step = matrix.steps[size_t(i)];
      step = factors.steps[size_t(n)] * codeOf(step, factors.steps[size_t(n)], factors.isSigned);
      if (matrix.offsets.empty())
        continue;
      float &offset = matrix.offsets[size_t(i)];
      offset = factors.offsets[size_t(n)] * codeOf(offset, factors.offsets[size_t(n)], false);
    }
}

/// The matrices of one packed linear, one per part.
class Unpacked {
public:
  explicit Unpacked(PackedLinear &linear)
      : linear(linear), info(formatInfo(linear.format)), cols(linear.weights.parts[0].cols),
        tileSize(tileBytes(linear.format, cols)) {}

  /// Appends the matrices and their rows' factors.
  Status read(const Graph &graph, std::vector<TunedMatrix> &matrices,
              std::vector<RowFactors> &factors) const {
    const size_t first = matrices.size();
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
      matrices.push_back(std::move(matrix));
      factors.push_back({std::vector<float>(size_t(part.rows)),
                         std::vector<float>(size_t(part.rows)), info.grid == Grid::Table});
    }
    OwnedTileCodes tile;
    for (int64_t index = 0; index < tiles(); ++index) {
      unpackCodes(linear.format, tileAt(index), cols, tile);
      for (int64_t row = 0; row < tileRows; ++row)
        if (const RowSource source = rowSource(linear.weights, index * tileRows + row);
            source.part >= 0)
          readRow(tile, row, source.row, matrices[first + size_t(source.part)],
                  factors[first + size_t(source.part)]);
    }
    return {};
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

  void readRow(const OwnedTileCodes &tile, int64_t row, int64_t to, TunedMatrix &matrix,
               RowFactors &factors) const {
    std::copy_n(tile.codes.begin() + row * cols, cols, matrix.codes.begin() + to * cols);
    if (info.scales == ScaleStorage::Code)
      factors.steps[size_t(to)] = tile.scales[size_t(row)];
    if (info.grid == Grid::Asymmetric)
      factors.offsets[size_t(to)] = tile.minimums[size_t(row)];
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
    const bool isSigned = info.grid == Grid::Table;
    for (int64_t g = 0; g < groups; ++g) {
      const size_t at = size_t(from * groups + g), to = size_t(row * groups + g);
      const float code = codeOf(matrix.steps[at], tile.scales[size_t(row)], isSigned);
      tile.groupScales[to] = isSigned ? uint8_t(int8_t(code)) : uint8_t(code);
      if (info.grid == Grid::Asymmetric)
        tile.groupMinimums[to] =
            uint8_t(codeOf(matrix.offsets[at], tile.minimums[size_t(row)], false));
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

Result<TuneReport> tunePacked(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                              std::span<PackedLinear> linears, const TuneOptions &options) {
  std::vector<TunedMatrix> matrices;
  std::vector<RowFactors> factors;
  std::vector<size_t> first; // of the matrices of each linear
  for (PackedLinear &linear : linears) {
    first.push_back(matrices.size());
    const Grid grid = formatInfo(linear.format).grid;
    if (grid == Grid::Float || grid == Grid::Given)
      continue; // as the float model has them
    SMELT_TRY(Unpacked(linear).read(graph, matrices, factors));
  }
  first.push_back(matrices.size());
  TuneOptions settling = options;
  settling.settle = [&](std::vector<TunedMatrix> &all) {
    for (size_t i = 0; i < all.size(); ++i)
      if (all[i].train)
        settle(all[i], factors[i]);
  };
  SMELT_ASSIGN(TuneReport report, tuneScales(graph, samples, matrices, settling));
  for (size_t i = 0; i < linears.size(); ++i) {
    const std::span parts = std::span(matrices).subspan(first[i], first[i + 1] - first[i]);
    if (!parts.empty() && parts[0].train)
      Unpacked(linears[i]).store(parts);
  }
  return report;
}

} // namespace smelt
