// Reads a tile, chooses its grid, rounds, improves and packs it.
#include "calibration/tile_quantizer.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace smelt {

namespace {

constexpr int64_t lanes = tileRows;

/// The place of a value in its table.
uint8_t placeOf(int8_t value, std::span<const int8_t> table) {
  return uint8_t(std::lower_bound(table.begin(), table.end(), value) - table.begin());
}

} // namespace

GridKind gridKind(const FormatInfo &info) {
  GridKind kind;
  kind.grid = info.grid;
  kind.scales = info.scales;
  kind.group = info.group;
  kind.bits = info.bits;
  const float half = float(1 << (std::min(info.bits, 8) - 1));
  switch (info.grid) {
  case Grid::Float:
  case Grid::Given:
    break;
  case Grid::Symmetric: // eight bits leave out -128, four cannot afford it
    kind.lowest = info.bits == 8 ? 1 - half : -half;
    kind.highest = half - 1;
    break;
  case Grid::Asymmetric:
    kind.highest = 2 * half - 1;
    break;
  case Grid::Table:
    kind.lowest = float(tableOf(info.bits).front());
    kind.highest = float(tableOf(info.bits).back());
    break;
  }
  kind.lowestStep = info.grid == Grid::Table ? -127 : 0;
  kind.highestStep = info.grid == Grid::Table ? 127 : 255;
  return kind;
}

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

