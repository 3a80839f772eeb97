// Quantizes linears tile by tile: read rows, choose a grid, round, pack; tiles are independent, so
// workers share them.
#include "calibration/quantizer.h"
#include "calibration/error_feedback.h"
#include "calibration/parallel.h"
#include "calibration/tile_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace smelt {

namespace {

struct AlgorithmInfo {
  std::string_view name;
  bool needsStatistics;
};
constexpr AlgorithmInfo algorithmTable[] = {
#define ALGORITHM(enumerator, name, needsStatistics, help) {name, needsStatistics},
#include "calibration/algorithms.def"
};

constexpr int64_t lanes = tileRows;

/// A row of a tile: which part it comes from, or none for padding.
struct RowSource {
  int64_t part = -1, row = 0;
};

RowSource rowSource(const LinearWeights &linear, int64_t packed) {
  if (linear.interleaveTiles) {
    const int64_t tile = packed / lanes, row = tile / 2 * lanes + packed % lanes;
    return row < linear.parts[tile % 2].rows ? RowSource{tile % 2, row} : RowSource{};
  }
  for (size_t part = 0; part < linear.parts.size(); ++part) {
    if (packed < linear.parts[part].rows)
      return {int64_t(part), packed};
    packed -= linear.parts[part].rows;
  }
  return {};
}

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

/// Everything about one tile while it is worked on.
struct Tile {
  std::vector<float> rows;    ///< [16, cols] as read
  std::vector<float> weights; ///< [padded, 16]
  std::vector<float> steps, offsets;
  std::vector<int8_t> codes, feedbackCodes; ///< [padded, 16]
  std::vector<float> errors;
  std::vector<uint8_t> groupSteps, groupOffsets; ///< [groups, 16]
  float rowSteps[lanes], rowOffsets[lanes];
  // Row-major copies for packTile.
  std::vector<uint8_t> packCodes, packGroupSteps, packGroupOffsets, packZeros;
  std::vector<float> packScales;
};

/// What one tile contributes to the report, or why it failed.
struct TileOutcome {
  Status status;
  TileErrors errors{};
  double loss = 0, searchLoss = 0;
  int64_t rows = 0, rowsKept = 0;
};

class Quantizer {
public:
  Quantizer(const LinearWeights &linear, WeightFormat format, Algorithm algorithm)
      : linear(linear), format(format), info(formatInfo(format)), algorithm(algorithm),
        cols(linear.parts[0].cols), padded(roundUp(cols, groupInputs)),
        groups(padded / groupInputs) {}

  void setImportance(const InputStatistics *statistics) {
    importance.assign(size_t(padded), 0.0f);
    double mean = 0;
    if (statistics)
      for (double value : statistics->sumSquares)
        mean += value / double(cols);
    // Relative to the mean, with a small floor: an input that calibration never saw is not free to
    // be wrong.
    for (int64_t k = 0; k < cols; ++k)
      importance[k] = mean > 0 ? float(statistics->sumSquares[k] / mean + 1e-5) : 1.0f;
  }
  void setFeedback(const ErrorFeedback *factors) { feedback = factors; }

