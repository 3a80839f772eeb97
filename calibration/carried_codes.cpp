// Copies the codes, scales and zero points of the model file into tiles.
#include "calibration/carried_codes.h"
#include "calibration/tile_quantizer.h"

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

/// Where the codes of row `row` of a view lie in the matrix that the file gives: element k at
/// (at.row, at.col) + k * (step, 1 - step).
struct GivenPlace {
  int64_t row, col;
  bool alongRows; ///< the view's inputs run down the file's rows
};

/// Nothing if the view is no whole run of rows or columns.
std::optional<GivenPlace> givenPlace(const WeightView &view, int64_t row) {
  const GivenCodes &given = *view.given;
  const int64_t first = view.givenOffset + row * view.rowStride;
  GivenPlace place{first / given.cols, first % given.cols, view.colStride != 1};
  bool fits = place.alongRows
                  ? view.colStride == given.cols && place.row + view.cols <= given.rows
                  : view.rowStride % given.cols == 0 && place.col + view.cols <= given.cols;
  return fits ? std::optional(place) : std::nullopt;
}

} // namespace

std::optional<WeightFormat> givenFormat(const LinearWeights &linear) {
  int bits = 0;
  for (const WeightView &part : linear.parts) {
    if (!part.given || part.given->floatZeros || part.transform)
      return std::nullopt;
    const GivenCodes &given = *part.given;
    const std::optional<GivenPlace> first = givenPlace(part, 0);
    const std::optional<GivenPlace> last = givenPlace(part, part.rows - 1);
    if (!first || !last)
      return std::nullopt;
    // Every run of 32 inputs has one scale.
    const int64_t group = first->alongRows ? given.rowGroup : given.colGroup;
    const int64_t start = first->alongRows ? first->row : first->col;
    const int64_t whole = first->alongRows ? given.rows : given.cols;
    if (group < whole && (group % groupInputs != 0 || start % groupInputs != 0))
      return std::nullopt;
    bits = std::max(bits, given.bits);
  }
  return bits > 4 ? WeightFormat::K8G32 : WeightFormat::K4G32;
}

Status carryTile(const LinearWeights &linear, WeightFormat format, int64_t index, int64_t &rows,
                 std::span<std::byte> out) {
  const int64_t cols = linear.parts[0].cols, groups = roundUp(cols, groupInputs) / groupInputs;
  std::vector<uint8_t> packCodes(size_t(tileRows * cols)), zeros(size_t(tileRows * groups));
  std::vector<float> scales(size_t(tileRows * groups));
  for (rows = 0; rows < tileRows; ++rows) {
    const RowSource source = rowSource(linear, index * tileRows + rows);
    if (source.part < 0)
      break;
    const WeightView &part = linear.parts[source.part];
    const std::optional<GivenPlace> place =
        part.given ? givenPlace(part, source.row) : std::nullopt;
    if (!place)
      return unsupported("weight '" + part.name + "' has no codes of its own that " +
                         std::string(formatInfo(format).name) +
                         " could carry over; choose another format");
    const GivenCodes &given = *part.given;
    const int bias = given.isSigned ? 1 << (given.bits - 1) : 0;
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t row = place->row + (place->alongRows ? k : 0);
      const int64_t col = place->col + (place->alongRows ? 0 : k);
      packCodes[rows * cols + k] = uint8_t(given.code(row, col) + bias);
      if (k % groupInputs != 0)
        continue;
      const int64_t group = rows * groups + k / groupInputs;
      scales[group] = given.scale(row, col);
      zeros[group] = uint8_t(given.zero(row, col) + float(bias));
      if (!std::isfinite(scales[group]))
        return invalidArgument("a scale of weight '" + part.name + "' is not finite at row " +
                               std::to_string(row) + ", column " + std::to_string(col));
    }
  }
  TileCodes codes;
  codes.cols = cols;
  codes.codes = packCodes;
  codes.scales = scales;
  codes.zeros = zeros;
  packTile(format, codes, out);
  return {};
}

} // namespace smelt
