// Waves of tiles, each against the errors of the waves before.
#include "calibration/coupled.h"
#include "calibration/gemm.h"

#include <algorithm>
#include <cmath>

// LAPACK and OpenBLAS, as in error_feedback.cpp.
extern "C" void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
extern "C" void openblas_set_num_threads(int count);

namespace smelt {

namespace {

constexpr int64_t lanes = tileRows;
/// Added to G_nn, relative to their mean: G is an estimate from few tokens.
constexpr double damping = 0.05;
/// Tiles that are quantized side by side, blind to each other's errors. They lie far apart, so that
/// their rows have little in common.
constexpr int64_t waveTiles = 4;

/// Rows of one tile that lie side by side in a block.
struct Run {
  int64_t lane, count, block;
  int64_t position; ///< of the first, in the block's order
};

/// A block of G in the order in which rows are quantized.
struct OrderedBlock {
  int64_t start = 0; ///< of its rows among all, in order
  std::vector<int64_t> rows;
  std::vector<float> moments; ///< [count, count] damped
  int64_t count() const { return int64_t(rows.size()); }
};

class Coupling {
public:
  Coupling(const LinearWeights &linear, const TileQuantizer &quantizer,
           const ErrorFeedback &feedback, WorkerPool &pool)
      : linear(linear), quantizer(quantizer), feedback(feedback), pool(pool),
        cols(linear.parts[0].cols), tiles(packedRows(linear) / lanes) {
    for (const WeightView &part : linear.parts) {
      starts.push_back(rows);
      rows += part.rows;
    }
  }

  Result<CoupledLosses> run(const OutputMoments &outputs, std::vector<float> given,
                            std::vector<std::byte> &packed) {
    SMELT_TRY(arrange(outputs));
    if (tiles * tileSize(packed) != int64_t(packed.size()) || int64_t(given.size()) != rows * cols)
      return internalError("a coupled linear has tiles of different sizes");
    errors.resize(given.size());
    for (const OrderedBlock &block : blocks)
      for (int64_t i = 0; i < block.count(); ++i)
        std::copy_n(given.data() + block.rows[size_t(i)] * cols, cols,
                    errors.data() + (block.start + i) * cols);
    CoupledLosses losses;
    losses.before = losses.after = loss();
    std::vector<std::byte> tried = packed;
    SMELT_TRY(feedForward(tried));
    if (const double reached = loss(); reached < losses.before) {
      losses.after = reached;
      packed = std::move(tried);
    }
    return losses;
  }

private:
  int64_t tileSize(const std::vector<std::byte> &packed) const {
    return int64_t(packed.size()) / tiles;
  }

  /// Orders tiles and rows, and permutes and damps G.
  Status arrange(const OutputMoments &outputs) {
    std::vector<int64_t> blockOf(size_t(rows), -1);
    int64_t covered = 0;
    for (size_t b = 0; b < outputs.blocks.size(); ++b) {
      const OutputMoments::Block &block = outputs.blocks[b];
      if (block.first != covered || block.count <= 0 || covered + block.count > rows ||
          int64_t(block.values.size()) != block.count * block.count)
        return invalidArgument("its output moments do not fit its rows");
      for (int64_t n = 0; n < block.count; ++n)
        blockOf[size_t(covered++)] = int64_t(b);
    }
    if (covered != rows)
      return invalidArgument("its output moments are of " + std::to_string(covered) +
                             " rows, but it has " + std::to_string(rows));
    blocks.resize(outputs.blocks.size());
    const int64_t stride = (tiles + waveTiles - 1) / waveTiles;
    runs.resize(size_t(tiles));
    for (int64_t first = 0; first < stride; ++first) {
      waves.emplace_back();
      for (int64_t tile = first; tile < tiles; tile += stride) {
        waves.back().push_back(tile);
        for (int64_t lane = 0; lane < lanes; ++lane) {
          const RowSource source = rowSource(linear, tile * lanes + lane);
          if (source.part < 0)
            break;
          const int64_t row = starts[size_t(source.part)] + source.row, b = blockOf[size_t(row)];
          std::vector<Run> &ofTile = runs[size_t(tile)];
          if (ofTile.empty() || ofTile.back().block != b)
            ofTile.push_back({lane, 0, b, blocks[size_t(b)].count()});
          ++ofTile.back().count;
          blocks[size_t(b)].rows.push_back(row);
        }
      }
    }
    int64_t start = 0;
    for (size_t b = 0; b < blocks.size(); ++b) {
      OrderedBlock &block = blocks[b];
      const OutputMoments::Block &from = outputs.blocks[b];
      const int64_t count = block.count();
      block.start = start;
      start += count;
      double mean = 0;
      for (int64_t n = 0; n < count; ++n)
        mean += double(from.values[size_t(n * count + n)]) / double(count);
      if (!(mean > 0) || !std::isfinite(mean))
        mean = 1; // nothing depends on these rows
      block.moments.resize(size_t(count * count));
      for (int64_t i = 0; i < count; ++i) {
        const float *row = from.values.data() + (block.rows[size_t(i)] - from.first) * count;
        for (int64_t j = 0; j < count; ++j)
          block.moments[size_t(i * count + j)] = row[block.rows[size_t(j)] - from.first];
        block.moments[size_t(i * count + i)] += float(damping * mean);
      }
    }
    return {};
  }

