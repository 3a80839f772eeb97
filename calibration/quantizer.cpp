// Quantizes linears tile by tile; tiles are independent, so workers share them.
#include "calibration/quantizer.h"
#include "calibration/carried_codes.h"
#include "calibration/coupled.h"
#include "calibration/parallel.h"
#include "calibration/tile_quantizer.h"

#include <algorithm>
#include <array>

namespace smelt {

namespace {

struct AlgorithmInfo {
  std::string_view name;
  bool needsStatistics, needsSecondMoments;
};
constexpr AlgorithmInfo algorithmTable[] = {
#define ALGORITHM(enumerator, name, needsStatistics, needsSecondMoments, help)                     \
  {name, needsStatistics, needsSecondMoments},
#include "calibration/algorithms.def"
};

constexpr int64_t lanes = tileRows;
constexpr int64_t waveTiles = 128;   ///< tiles whose results are in memory at a time
constexpr int64_t tilesTogether = 4; ///< tiles that are quantized side by side

Status checkLinear(const LinearWeights &linear, Algorithm algorithm,
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
  if (!needsStatistics(algorithm))
    return {};
  const std::string name(algorithmName(algorithm));
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
  report.searchLoss += outcome.searchLoss;
  report.feedbackLoss += outcome.feedbackLoss;
  report.loss += outcome.loss;
  report.rows += outcome.rows;
  report.rowsKept += outcome.rowsKept;
  report.rowsPolished += outcome.rowsPolished;
  total.squares += outcome.errors.squares;
  total.weightSquares += outcome.errors.weightSquares;
  total.weighted += outcome.errors.weighted;
  total.weightedSquares += outcome.errors.weightedSquares;
}

/// The factors that an algorithm works with; null, with the reason in `fallback`, where the
/// statistics give none.
Result<std::shared_ptr<const ErrorFeedback>> feedbackFor(const InputStatistics &statistics,
                                                         int threads, FeedbackCache *cache,
                                                         std::string &fallback) {
  if (!statistics.secondMoments)
    return invalidArgument("it needs second moments: calibrate with them");
  FeedbackCache own;
  Result<std::shared_ptr<const ErrorFeedback>> factors =
      (cache ? cache : &own)->get(statistics, threads);
  if (factors)
    return factors;
  fallback = factors.status().message();
  return std::shared_ptr<const ErrorFeedback>();
}

/// What the algorithm promises must have happened: the losses are sums over rows of which none may
/// have risen.
Status checkReport(const QuantizationReport &report) {
  if (report.feedbackLoss <= report.searchLoss && report.loss <= report.feedbackLoss &&
      report.coupledLoss <= report.polishedCoupledLoss)
    return {};
  return internalError("its loss rose from " + std::to_string(report.searchLoss) + " to " +
                       std::to_string(report.feedbackLoss) + " to " + std::to_string(report.loss));
}

/// Runs `quantize(indices, place in the wave of the first, tiles, outcomes)` and then, tile by
/// tile, `take(index, place in the wave, tile, outcome)` over the tiles first, first + stride, ..
/// and hands each wave's outcomes to `finish(first place, outcomes)`.
template <typename Quantize, typename Take, typename Finish>
Status forTiles(int64_t tiles, int64_t stride, int threads, const Quantize &quantize,
                const Take &take, const Finish &finish) {
  WorkerPool pool(threads);
  const int64_t chosen = (tiles + stride - 1) / stride;
  // As many side by side as leave every worker something to do.
  const int64_t together = std::clamp<int64_t>(chosen / (2 * pool.threads()), 1, tilesTogether);
  std::vector<TileOutcome> outcomes;
  for (int64_t first = 0; first < chosen; first += waveTiles) {
    outcomes.assign(size_t(std::min(waveTiles, chosen - first)), {});
    const int64_t count = int64_t(outcomes.size());
    pool.run((count + together - 1) / together, [&](int64_t item) {
      thread_local std::array<Tile, tilesTogether> run;
      int64_t indices[tilesTogether];
      const int64_t place = item * together, size = std::min(together, count - place);
      for (int64_t i = 0; i < size; ++i)
        indices[i] = (first + place + i) * stride;
      quantize(std::span<const int64_t>(indices, size_t(size)), place, run.data(),
               &outcomes[place]);
      for (int64_t i = 0; i < size; ++i)
        if (outcomes[place + i].status.ok())
          take(indices[i], place + i, run[size_t(i)], outcomes[place + i]);
    });
    for (TileOutcome &outcome : outcomes)
      SMELT_TRY(std::move(outcome.status));
    SMELT_TRY(finish(first, outcomes));
  }
  return {};
}

/// First row of each part of a linear, and the number of rows at the end.
std::vector<int64_t> partStarts(const LinearWeights &linear) {
  std::vector<int64_t> starts = {0};
  for (const WeightView &part : linear.parts)
    starts.push_back(starts.back() + part.rows);
  return starts;
}

/// Copies the rows of a tile [16, cols] to their places in a matrix of all rows, without padding.
void placeRows(const LinearWeights &linear, const std::vector<int64_t> &starts, int64_t tile,
               const float *from, std::vector<float> &to) {
  const int64_t cols = linear.parts[0].cols;
  for (int64_t lane = 0; lane < lanes; ++lane)
    if (const RowSource source = rowSource(linear, tile * lanes + lane); source.part >= 0)
      std::copy_n(from + lane * cols, cols,
                  to.data() + (starts[size_t(source.part)] + source.row) * cols);
}

/// A whole linear in memory, for what is decided between its tiles.
struct Gathered {
  const LinearWeights &linear;
  const std::vector<int64_t> starts;
  std::vector<float> errors; ///< [rows, cols] what is stored less the weights
  std::vector<std::byte> bytes;