TileQuantizer::TileQuantizer(const LinearWeights &linear, WeightFormat format, Algorithm algorithm,
                             const InputStatistics *statistics, const ErrorFeedback *feedback)
    : linear(linear), format(format), info(formatInfo(format)), kind(gridKind(info)),
      algorithm(algorithm), cols(linear.parts[0].cols), padded(roundUp(cols, blockInputs)),
      groupCols(info.group ? info.group : padded), groups(padded / groupCols), feedback(feedback) {
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

Status TileQuantizer::read(int64_t index, Tile &tile, int64_t &count) const {
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
  return {};
}

/// Transposes the rows and says what an error of each weight counts in the search.
void TileQuantizer::weigh(Tile &tile) const {
  tile.weights.assign(size_t(padded * lanes), 0.0f);
  tile.omega.assign(size_t(padded * lanes), 0.0f);
  const bool blind = !needsStatistics(algorithm);
  for (int64_t row = 0; row < lanes; ++row)
    for (int64_t k = 0; k < cols; ++k) {
      tile.weights[k * lanes + row] = tile.rows[row * cols + k];
      tile.omega[k * lanes + row] = blind ? 1.0f : importance[k];
    }
}

TileGrid TileQuantizer::gridOf(Tile &tile) const {
  for (std::vector<float> *values : {&tile.steps, &tile.offsets})
    values->resize(size_t(groups * lanes));
  for (std::vector<int16_t> *values : {&tile.stepCodes, &tile.offsetCodes})
    values->resize(size_t(groups * lanes));
  return {kind,          groupCols,       tile.steps.data(),     tile.offsets.data(),
          tile.rowSteps, tile.rowOffsets, tile.stepCodes.data(), tile.offsetCodes.data()};
}

TileProblem TileQuantizer::problemOf(const Tile &tile) const {
  return {tile.weights.data(), tile.omega.data(), importance.data(), padded, cols};
}

FeedbackOrder TileQuantizer::feedbackOrder() const {
  return {feedback->order.data(), feedback->factors.data(), feedback->diagonal.data(), cols};
}

/// Reads a tile, searches its grid and rounds to it; whether there are codes to improve.
bool TileQuantizer::prepare(int64_t index, Tile &tile, TileOutcome &outcome,
                            const float *shift) const {
  outcome.status = read(index, tile, outcome.rows);
  if (!outcome.status.ok())
    return false;
  for (int64_t i = 0; shift && i < outcome.rows * cols; ++i)
    tile.rows[i] += shift[i];
  weigh(tile);
  if (info.grid == Grid::Float)
    return false;
  const TileKernels &kernels = tileKernels();
  const TileProblem problem = problemOf(tile);
  const TileGrid grid = gridOf(tile);
  tile.codes.resize(size_t(padded * lanes));
  kernels.searchScales(problem, algorithm != Algorithm::Rtn, grid);
  outcome.status = checkScales(index, grid);
  if (!outcome.status.ok())
    return false;
  kernels.roundNearest(problem, grid, tile.codes.data());
  return true;
}

void TileQuantizer::run(std::span<const int64_t> indices, Tile *tiles, TileOutcome *outcomes,
                        const float *shift) const {
  std::vector<Tile *> sound;
  std::vector<TileOutcome *> ofSound;
  for (size_t i = 0; i < indices.size(); ++i)
    if (prepare(indices[i], tiles[i], outcomes[i], shift)) {
      sound.push_back(&tiles[i]);
      ofSound.push_back(&outcomes[i]);
    }
  if (feedback && !sound.empty())
    improve(sound, ofSound);
  for (size_t i = 0; i < sound.size(); ++i)
    ofSound[i]->errors = tileKernels().measure(problemOf(*sound[i]), gridOf(*sound[i]),
                                               sound[i]->codes.data(), ofSound[i]->rows);
}

/// Error feedback and descent, as the algorithm says, each kept where it lowers a row's loss.
void TileQuantizer::improve(std::span<Tile *const> tiles,
                            std::span<TileOutcome *const> outcomes) const {
  constexpr int64_t line = 16; // floats
  const size_t count = tiles.size();
  std::vector<TileProblem> problems;
  std::vector<TileGrid> grids;
  std::vector<TileWork> work(count), others(count);
  std::vector<double> found(count * lanes);
  for (Tile *tile : tiles) {
    problems.push_back(problemOf(*tile));
    grids.push_back(gridOf(*tile));
    tile->scratch.resize(size_t(2 * padded * lanes + line));
    tile->otherCodes.assign(size_t(padded * lanes), 0);
  }
  for (size_t i = 0; i < count; ++i) {
    void *scratch = tiles[i]->scratch.data();
    size_t space = tiles[i]->scratch.size() * sizeof(float);
    scratch = std::align(line * sizeof(float), size_t(2 * padded * lanes) * sizeof(float), scratch,
                         space);
    work[i] = {&problems[i], &grids[i], tiles[i]->codes.data(), static_cast<float *>(scratch),
               tiles[i]->losses};
    others[i] = work[i];
    others[i].codes = tiles[i]->otherCodes.data();
    others[i].losses = found.data() + i * lanes;
  }
  auto sum = [&](double TileOutcome::*total) {
    for (size_t i = 0; i < count; ++i)
      for (int64_t row = 0; row < outcomes[i]->rows; ++row)
        outcomes[i]->*total += tiles[i]->losses[row];
  };
  const TileKernels &kernels = tileKernels();
  kernels.feedbackLoss(work.data(), int64_t(count), feedbackOrder());
  sum(&TileOutcome::searchLoss);
  if (needsSecondMoments(algorithm)) {
    kernels.roundFeedback(others.data(), int64_t(count), feedbackOrder());
    for (size_t i = 0; i < count; ++i)
      keepBetter(*tiles[i], others[i].losses, *outcomes[i]);
  }
  sum(&TileOutcome::feedbackLoss);
  if (algorithm == Algorithm::Polish || algorithm == Algorithm::Coupled) {
    for (size_t i = 0; i < count; ++i) {
      Tile &tile = *tiles[i];
      tile.otherCodes = tile.codes;
      tile.otherSteps = tile.steps;
      tile.otherOffsets = tile.offsets;
      tile.otherStepCodes = tile.stepCodes;
      tile.otherOffsetCodes = tile.offsetCodes;
      work[i].losses = found.data() + i * lanes;
    }
    kernels.polish(work.data(), int64_t(count), feedback->moments.data());
    for (size_t i = 0; i < count; ++i)
      keepPolished(*tiles[i], work[i].losses, *outcomes[i]);
  }
  sum(&TileOutcome::loss);
}

Status TileQuantizer::checkScales(int64_t index, const TileGrid &grid) const {
  for (int64_t i = 0; i < groups * lanes; ++i)
    if (!std::isfinite(grid.steps[i]) || !std::isfinite(grid.offsets[i])) {
      const RowSource source = rowSource(linear, index * lanes + i % lanes);
      return unsupported("row " + std::to_string(source.row) + " of weight '" +
                         linear.parts[std::max<int64_t>(0, source.part)].name +
                         "' is too large for the scales of " + std::string(info.name) +
                         ": choose another weight format for it");
    }
  return {};
}

/// Takes the codes that error feedback found on the searched grid; rows that come out worse keep
/// theirs.
void TileQuantizer::keepBetter(Tile &tile, const double *fed, TileOutcome &outcome) const {
  for (int64_t row = 0; row < lanes; ++row) {
    if (!(fed[row] <= tile.losses[row])) {
      outcome.rowsKept += row < outcome.rows;
      continue;
    }
    tile.losses[row] = fed[row];
    for (int64_t k = 0; k < cols; ++k)
      tile.codes[k * lanes + row] = tile.otherCodes[k * lanes + row];
  }
}

/// Rows whose loss did not fall in the descent get back what they had.
void TileQuantizer::keepPolished(Tile &tile, const double *polished, TileOutcome &outcome) const {
  for (int64_t row = 0; row < lanes; ++row) {
    if (polished[row] < tile.losses[row]) {
      outcome.rowsPolished += row < outcome.rows;
      tile.losses[row] = polished[row];
      continue;
    }
    for (int64_t k = 0; k < padded; ++k)
      tile.codes[k * lanes + row] = tile.otherCodes[k * lanes + row];
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t i = g * lanes + row;
      tile.steps[i] = tile.otherSteps[i];
      tile.offsets[i] = tile.otherOffsets[i];
      tile.stepCodes[i] = tile.otherStepCodes[i];
      tile.offsetCodes[i] = tile.otherOffsetCodes[i];
    }
  }
}

