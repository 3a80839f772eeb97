// Hot loops of quantization over one tile of 16 rows, compiled once per instruction set level;
// every level gives the same bits.
#pragma once

#include "runtime/formats/formats.h"

#include <cstdint>

namespace smelt {

/// Sixteen output rows side by side: vector lanes are rows, so that sums over inputs never cross
/// lanes. Inputs are padded to whole blocks of 64 with zero weights of zero importance.
struct TileProblem {
  const float *weights;    ///< [cols, 16]
  const float *omega;      ///< [cols, 16] what a squared error of each weight counts in the search
  const float *importance; ///< [cols] E[x_k^2] up to a factor: what it counts in the report
  int64_t cols;            ///< padded
  int64_t inputs;          ///< of them, the real ones
};

/// The values that a weight can take: step * level - offset, offset >= 0 and zero unless the grid
/// is asymmetric.
struct GridKind {
  Grid grid = Grid::Float;
  ScaleStorage scales = ScaleStorage::None;
  float lowest = 0, highest = 0;         ///< levels: the integers between, or those of the table
  float lowestStep = 0, highestStep = 0; ///< ScaleStorage::Code: range of the steps' codes
  int64_t group = 0;                     ///< inputs that share a step; 0: the whole row
  int bits = 0;                          ///< of a code
};

/// The grid of a tile. Codes of weights are the levels themselves.
struct TileGrid {
  GridKind kind;
  int64_t groupCols;                ///< inputs that share a step, all of them if a row does
  float *steps, *offsets;           ///< [cols / groupCols, 16]
  float *rowSteps, *rowOffsets;     ///< [16] ScaleStorage::Code: step = rowSteps * stepCodes,
  int16_t *stepCodes, *offsetCodes; ///< [cols / groupCols, 16]; offset = rowOffsets * offsetCodes
};

/// Error feedback in the order `order` (columns of the tile): see error_feedback.h.
struct FeedbackOrder {
  const int32_t *order;  ///< [count] column processed at step i
  const float *factors;  ///< [count, count]: row i holds what the errors of steps 0 .. i-1 add to
                         ///< the weight of step i
  const float *diagonal; ///< [count] weight of step i's remaining error in the loss
  int64_t count;
};

/// H = E[x x^T] by panels of `momentPanel` columns, one after the other, each [inputs,
/// momentPanel], the last filled up with zeros: what a panel's changes do to all gradients is then
/// read along.
constexpr int64_t momentPanel = 32;
constexpr int64_t momentPanels(int64_t inputs) { return (inputs + momentPanel - 1) / momentPanel; }

/// A tile on its way through error feedback or descent.
struct TileWork {
  const TileProblem *problem;
  const TileGrid *grid;
  int8_t *codes;  ///< [cols, 16]
  float *scratch; ///< [2, cols, 16]
  double *losses; ///< [16] of the rows: sums of d^T H d
};

struct TileErrors {
  double squares, weightSquares, weighted,
      weightedSquares; ///< of error and weight, plain and times importance
};

struct TileKernels {
  /// Chooses steps and offsets as they can be stored: from minimum and maximum, or (`search`) those
  /// of least omega-weighted error.
  void (*searchScales)(const TileProblem &problem, bool search, const TileGrid &grid);
  /// Codes [cols, 16] of the nearest grid points.
  void (*roundNearest)(const TileProblem &problem, const TileGrid &grid, int8_t *codes);
  // The next three take several tiles of one linear side by side, so that what they read of H or
  // its factors serves all; a tile's result does not depend on those beside it.
  /// Rounds column by column, each weight first corrected by the errors made before, into `codes`,
  /// and says their losses.
  void (*roundFeedback)(const TileWork *tiles, int64_t count, const FeedbackOrder &feedback);
  /// Losses of given codes, by the same factors.
  void (*feedbackLoss)(const TileWork *tiles, int64_t count, const FeedbackOrder &feedback);
  /// Coordinate descent on codes and stored scales by H, `moments` in panels; changes codes and
  /// grid, and says the losses that it ends at.
  void (*polish)(const TileWork *tiles, int64_t count, const float *moments);
  /// Losses d^T H d [count, 16] of several errors d [count, inputs, 16] by H itself, the upper
  /// triangle by rows (statistics.h).
  void (*momentLosses)(const float *triangle, int64_t inputs, const float *errors, int64_t count,
                       double *losses);
  /// Errors of rows [0, rows) of the tile.
  TileErrors (*measure)(const TileProblem &problem, const TileGrid &grid, const int8_t *codes,
                        int64_t rows);
};

/// The kernels for the CPU this runs on.
const TileKernels &tileKernels();

} // namespace smelt
