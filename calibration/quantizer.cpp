// Quantizes linears tile by tile; tiles are independent, so workers share them.
#include "calibration/quantizer.h"
#include "calibration/carried_codes.h"
#include "calibration/parallel.h"
#include "calibration/tile_quantizer.h"

#include <algorithm>

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
constexpr int64_t waveTiles = 128; ///< tiles whose results are in memory at a time

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
Result<std::shared_ptr<const ErrorFeedback>>
feedbackFor(const InputStatistics &statistics, FeedbackCache *cache, std::string &fallback) {
  if (!statistics.secondMoments)
    return invalidArgument("it needs second moments: calibrate with them");
  FeedbackCache own;
  Result<std::shared_ptr<const ErrorFeedback>> factors = (cache ? cache : &own)->get(statistics);
  if (factors)
    return factors;
  fallback = factors.status().message();
  return std::shared_ptr<const ErrorFeedback>();
}

/// What the algorithm promises must have happened: the losses are sums over rows of which none may
/// have risen.
Status checkReport(const QuantizationReport &report) {
  if (report.feedbackLoss <= report.searchLoss && report.loss <= report.feedbackLoss)
    return {};
  return internalError("its loss rose from " + std::to_string(report.searchLoss) + " to " +
                       std::to_string(report.feedbackLoss) + " to " + std::to_string(report.loss));
}

/// Runs `work(tile index, place in the wave, tile)` over the tiles first, first + stride, .. and
/// hands each wave's outcomes to `finish(first place, outcomes)`.
template <typename Work, typename Finish>
Status forTiles(int64_t tiles, int64_t stride, int threads, const Work &work,
                const Finish &finish) {
  WorkerPool pool(threads);
  const int64_t chosen = (tiles + stride - 1) / stride;
  std::vector<TileOutcome> outcomes;
  for (int64_t first = 0; first < chosen; first += waveTiles) {
    outcomes.assign(size_t(std::min(waveTiles, chosen - first)), {});
    pool.run(int64_t(outcomes.size()), [&](int64_t i) {
      thread_local Tile tile;
      outcomes[i] = work((first + i) * stride, i, tile);
    });
    for (TileOutcome &outcome : outcomes)
      SMELT_TRY(std::move(outcome.status));
    SMELT_TRY(finish(first, outcomes));
  }
  return {};
}

Result<QuantizationReport> quantizeChecked(const LinearWeights &linear, WeightFormat format,
                                           Algorithm algorithm, const InputStatistics *statistics,
                                           int threads, const ByteSink &sink,
                                           FeedbackCache *cache) {
  QuantizationReport report;
  std::shared_ptr<const ErrorFeedback> feedback;
  const FormatInfo &info = formatInfo(format);
  if (needsSecondMoments(algorithm) && info.grid != Grid::Float && info.grid != Grid::Given) {
    SMELT_ASSIGN(feedback, feedbackFor(*statistics, cache, report.fallback));
    if (feedback) {
      report.damping = feedback->damping;
      report.deadColumns = feedback->deadColumns;
    }
  }
  const TileQuantizer quantizer(linear, format, algorithm, statistics, feedback.get());
  const int64_t tiles = packedRows(linear) / lanes, size = tileBytes(format, linear.parts[0].cols);
  std::vector<std::byte> packed(size_t(std::min(waveTiles, tiles) * size));
  TileErrors total{};
  SMELT_TRY(forTiles(
      tiles, 1, threads,
      [&](int64_t index, int64_t place, Tile &tile) {
        std::span<std::byte> out = std::span(packed).subspan(size_t(place * size), size_t(size));
        TileOutcome outcome;
        if (info.grid == Grid::Given) {
          outcome.status = carryTile(linear, format, index, outcome.rows, out);
          return outcome;
        }
        outcome = quantizer.run(index, tile);
        if (outcome.status.ok())
          quantizer.pack(tile, out);
        return outcome;
      },
      [&](int64_t, const std::vector<TileOutcome> &outcomes) {
        for (const TileOutcome &outcome : outcomes)
          addOutcome(report, total, outcome);
        return sink(std::span(packed).first(outcomes.size() * size_t(size)));
      }));
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
    SMELT_ASSIGN(feedback, feedbackFor(*statistics, cache, fallback));
  }
  const TileQuantizer quantizer(linear, format, algorithm, statistics, feedback.get());
  const int64_t cols = linear.parts[0].cols;
  std::vector<int64_t> starts; // first row of each part
  int64_t rows = 0;
  for (const WeightView &part : linear.parts) {
    starts.push_back(rows);
    rows += part.rows;
  }
  std::vector<float> values(size_t(rows * cols));
  SMELT_TRY(forTiles(
      packedRows(linear) / lanes, 1, threads,
      [&](int64_t index, int64_t, Tile &tile) {
        TileOutcome outcome = quantizer.run(index, tile);
        thread_local std::vector<float> decoded;
        decoded.resize(size_t(lanes * cols));
        quantizer.decode(tile, decoded.data());
        for (int64_t row = 0; row < outcome.rows; ++row) {
          const RowSource source = rowSource(linear, index * lanes + row);
          std::copy_n(decoded.data() + row * cols, cols,
                      values.data() + (starts[source.part] + source.row) * cols);
        }
        return outcome;
      },
      [](int64_t, const std::vector<TileOutcome> &) { return Status(); }));
  return values;
}

