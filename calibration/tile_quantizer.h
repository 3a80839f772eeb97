// One tile of 16 rows on its way from floats to codes.
#pragma once

#include "calibration/error_feedback.h"
#include "calibration/quantizer.h"
#include "calibration/tile_kernels.h"

#include <vector>

namespace smelt {

/// The values that a format's weights can take.
GridKind gridKind(const FormatInfo &info);

/// A row of a tile: which part it comes from, or none for padding.
struct RowSource {
  int64_t part = -1, row = 0;
};
RowSource rowSource(const LinearWeights &linear, int64_t packedRow);

/// Everything about one tile while it is worked on; buffers are kept from tile to tile.
struct Tile {
  std::vector<float> rows;           ///< [16, cols] as read
  std::vector<float> weights;        ///< [padded, 16]
  std::vector<float> omega;          ///< [padded, 16]
  std::vector<float> steps, offsets; ///< [groups, 16]
  std::vector<int16_t> stepCodes, offsetCodes;
  float rowSteps[tileRows], rowOffsets[tileRows];
  std::vector<int8_t> codes; ///< [padded, 16]
  // What competes with them.
  std::vector<int8_t> otherCodes;
  std::vector<float> otherSteps, otherOffsets;
  std::vector<int16_t> otherStepCodes, otherOffsetCodes;
  std::vector<float> scratch; ///< [2, padded, 16] from the first whole cache line on
  double losses[tileRows];    ///< of the codes so far
  // Row-major copies for packTile.
  std::vector<uint8_t> packCodes, packGroupScales, packGroupMinimums;
  std::vector<float> packScales;
};

/// What one tile contributes to the report, or why it failed. Losses are sums of d^T H d.
struct TileOutcome {
  Status status;
  TileErrors errors{};
  double searchLoss = 0, feedbackLoss = 0, loss = 0;
  int64_t rows = 0, rowsKept = 0, rowsPolished = 0;
};

/// Quantizes the tiles of one linear in one format; safe for several threads, one Tile each.
class TileQuantizer {
public:
  /// `feedback` may be null: then algorithms that need it stop at the search, and losses stay zero.
  TileQuantizer(const LinearWeights &linear, WeightFormat format, Algorithm algorithm,
                const InputStatistics *statistics, const ErrorFeedback *feedback);

  /// Reads the tiles of these indices and decides their grids and codes (not for formats of given
  /// codes), side by side; what comes out of one does not depend on the others. What is aimed at is
  /// the weights plus `shift` [16, cols], if that is given.
  void run(std::span<const int64_t> indices, Tile *tiles, TileOutcome *outcomes,
           const float *shift = nullptr) const;
  /// What is stored less what was read, [cols, 16]; after run().
  void errors(const Tile &tile, float *out) const;
  /// Bytes of the tile (tileBytes); after run().
  void pack(Tile &tile, std::span<std::byte> out) const;
  /// The values that the packed tile would decode to, [16, cols]; after run().
  void decode(const Tile &tile, float *out) const;

private:
  Status read(int64_t index, Tile &tile, int64_t &count) const;
  void weigh(Tile &tile) const;
  TileGrid gridOf(Tile &tile) const;
  Status checkScales(int64_t index, const TileGrid &grid) const;
  bool prepare(int64_t index, Tile &tile, TileOutcome &outcome, const float *shift) const;
  void improve(std::span<Tile *const> tiles, std::span<TileOutcome *const> outcomes) const;
  void keepBetter(Tile &tile, const double *fed, TileOutcome &outcome) const;
  void keepPolished(Tile &tile, const double *polished, TileOutcome &outcome) const;
  FeedbackOrder feedbackOrder() const;
  TileProblem problemOf(const Tile &tile) const;

  const LinearWeights &linear;
  const WeightFormat format;
  const FormatInfo &info;
  const GridKind kind;
  const Algorithm algorithm;
  const int64_t cols, padded;
  const int64_t groupCols, groups; ///< of the padded tile
  std::vector<float> importance;   ///< [padded]
  const ErrorFeedback *feedback;
};

} // namespace smelt