void TileQuantizer::errors(const Tile &tile, float *out) const {
  for (int64_t k = 0; k < cols; ++k)
    for (int64_t row = 0; row < lanes; ++row) {
      const int64_t i = k / groupCols * lanes + row;
      out[k * lanes + row] = info.grid == Grid::Float
                                 ? 0.0f
                                 : tile.steps[i] * float(tile.codes[k * lanes + row]) -
                                       tile.offsets[i] - tile.weights[k * lanes + row];
    }
}

void TileQuantizer::pack(Tile &tile, std::span<std::byte> out) const {
  TileCodes packed;
  packed.cols = cols;
  if (info.grid == Grid::Float) {
    packed.values = tile.rows;
    packTile(format, packed, out);
    return;
  }
  const int bias = info.grid == Grid::Symmetric ? 1 << (info.bits - 1) : 0;
  tile.packCodes.resize(size_t(lanes * cols));
  for (int64_t row = 0; row < lanes; ++row)
    for (int64_t k = 0; k < cols; ++k) {
      const int8_t level = tile.codes[k * lanes + row];
      tile.packCodes[row * cols + k] =
          info.grid == Grid::Table ? placeOf(level, tableOf(info.bits)) : uint8_t(level + bias);
    }
  packed.codes = tile.packCodes;
  // [groups of the padded tile, 16] to [16, groups of the real columns]
  const int64_t real = info.group ? roundUp(cols, info.group) / info.group : 1;
  auto transpose = [&](const auto &from, auto &to) {
    to.resize(size_t(lanes * real));
    for (int64_t row = 0; row < lanes; ++row)
      for (int64_t g = 0; g < real; ++g)
        to[row * real + g] = std::decay_t<decltype(to[0])>(from[g * lanes + row]);
  };
  if (info.scales == ScaleStorage::Code) {
    transpose(tile.stepCodes, tile.packGroupScales);
    transpose(tile.offsetCodes, tile.packGroupMinimums);
    packed.scales = tile.rowSteps;
    packed.minimums = tile.rowOffsets;
    packed.groupScales = tile.packGroupScales;
    packed.groupMinimums = tile.packGroupMinimums;
  } else {
    transpose(tile.steps, tile.packScales);
    packed.scales = tile.packScales;
  }
  packTile(format, packed, out);
}

void TileQuantizer::decode(const Tile &tile, float *out) const {
  if (info.grid == Grid::Float) {
    std::copy(tile.rows.begin(), tile.rows.end(), out);
    return;
  }
  // step * level is exact where there is an offset, so this rounds as unpackTile does.
  for (int64_t row = 0; row < lanes; ++row)
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t i = k / groupCols * lanes + row;
      out[row * cols + k] = tile.steps[i] * float(tile.codes[k * lanes + row]) - tile.offsets[i];
    }
}

} // namespace smelt