  Gathered(const LinearWeights &linear, bool used) : linear(linear), starts(partStarts(linear)) {
    if (used)
      errors.resize(size_t(starts.back() * linear.parts[0].cols));
  }
  /// Called from several threads, a tile each.
  void add(const TileQuantizer &quantizer, int64_t index, const Tile &tile) {
    thread_local std::vector<float> decoded;
    decoded.resize(tile.rows.size());
    quantizer.decode(tile, decoded.data());
    for (size_t i = 0; i < decoded.size(); ++i)
      decoded[i] -= tile.rows[i];
    placeRows(linear, starts, index, decoded.data(), errors);
  }
};

Result<QuantizationReport> quantizeChecked(const LinearWeights &linear, WeightFormat format,
                                           Algorithm algorithm, const InputStatistics *statistics,
                                           int threads, const ByteSink &sink, FeedbackCache *cache,
                                           const OutputMoments *outputs) {
  QuantizationReport report;
  std::shared_ptr<const ErrorFeedback> feedback;
  const FormatInfo &info = formatInfo(format);
  if (needsSecondMoments(algorithm) && info.grid != Grid::Float && info.grid != Grid::Given) {
    SMELT_ASSIGN(feedback, feedbackFor(*statistics, threads, cache, report.fallback));
    if (feedback) {
      report.damping = feedback->damping;
      report.deadColumns = feedback->deadColumns;
    }
  }
  const TileQuantizer quantizer(linear, format, algorithm, statistics, feedback.get());
  const int64_t tiles = packedRows(linear) / lanes, size = tileBytes(format, linear.parts[0].cols);
  const bool couples = algorithm == Algorithm::Coupled && feedback && outputs;
  Gathered gathered(linear, couples);
  std::vector<std::byte> packed(size_t(std::min(waveTiles, tiles) * size));
  TileErrors total{};
  SMELT_TRY(forTiles(
      tiles, 1, threads,
      [&](std::span<const int64_t> indices, int64_t, Tile *run, TileOutcome *outcomes) {
        if (info.grid != Grid::Given)
          quantizer.run(indices, run, outcomes);
      },
      [&](int64_t index, int64_t place, Tile &tile, TileOutcome &outcome) {
        std::span<std::byte> out = std::span(packed).subspan(size_t(place * size), size_t(size));
        if (info.grid == Grid::Given) {
          outcome.status = carryTile(linear, format, index, outcome.rows, out);
          return;
        }
        quantizer.pack(tile, out);
        if (couples)
          gathered.add(quantizer, index, tile);
      },
      [&](int64_t, const std::vector<TileOutcome> &outcomes) {
        for (const TileOutcome &outcome : outcomes)
          addOutcome(report, total, outcome);
        const std::span<const std::byte> wave =
            std::span(packed).first(outcomes.size() * size_t(size));
        if (!couples)
          return sink(wave);
        gathered.bytes.insert(gathered.bytes.end(), wave.begin(), wave.end());
        return Status();
      }));
  if (couples) {
    WorkerPool pool(threads);
    SMELT_ASSIGN(CoupledLosses losses,
                 quantizeCoupled(linear, quantizer, *feedback, *outputs, std::move(gathered.errors),
                                 gathered.bytes, pool));
    report.polishedCoupledLoss = losses.before;
    report.coupledLoss = losses.after;
    SMELT_TRY(sink(gathered.bytes));
  }
  SMELT_TRY(checkReport(report));
  if (total.weightSquares > 0)
    report.weightError = total.squares / total.weightSquares;
  if (total.weightedSquares > 0)
    report.weightedError = total.weighted / total.weightedSquares;
  return report;
}

Result<std::vector<float>> dequantizeChecked(const LinearWeights &linear, WeightFormat format,
                                             Algorithm algorithm, const InputStatistics *statistics,
                                             int threads, FeedbackCache *cache) {
  if (formatInfo(format).grid == Grid::Given)
    return invalidArgument("its codes are given by the model file");
  std::shared_ptr<const ErrorFeedback> feedback;
  std::string fallback;
  if (needsSecondMoments(algorithm)) {
    SMELT_ASSIGN(feedback, feedbackFor(*statistics, threads, cache, fallback));
  }
  const TileQuantizer quantizer(linear, format, algorithm, statistics, feedback.get());
  const int64_t cols = linear.parts[0].cols;
  const std::vector<int64_t> starts = partStarts(linear);
  std::vector<float> values(size_t(starts.back() * cols));
  SMELT_TRY(forTiles(
      packedRows(linear) / lanes, 1, threads,
      [&](std::span<const int64_t> indices, int64_t, Tile *run, TileOutcome *outcomes) {
        quantizer.run(indices, run, outcomes);
      },
      [&](int64_t index, int64_t, Tile &tile, TileOutcome &) {
        thread_local std::vector<float> decoded;
        decoded.resize(size_t(lanes * cols));
        quantizer.decode(tile, decoded.data());
        placeRows(linear, starts, index, decoded.data(), values);
      },
      [](int64_t, const std::vector<TileOutcome> &) { return Status(); }));
  return values;
}

Result<std::vector<double>> measureChecked(const LinearWeights &linear,
                                           std::span<const WeightFormat> formats,
                                           Algorithm algorithm, const InputStatistics &statistics,
                                           int64_t stride, int threads, FeedbackCache &cache) {
  std::vector<double> losses(formats.size(), 0.0);
  Result<std::shared_ptr<const std::vector<float>>> triangle = cache.triangle(statistics);
  if (!triangle) // no token excited the input: nothing that is stored for it is lost
    return losses;
  std::shared_ptr<const ErrorFeedback> feedback;
  std::string fallback;
  if (needsSecondMoments(algorithm)) {
    SMELT_ASSIGN(feedback, feedbackFor(statistics, threads, &cache, fallback));
  }
  std::vector<TileQuantizer> quantizers;
  for (WeightFormat format : formats) {
    if (formatInfo(format).grid == Grid::Given)
      return invalidArgument("its codes are given by the model file");
    quantizers.emplace_back(linear, format, algorithm, &statistics, feedback.get());
  }
  const int64_t cols = linear.parts[0].cols, count = int64_t(formats.size());
  std::vector<double> wave(size_t(waveTiles * count * lanes)); // of each tile
  int64_t rows = 0, all = 0;
  for (const WeightView &part : linear.parts)
    all += part.rows;
  SMELT_TRY(forTiles(
      packedRows(linear) / lanes, stride, threads,
      [&](std::span<const int64_t> indices, int64_t place, Tile *run, TileOutcome *outcomes) {
        const int64_t tiles = int64_t(indices.size()), size = cols * lanes;
        thread_local std::vector<float> errors; // [tiles, formats, cols, 16]
        errors.resize(size_t(tiles * count * size));
        for (int64_t f = 0; f < count; ++f) {
          std::fill_n(outcomes, tiles, TileOutcome());
          quantizers[size_t(f)].run(indices, run, outcomes);
          for (int64_t i = 0; i < tiles; ++i) {
            if (!outcomes[i].status.ok())
              return;
            quantizers[size_t(f)].errors(run[i], errors.data() + (i * count + f) * size);
          }
        }
        tileKernels().momentLosses((*triangle)->data(), cols, errors.data(), tiles * count,
                                   wave.data() + place * count * lanes);
      },
      [](int64_t, int64_t, Tile &, TileOutcome &) {},
      [&](int64_t, const std::vector<TileOutcome> &outcomes) {
        for (size_t i = 0; i < outcomes.size(); ++i) {
          rows += outcomes[i].rows;
          for (int64_t f = 0; f < count; ++f)
            for (int64_t row = 0; row < outcomes[i].rows; ++row)
              losses[size_t(f)] += wave[(i * size_t(count) + size_t(f)) * lanes + size_t(row)];
        }
        return Status();
      }));
  for (double &loss : losses)
    loss *= rows ? double(all) / double(rows) : 0;
  return losses;
}

/// Calls `work` on a linear that passed the checks; what fails names the linear.
template <typename Work>
auto forLinear(const LinearWeights &linear, Algorithm algorithm, const InputStatistics *statistics,
               const Work &work) -> decltype(work()) {
  Status status = checkLinear(linear, algorithm, statistics);
  if (!status.ok())
    return std::move(status).withContext("linear '" + linear.name + "'");
  auto result = work();
  if (!result)
    return std::move(result).status().withContext("linear '" + linear.name + "'");
  return result;
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

std::string_view algorithmName(Algorithm algorithm) {
  return algorithmTable[uint32_t(algorithm)].name;
}

bool needsStatistics(Algorithm algorithm) {
  return algorithmTable[uint32_t(algorithm)].needsStatistics;
}

bool needsSecondMoments(Algorithm algorithm) {
  return algorithmTable[uint32_t(algorithm)].needsSecondMoments;
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
                                          int threads, const ByteSink &sink, FeedbackCache *cache,
                                          const OutputMoments *outputs) {
  return forLinear(linear, algorithm, statistics, [&] {
    return quantizeChecked(linear, format, algorithm, statistics, threads, sink, cache, outputs);
  });
}

Result<std::vector<float>> dequantizeLinear(const LinearWeights &linear, WeightFormat format,
                                            Algorithm algorithm, const InputStatistics *statistics,
                                            int threads, FeedbackCache *cache) {
  return forLinear(linear, algorithm, statistics, [&] {
    return dequantizeChecked(linear, format, algorithm, statistics, threads, cache);
  });
}

Result<std::vector<double>> measureLinear(const LinearWeights &linear,
                                          std::span<const WeightFormat> formats,
                                          Algorithm algorithm, const InputStatistics &statistics,
                                          int64_t stride, int threads, FeedbackCache *cache) {
  FeedbackCache own;
  return forLinear(linear, Algorithm::Search, &statistics, [&] {
    return measureChecked(linear, formats, algorithm, statistics, stride, threads,
                          cache ? *cache : own);
  });
}

} // namespace smelt