  /// tr(G D H D^T) of the present errors, by runs of rows.
  double loss() {
    constexpr int64_t run = 64;
    double sum = 0;
    for (const OrderedBlock &block : blocks) {
      const int64_t count = block.count();
      std::vector<double> partial(size_t((count + run - 1) / run), 0.0);
      pool.run(int64_t(partial.size()), [&](int64_t item) {
        const int64_t first = item * run, size = std::min(run, count - first);
        const float *d = errors.data() + block.start * cols;
        thread_local std::vector<float> moved, felt; // D H and G D of the run, [size, cols]
        moved.resize(size_t(size * cols));
        felt.resize(size_t(size * cols));
        for (int64_t panel = 0; panel < momentPanels(cols); ++panel) {
          const int64_t column = panel * momentPanel;
          gemm(false, false, size, std::min(momentPanel, cols - column), cols, 1.0f,
               d + first * cols, cols, feedback.moments.data() + column * cols, momentPanel,
               moved.data() + column, cols);
        }
        gemm(false, false, size, cols, count, 1.0f, block.moments.data() + first * count, count, d,
             cols, felt.data(), cols);
        for (int64_t i = 0; i < size * cols; ++i)
          partial[size_t(item)] += double(moved[size_t(i)]) * double(felt[size_t(i)]);
      });
      for (double value : partial)
        sum += value;
    }
    return sum;
  }

  /// Row i of `coefficients` [count, count]: what the errors of rows before i's wave add to row i.
  Result<std::vector<float>> feedbackOf(const OrderedBlock &block,
                                        const std::vector<int64_t> &bounds) const {
    const int64_t count = block.count();
    std::vector<double> matrix(size_t(count * count));
    // Reversed, so that the lower factor is the upper one of the original (error_feedback.cpp).
    for (int64_t column = 0; column < count; ++column)
      for (int64_t row = column; row < count; ++row)
        matrix[size_t(column * count + row)] =
            block.moments[size_t((count - 1 - row) * count + count - 1 - column)];
    openblas_set_num_threads(1);
    const int n = int(count);
    int failed = 0;
    dpotrf_("L", &n, matrix.data(), &n, &failed);
    if (failed)
      return invalidArgument("its output moments are not positive definite");
    auto factor = [&](int64_t j, int64_t i) {
      return matrix[size_t((count - 1 - i) * count + count - 1 - j)]; // R_ji, j <= i
    };
    std::vector<float> coefficients(size_t(count * count), 0.0f);
    for (size_t w = 0; w + 1 < bounds.size(); ++w) {
      const int64_t from = bounds[w], to = bounds[w + 1];
      // R_BB^T A = R_PB^T D_P, rows B of the wave and P before it.
      std::vector<double> solved(size_t((to - from) * from));
      for (int64_t i = from; i < to; ++i) {
        double *out = solved.data() + (i - from) * from;
        for (int64_t p = 0; p < from; ++p)
          out[p] = factor(p, i);
        for (int64_t j = from; j < i; ++j) {
          const double *other = solved.data() + (j - from) * from;
          const double weight = factor(j, i);
          for (int64_t p = 0; p < from; ++p)
            out[p] -= weight * other[p];
        }
        for (int64_t p = 0; p < from; ++p)
          coefficients[size_t(i * count + p)] = float(out[p] /= factor(i, i));
      }
    }
    return coefficients;
  }

