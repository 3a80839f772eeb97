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
  /// Rounds column by column, each weight first corrected by the errors made before, into `codes`;
  /// beside it their loss [16]. `errors` is scratch, [count, 16].
  void (*roundFeedback)(const TileProblem &problem, const TileGrid &grid,
                        const FeedbackOrder &feedback, int8_t *codes, float *errors, double *loss);
  /// Loss d^T H d [16] of given codes, by the same factors.
  void (*feedbackLoss)(const TileProblem &problem, const TileGrid &grid,
                       const FeedbackOrder &feedback, const int8_t *codes, float *errors,
                       double *loss);
  /// Coordinate descent on codes and stored scales by H, `moments` [inputs, inputs]; changes codes
  /// and grid. `scratch` is [2, cols, 16].
  void (*polish)(const TileProblem &problem, const TileGrid &grid, const float *moments,
                 int8_t *codes, float *scratch);
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