  TileOutcome run(int64_t index, std::span<std::byte> out) const {
    thread_local Tile tile;
    TileOutcome outcome;
    if (info.grid == Grid::Given) {
      outcome.status = carry(index, tile, outcome.rows, out);
      return outcome;
    }
    outcome.status = read(index, tile, outcome.rows);
    if (!outcome.status.ok())
      return outcome;
    if (format == WeightFormat::F32) {
      TileCodes values;
      values.cols = cols;
      values.values = tile.rows;
      packTile(format, values, out);
      return outcome;
    }
    const TileProblem problem{tile.weights.data(), importance.data(), padded, cols};
    tile.steps.resize(size_t(groups * lanes));
    tile.offsets.resize(size_t(groups * lanes));
    tile.codes.resize(size_t(padded * lanes));
    TileGrid grid{tile.steps.data(), tile.offsets.data(), info.group ? groupInputs : padded, 0, 0};
    fitGrid(problem, tile, grid);
    outcome.status = checkScales(index, grid);
    if (!outcome.status.ok())
      return outcome;
    tileKernels().roundNearest(problem, grid, tile.codes.data());
    if (feedback)
      improve(problem, grid, tile, outcome);
    outcome.errors = tileKernels().measure(problem, grid, tile.codes.data(), outcome.rows);
    pack(tile, grid, out);
    return outcome;
  }

private:
  /// Packs what the file gives; codes become unsigned, with their zero points.
  Status carry(int64_t index, Tile &tile, int64_t &count, std::span<std::byte> out) const {
    tile.packCodes.assign(size_t(lanes * cols), 0);
    tile.packZeros.assign(size_t(lanes * groups), 0);
    tile.packScales.assign(size_t(lanes * groups), 0.0f);
    for (count = 0; count < lanes; ++count) {
      const RowSource source = rowSource(linear, index * lanes + count);
      if (source.part < 0)
        break;
      const WeightView &part = linear.parts[source.part];
      const std::optional<GivenPlace> place =
          part.given ? givenPlace(part, source.row) : std::nullopt;
      if (!place)
        return unsupported("weight '" + part.name + "' has no codes of its own that " +
                           std::string(info.name) + " could carry over; choose another format");
      const GivenCodes &given = *part.given;
      const int bias = given.isSigned ? 1 << (given.bits - 1) : 0;
      for (int64_t k = 0; k < cols; ++k) {
        const int64_t row = place->row + (place->alongRows ? k : 0);
        const int64_t col = place->col + (place->alongRows ? 0 : k);
        tile.packCodes[count * cols + k] = uint8_t(given.code(row, col) + bias);
        if (k % groupInputs != 0)
          continue;
        const int64_t group = count * groups + k / groupInputs;
        tile.packScales[group] = given.scale(row, col);
        tile.packZeros[group] = uint8_t(given.zero(row, col) + float(bias));
        if (!std::isfinite(tile.packScales[group]))
          return invalidArgument("a scale of weight '" + part.name + "' is not finite at row " +
                                 std::to_string(row) + ", column " + std::to_string(col));
      }
    }
    TileCodes codes;
    codes.cols = cols;
    codes.codes = tile.packCodes;
    codes.scales = tile.packScales;
    codes.zeros = tile.packZeros;
    packTile(format, codes, out);
    return {};
  }

  Status read(int64_t index, Tile &tile, int64_t &count) const {
    tile.rows.assign(size_t(lanes * cols), 0.0f);
    count = 0;
    for (int64_t row = 0; row < lanes;) {
      const RowSource source = rowSource(linear, index * lanes + row);
      if (source.part < 0)
        break;
      const WeightView &part = linear.parts[source.part];
      const int64_t run = std::min(lanes - row, part.rows - source.row);
      readRows(part, source.row, run, tile.rows.data() + row * cols);
      for (int64_t i = 0; i < run * cols; ++i)
        if (!std::isfinite(tile.rows[row * cols + i]))
          return invalidArgument("weight '" + part.name + "' is not finite at row " +
                                 std::to_string(source.row + i / cols) + ", column " +
                                 std::to_string(i % cols));
      row += run;
      count = row;
    }
    tile.weights.assign(size_t(padded * lanes), 0.0f);
    for (int64_t row = 0; row < lanes; ++row)
      for (int64_t k = 0; k < cols; ++k)
        tile.weights[k * lanes + row] = tile.rows[row * cols + k];
    return {};
  }

  void fitGrid(const TileProblem &problem, Tile &tile, TileGrid &grid) const {
    const bool search = algorithm != Algorithm::Rtn;
    const TileKernels &kernels = tileKernels();
    switch (format) {
    case WeightFormat::F32:
    case WeightFormat::K4G32: // carried over, not fitted
    case WeightFormat::K8G32:
      return;
    case WeightFormat::S8C:
      grid.lowest = -127;
      grid.highest = 127;
      return kernels.fitSymmetric8(problem, search, grid);
    case WeightFormat::S4G32:
      grid.lowest = -8;
      grid.highest = 7;
      return kernels.fitSymmetric4(problem, search, grid);
    case WeightFormat::A4G32:
      grid.lowest = 0;
      grid.highest = 15;
      tile.groupSteps.resize(size_t(groups * lanes));
      tile.groupOffsets.resize(size_t(groups * lanes));
      kernels.fitAsymmetric(problem, search, grid);
      return kernels.quantizeAsymmetric(
          problem, search, grid,
          {tile.rowSteps, tile.rowOffsets, tile.groupSteps.data(), tile.groupOffsets.data()});
    default: // refused by checkLinear
      return;
    }
  }

  Status checkScales(int64_t index, const TileGrid &grid) const {
    for (int64_t i = 0; i < padded / grid.groupCols * lanes; ++i)
      if (!std::isfinite(grid.steps[i]) || !std::isfinite(grid.offsets[i])) {
        const RowSource source = rowSource(linear, index * lanes + i % lanes);
        return unsupported("row " + std::to_string(source.row) + " of weight '" +
                           linear.parts[std::max<int64_t>(0, source.part)].name +
                           "' is too large for the scales of " + std::string(info.name) +
                           ": choose another weight format for it");
      }
    return {};
  }