  /// All tiles in turn, each corrected by the errors of the waves before.
  Status feedForward(std::vector<std::byte> &packed) {
    std::vector<std::vector<float>> coefficients;
    for (size_t b = 0; b < blocks.size(); ++b) {
      std::vector<int64_t> bounds = {0};
      for (const std::vector<int64_t> &wave : waves) {
        int64_t added = 0;
        for (int64_t tile : wave)
          for (const Run &run : runs[size_t(tile)])
            added += run.block == int64_t(b) ? run.count : 0;
        bounds.push_back(bounds.back() + added);
      }
      SMELT_ASSIGN(std::vector<float> ofBlock, feedbackOf(blocks[b], bounds));
      coefficients.push_back(std::move(ofBlock));
    }
    // Rows of later waves count for nothing: their coefficients are zero.
    return pass(packed, [&](const Run &run, float *shift) {
      const OrderedBlock &block = blocks[size_t(run.block)];
      const int64_t count = block.count();
      gemm(false, false, run.count, cols, count, -1.0f,
           coefficients[size_t(run.block)].data() + run.position * count, count,
           errors.data() + block.start * cols, cols, shift, cols);
    });
  }

  /// Quantizes all tiles, wave by wave, with the weights moved by `shift(run, [count, cols])`.
  template <typename Shift> Status pass(std::vector<std::byte> &packed, const Shift &shift) {
    const int64_t size = tileSize(packed);
    std::vector<float> decoded; // [tiles of a wave, 16, cols]
    std::vector<Status> statuses;
    for (const std::vector<int64_t> &wave : waves) {
      decoded.resize(wave.size() * size_t(lanes * cols));
      statuses.assign(wave.size(), {});
      pool.run(int64_t(wave.size()), [&](int64_t item) {
        const int64_t index = wave[size_t(item)];
        thread_local Tile tile;
        thread_local std::vector<float> shifts; // [16, cols]
        shifts.assign(size_t(lanes * cols), 0.0f);
        for (const Run &run : runs[size_t(index)])
          shift(run, shifts.data() + run.lane * cols);
        TileOutcome outcome;
        quantizer.run({&index, 1}, &tile, &outcome, shifts.data());
        statuses[size_t(item)] = std::move(outcome.status);
        if (!statuses[size_t(item)].ok())
          return;
        quantizer.pack(tile, std::span(packed).subspan(size_t(index * size), size_t(size)));
        float *out = decoded.data() + item * lanes * cols;
        quantizer.decode(tile, out);
        for (int64_t i = 0; i < lanes * cols; ++i) // less the weights, not those aimed at
          out[i] -= tile.rows[size_t(i)] - shifts[size_t(i)];
      });
      for (size_t item = 0; item < wave.size(); ++item) {
        SMELT_TRY(std::move(statuses[item]));
        for (const Run &run : runs[size_t(wave[item])])
          std::copy_n(decoded.data() + (int64_t(item) * lanes + run.lane) * cols, run.count * cols,
                      errors.data() + (blocks[size_t(run.block)].start + run.position) * cols);
      }
    }
    return {};
  }

  const LinearWeights &linear;
  const TileQuantizer &quantizer;
  const ErrorFeedback &feedback;
  WorkerPool &pool;
  const int64_t cols, tiles;
  int64_t rows = 0;
  std::vector<int64_t> starts;             ///< first row of each part
  std::vector<std::vector<int64_t>> waves; ///< tiles
  std::vector<std::vector<Run>> runs;      ///< by tile
  std::vector<OrderedBlock> blocks;
  std::vector<float> errors; ///< [rows in the blocks' order, cols]
};

} // namespace

Result<CoupledLosses> quantizeCoupled(const LinearWeights &linear, const TileQuantizer &quantizer,
                                      const ErrorFeedback &feedback, const OutputMoments &outputs,
                                      std::vector<float> errors, std::vector<std::byte> &packed,
                                      WorkerPool &pool) {
  return Coupling(linear, quantizer, feedback, pool).run(outputs, std::move(errors), packed);
}

} // namespace smelt
