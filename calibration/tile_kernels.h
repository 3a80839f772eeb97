// Hot loops of quantization over one tile of 16 rows, compiled once per instruction set level;
// every level gives the same bits.
#pragma once

#include "runtime/formats/formats.h"

#include <cstdint>

namespace smelt {

/// Sixteen output rows side by side: vector lanes are rows, so that sums over inputs never cross
/// lanes. Inputs are padded to whole groups of 32 with zero weights of zero importance.
struct TileProblem {
  const float *weights;    ///< [cols, 16]
  const float *importance; ///< [cols], E[x_k^2] up to a factor
  int64_t cols;            ///< padded
  int64_t inputs;          ///< of them, the real ones
};

/// The values that a weight can take: step * q - offset with an integer q in [lowest, highest].
struct TileGrid {
  float *steps;      ///< [cols / groupCols, 16]
  float *offsets;    ///< [cols / groupCols, 16]
  int64_t groupCols; ///< inputs that share a step: 32, or all
  float lowest, highest;
};

/// How an asymmetric grid is stored: step = rowSteps * groupSteps, offset = rowOffsets *
/// groupOffsets.
struct AsymmetricCodes {
  float *rowSteps, *rowOffsets;       ///< [16]
  uint8_t *groupSteps, *groupOffsets; ///< [cols / 32, 16]
};

/// Error feedback in the order `order` (columns of the tile): see gptq.h.
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
  /// Steps and offsets of an asymmetric grid with zero offset or more: min/max, or the
  /// importance-weighted search.
  void (*fitAsymmetric)(const TileProblem &problem, bool search, const TileGrid &grid);
  /// Quantizes steps and offsets to 8 bits over two factors per row; with `search` the neighbours
  /// of the rounded values compete by weighted error. `grid` then holds what the codes mean.
  void (*quantizeAsymmetric)(const TileProblem &problem, bool search, const TileGrid &grid,
                             const AsymmetricCodes &codes);
  /// Signed steps of a symmetric grid of 16 levels, representable as half: largest magnitude on -8,
  /// or the search over both signs.
  void (*fitSymmetric4)(const TileProblem &problem, bool search, const TileGrid &grid);
  /// Steps of a symmetric grid of 255 levels, one for all inputs of a row.
  void (*fitSymmetric8)(const TileProblem &problem, bool search, const TileGrid &grid);
  /// q = nearest grid point; codes [cols, 16].
  void (*roundNearest)(const TileProblem &problem, const TileGrid &grid, int8_t *codes);
  /// Rounds column by column, each weight first corrected by the errors made before, into `codes`;
  /// beside it the loss [16] of these codes and that of the given ones, `nearest`, with the same
  /// factors. `errors` is scratch, [count, 2, 16].
  void (*roundFeedback)(const TileProblem &problem, const TileGrid &grid,
                        const FeedbackOrder &feedback, const int8_t *nearest, int8_t *codes,
                        float *errors, double *nearestLoss, double *loss);
  /// Errors of rows [0, rows) of the tile.
  TileErrors (*measure)(const TileProblem &problem, const TileGrid &grid, const int8_t *codes,
                        int64_t rows);
};

/// The kernels for the CPU this runs on.
const TileKernels &tileKernels();

} // namespace smelt