  /// Error feedback on the searched grid; rows that come out worse keep their codes.
  void improve(const TileProblem &problem, const TileGrid &grid, Tile &tile,
               TileOutcome &outcome) const {
    tile.feedbackCodes.assign(size_t(padded * lanes), 0);
    tile.errors.resize(size_t(cols * 2 * lanes));
    const FeedbackOrder order{feedback->order.data(), feedback->factors.data(),
                              feedback->diagonal.data(), cols};
    double kept[lanes], fed[lanes];
    tileKernels().roundFeedback(problem, grid, order, tile.codes.data(), tile.feedbackCodes.data(),
                                tile.errors.data(), kept, fed);
    for (int64_t row = 0; row < outcome.rows; ++row) {
      const bool better = fed[row] <= kept[row];
      outcome.searchLoss += kept[row];
      outcome.loss += better ? fed[row] : kept[row];
      outcome.rowsKept += better ? 0 : 1;
      if (better)
        for (int64_t k = 0; k < cols; ++k)
          tile.codes[k * lanes + row] = tile.feedbackCodes[k * lanes + row];
    }
  }

  void pack(Tile &tile, const TileGrid &grid, std::span<std::byte> out) const {
    const int bias = info.grid == Grid::Asymmetric ? 0 : 1 << (info.bits - 1);
    tile.packCodes.resize(size_t(lanes * cols));
    for (int64_t row = 0; row < lanes; ++row)
      for (int64_t k = 0; k < cols; ++k)
        tile.packCodes[row * cols + k] = uint8_t(tile.codes[k * lanes + row] + bias);
    TileCodes codes;
    codes.cols = cols;
    codes.codes = tile.packCodes;
    if (format == WeightFormat::S8C)
      codes.scales = std::span(grid.steps, lanes);
    if (format == WeightFormat::S4G32) {
      transpose(grid.steps, tile.packScales);
      codes.scales = tile.packScales;
    }
    if (format == WeightFormat::A4G32) {
      transpose(tile.groupSteps.data(), tile.packGroupSteps);
      transpose(tile.groupOffsets.data(), tile.packGroupOffsets);
      codes.scales = tile.rowSteps;
      codes.minimums = tile.rowOffsets;
      codes.groupScales = tile.packGroupSteps;
      codes.groupMinimums = tile.packGroupOffsets;
    }
    packTile(format, codes, out);
  }

  /// [groups, 16] to [16, groups]
  template <typename T> void transpose(const T *from, std::vector<T> &to) const {
    to.resize(size_t(lanes * groups));
    for (int64_t row = 0; row < lanes; ++row)
      for (int64_t g = 0; g < groups; ++g)
        to[row * groups + g] = from[g * lanes + row];
  }