Result<LinearLosses> measureChecked(const LinearWeights &linear,
                                    std::span<const WeightFormat> formats, Algorithm algorithm,
                                    const InputStatistics &statistics, int64_t stride, int threads,
                                    FeedbackCache *cache) {
  std::string fallback;
  SMELT_ASSIGN(std::shared_ptr<const ErrorFeedback> feedback,
               feedbackFor(statistics, cache, fallback));
  LinearLosses result;
  result.losses.assign(formats.size(), 0.0);
  if (!feedback) // no token excited the input: nothing that is stored for it is lost
    return result;
  std::vector<TileQuantizer> quantizers;
  for (WeightFormat format : formats) {
    if (formatInfo(format).grid == Grid::Given)
      return invalidArgument("its codes are given by the model file");
    quantizers.emplace_back(linear, format, algorithm, &statistics, feedback.get());
  }
  const TileQuantizer plain(linear, WeightFormat::F32, algorithm, &statistics, feedback.get());
  struct Losses {
    double power = 0;
    std::vector<double> ofFormats;
  };
  std::vector<Losses> wave(waveTiles);
  int64_t rows = 0, all = 0;
  for (const WeightView &part : linear.parts)
    all += part.rows;
  SMELT_TRY(forTiles(
      packedRows(linear) / lanes, stride, threads,
      [&](int64_t index, int64_t place, Tile &tile) {
        TileOutcome read = plain.run(index, tile);
        wave[place].power = plain.power(tile, read.rows);
        wave[place].ofFormats.clear();
        for (const TileQuantizer &quantizer : quantizers) {
          TileOutcome outcome = quantizer.run(index, tile);
          wave[place].ofFormats.push_back(outcome.loss);
          if (!outcome.status.ok())
            return outcome;
        }
        return read;
      },
      [&](int64_t, const std::vector<TileOutcome> &outcomes) {
        for (size_t i = 0; i < outcomes.size(); ++i) {
          rows += outcomes[i].rows;
          result.power += wave[i].power;
          for (size_t f = 0; f < formats.size(); ++f)
            result.losses[f] += wave[i].ofFormats[f];
        }
        return Status();
      }));
  const double scale = rows ? double(all) / double(rows) : 0;
  result.power *= scale;
  for (double &loss : result.losses)
    loss *= scale;
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
                                          int threads, const ByteSink &sink, FeedbackCache *cache) {
  Status status = checkLinear(linear, algorithm, statistics);
  if (!status.ok())
    return std::move(status).withContext("linear '" + linear.name + "'");
  Result<QuantizationReport> report =
      quantizeChecked(linear, format, algorithm, statistics, threads, sink, cache);
  if (!report)
    return std::move(report).status().withContext("linear '" + linear.name + "'");
  return report;
}

Result<std::vector<float>> dequantizeLinear(const LinearWeights &linear, WeightFormat format,
                                            Algorithm algorithm, const InputStatistics *statistics,
                                            int threads, FeedbackCache *cache) {
  Status status = checkLinear(linear, algorithm, statistics);
  if (!status.ok())
    return std::move(status).withContext("linear '" + linear.name + "'");
  Result<std::vector<float>> values =
      dequantizeChecked(linear, format, algorithm, statistics, threads, cache);
  if (!values)
    return std::move(values).status().withContext("linear '" + linear.name + "'");
  return values;
}

Result<LinearLosses> measureLinear(const LinearWeights &linear,
                                   std::span<const WeightFormat> formats, Algorithm algorithm,
                                   const InputStatistics &statistics, int64_t stride, int threads,
                                   FeedbackCache *cache) {
  Status status = checkLinear(linear, Algorithm::Search, &statistics);
  if (!status.ok())
    return std::move(status).withContext("linear '" + linear.name + "'");
  Result<LinearLosses> losses =
      measureChecked(linear, formats, algorithm, statistics, stride, threads, cache);
  if (!losses)
    return std::move(losses).status().withContext("linear '" + linear.name + "'");
  return losses;
}

} // namespace smelt