  const LinearWeights &linear;
  const WeightFormat format;
  const FormatInfo &info;
  const Algorithm algorithm;
  const int64_t cols, padded, groups;
  std::vector<float> importance; ///< [padded]
  const ErrorFeedback *feedback = nullptr;
};

Status checkLinear(const LinearWeights &linear, WeightFormat format, Algorithm algorithm,
                   const InputStatistics *statistics) {
  if (linear.parts.empty())
    return invalidArgument("it has no weights");
  for (const WeightView &part : linear.parts)
    if (!part.data || part.rows <= 0 || part.cols <= 0 || part.cols != linear.parts[0].cols)
      return invalidArgument("weight '" + part.name + "' is [" + std::to_string(part.rows) + ", " +
                             std::to_string(part.cols) + "] beside " +
                             std::to_string(linear.parts[0].cols) + " columns");
  if (linear.interleaveTiles &&
      (linear.parts.size() != 2 || linear.parts[0].rows != linear.parts[1].rows))
    return invalidArgument("tiles alternate between two parts of equal rows only");
  if (format > WeightFormat::K8G32)
    return unsupported("no algorithm fits " + std::string(formatInfo(format).name) +
                       ", choose one of f32, s8c, s4g32, a4g32");
  if (!needsStatistics(algorithm))
    return {};
  const std::string name(algorithmTable[uint32_t(algorithm)].name);
  if (!statistics)
    return invalidArgument("algorithm " + name +
                           " needs statistics of its input: give calibration "
                           "data or choose rtn");
  if (statistics->cols() != linear.parts[0].cols || statistics->tokens == 0)
    return invalidArgument("its statistics are of " + std::to_string(statistics->cols()) +
                           " inputs over " + std::to_string(statistics->tokens) +
                           " tokens, expected " + std::to_string(linear.parts[0].cols) + " inputs");
  return {};
}

void addOutcome(QuantizationReport &report, TileErrors &total, const TileOutcome &outcome) {
  report.loss += outcome.loss;
  report.searchLoss += outcome.searchLoss;
  report.rows += outcome.rows;
  report.rowsKept += outcome.rowsKept;
  total.squares += outcome.errors.squares;
  total.weightSquares += outcome.errors.weightSquares;
  total.weighted += outcome.errors.weighted;
  total.weightedSquares += outcome.errors.weightedSquares;
}

Result<QuantizationReport> quantizeChecked(const LinearWeights &linear, WeightFormat format,
                                           Algorithm algorithm, const InputStatistics *statistics,
                                           int threads, const ByteSink &sink) {
  Quantizer quantizer(linear, format, algorithm);
  quantizer.setImportance(statistics);
  QuantizationReport report;
  ErrorFeedback feedback;
  if (needsSecondMoments(algorithm) && format != WeightFormat::F32) {
    if (!statistics->secondMoments)
      return invalidArgument("algorithm gptq needs second moments: calibrate with them");
    Result<ErrorFeedback> factors = factorErrorFeedback(*statistics);
    if (factors) {
      feedback = *std::move(factors);
      quantizer.setFeedback(&feedback);
    } else {
      report.fallback = factors.status().message();
    }
  }
  constexpr int64_t waveTiles = 128; // packed bytes of one wave are in memory at a time
  const int64_t tiles = packedRows(linear) / lanes, size = tileBytes(format, linear.parts[0].cols);
  WorkerPool pool(threads);
  std::vector<std::byte> packed(size_t(std::min(waveTiles, tiles) * size));
  std::vector<TileOutcome> outcomes;
  TileErrors total{};
  for (int64_t first = 0; first < tiles; first += waveTiles) {
    const int64_t count = std::min(waveTiles, tiles - first);
    outcomes.assign(size_t(count), {});
    pool.run(count, [&](int64_t i) {
      outcomes[i] =
          quantizer.run(first + i, std::span(packed).subspan(size_t(i * size), size_t(size)));
    });
    for (TileOutcome &outcome : outcomes) {
      SMELT_TRY(std::move(outcome.status));
      addOutcome(report, total, outcome);
    }
    SMELT_TRY(sink(std::span(packed).first(size_t(count * size))));
  }
  if (total.weightSquares > 0)
    report.weightError = total.squares / total.weightSquares;
  if (total.weightedSquares > 0)
    report.weightedError = total.weighted / total.weightedSquares;
  return report;
}

} // namespace

Result<Algorithm> findAlgorithm(std::string_view name) {
  std::string known;
  for (uint32_t i = 0; i < std::size(algorithmTable); ++i) {
    if (algorithmTable[i].name == name)
      return static_cast<Algorithm>(i);
    known += (i ? ", " : "") + std::string(algorithmTable[i].name);
  }
  return invalidArgument("unknown algorithm '" + std::string(name) + "', expected one of " + known);
}

bool needsStatistics(Algorithm algorithm) {
  return algorithmTable[uint32_t(algorithm)].needsStatistics;
}

bool needsSecondMoments(Algorithm algorithm) { return algorithm == Algorithm::Gptq; }

std::optional<WeightFormat> givenFormat(const LinearWeights &linear) {
  int bits = 0;
  for (const WeightView &part : linear.parts) {
    if (!part.given || part.given->floatZeros)
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

int64_t packedRows(const LinearWeights &linear) {
  if (linear.interleaveTiles)
    return 2 * roundUp(linear.parts[0].rows, lanes);
  int64_t rows = 0;
  for (const WeightView &part : linear.parts)
    rows += part.rows;
  return roundUp(rows, lanes);
}

Result<QuantizationReport> quantizeLinear(const LinearWeights &linear, WeightFormat format,
                                          Algorithm algorithm, const InputStatistics *statistics,
                                          int threads, const ByteSink &sink) {
  if (Status status = checkLinear(linear, format, algorithm, statistics); !status.ok())
    return std::move(status).withContext("linear '" + linear.name + "'");
  Result<QuantizationReport> report =
      quantizeChecked(linear, format, algorithm, statistics, threads, sink);
  if (!report)
    return std::move(report).status().withContext("linear '" + linear.name + "'");
  return report;
}

} // namespace smelt
