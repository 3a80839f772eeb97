// Errors of weights by second moments, errors of rounded inputs and values on sampled tokens.
#include "calibration/fold_loss.h"
#include "calibration/adjoint_kernels.h"
#include "calibration/gemm.h"
#include "calibration/hadamard.h"
#include "calibration/quantizer.h"

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

constexpr int64_t consumerTiles = 12;  ///< of 16 rows, of each consumer
constexpr int64_t momentColumns = 256; ///< of one product with second moments
constexpr int64_t weightChunk = 64;    ///< rows that are read at a time

size_t partsOf(const Node &linear) { return linear.weights.size() - (linear.hasBias ? 1 : 0); }

/// The statistics in the columns of a transformed matrix, as far as the search looks at them.
InputStatistics importanceOf(const InputStatistics &statistics, const WeightTransform *transform) {
  InputStatistics importance;
  importance.tokens = statistics.tokens;
  importance.sumSquares = statistics.sumSquares;
  const int64_t cols = statistics.cols();
  if (transform && !transform->columnFactors.empty())
    for (int64_t k = 0; k < cols; ++k) {
      const double factor = double(transform->columnFactors[size_t(k)]);
      importance.sumSquares[size_t(k)] /= factor * factor;
    }
  if (transform && transform->columnBlock) {
    Fold fold;
    fold.place.width = cols;
    fold.block = transform->columnBlock;
    importance = foldStatistics(statistics, fold);
    importance.secondMoments = nullptr;
  }
  importance.sumAbsolute.assign(size_t(cols), 0.0);
  importance.maxAbsolute.assign(size_t(cols), 0.0f);
  return importance;
}

/// Takes back what a transform did to columns.
void undoColumns(const WeightTransform *transform, int64_t cols, std::vector<float> &rows) {
  if (!transform)
    return;
  if (transform->columnBlock)
    rotateBlocks(rows.data(), int64_t(rows.size()), transform->columnBlock);
  if (!transform->columnFactors.empty())
    for (size_t i = 0; i < rows.size(); ++i)
      rows[i] /= transform->columnFactors[i % size_t(cols)];
}

/// What the cache makes of one head's values, less the values.
void cacheErrors(CacheFormat cache, const float *x, float *e, int64_t n) {
  const int bits = cacheInfo(cache).valueBits;
  if (bits == 8)
    return adjointKernels().roundingError(x, 127, e, n);
  for (int64_t first = 0; first < n; first += valueGroup) {
    const int64_t last = std::min(n, first + valueGroup);
    const auto [low, high] = std::minmax_element(x + first, x + last);
    const float step = (*high - *low) / float((1 << bits) - 1);
    for (int64_t i = first; i < last; ++i)
      e[i] = step > 0 ? *low + step * std::nearbyint((x[i] - *low) / step) - x[i] : 0.0f;
  }
}

} // namespace

Result<SampledInputs> sampleInputs(const Graph &graph, const std::vector<int32_t> &linears,
                                   const std::vector<std::vector<int32_t>> &samples,
                                   const FoldOptions &options, WorkerPool &pool) {
  constexpr int64_t windows = 4, tokens = 256, stride = 4;
  SampledInputs inputs;
  if (samples.empty() || linears.empty())
    return inputs;
  SequenceBatch batch;
  const int64_t count = std::min(windows, int64_t(samples.size()));
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int32_t> &sample = samples[size_t(i) * samples.size() / size_t(count)];
    batch.starts.push_back(batch.size());
    batch.tokens.insert(batch.tokens.end(), sample.begin(),
                        sample.begin() + std::min(tokens, int64_t(sample.size())));
  }
  batch.starts.push_back(batch.size());
  for (int32_t t = 0; t < int32_t(batch.size()); ++t)
    batch.wanted.push_back(t);
  FloatModel model(graph, pool,
                   bfloat16IsFast() ? ProductPrecision::Bfloat16 : ProductPrecision::Float);
  FloatModel::Values values(graph.nodes.size());
  const std::vector<bool> wanted = ancestors(graph, linears);
  const int32_t last = *std::max_element(linears.begin(), linears.end());
  int32_t before = -1;
  auto hook = [&](int32_t node, const Matrix &input) -> Status {
    if (options.release && before >= 0)
      for (int32_t weight : graph.nodes[size_t(before)].weights)
        options.release(graph.weights[size_t(weight)]);
    before = node;
    if (std::find(linears.begin(), linears.end(), node) == linears.end())
      return {};
    Matrix kept{(input.rows + stride - 1) / stride, input.cols, nullptr};
    kept.data = std::make_unique_for_overwrite<float[]>(size_t(kept.rows * kept.cols));
    for (int64_t row = 0; row < kept.rows; ++row)
      std::copy_n(input.row(row * stride), input.cols, kept.row(row));
    inputs[node] = std::move(kept);
    return {};
  };
  SMELT_TRY(model.run(batch, wanted, 0, last + 1, values, hook));
  return inputs;
}

FoldLoss::FoldLoss(const Graph &original, const Graph &folded, const FoldPlace &place,
                   const SampledInputs &inputs, const FoldOptions &options, WorkerPool &pool)
    : original(original), graph(folded), place(place), inputs(inputs), options(options),
      pool(pool) {}

Status FoldLoss::readInput(const StatisticsLookup &statistics, int32_t linear, Input &into) const {
  const Node &node = graph.nodes[size_t(linear)];
  SMELT_ASSIGN(into.statistics, statistics(node.name));
  const int64_t cols = graph.weights[size_t(node.weights[0])].cols;
  if (!into.statistics || into.statistics->cols() != cols || into.statistics->tokens == 0)
    return invalidArgument("the statistics do not fit linear '" + node.name +
                           "'; collect them again");
  if (!into.statistics->secondMoments)
    return {};
  into.moments.resize(size_t(cols * cols));
  const double scale = 1.0 / double(into.statistics->tokens);
  const double *row = into.statistics->secondMoments->data();
  for (int64_t i = 0; i < cols; row += cols - i, ++i)
    for (int64_t j = i; j < cols; ++j)
      into.moments[size_t(i * cols + j)] = into.moments[size_t(j * cols + i)] =
          float(row[j - i] * scale);
  return {};
}

/// Evenly spread tiles of the rows of some weights of a linear.
FoldLoss::Sampled FoldLoss::sampleRows(int32_t node, const std::vector<int32_t> &weights,
                                       int64_t tiles) const {
  Sampled sampled{node, options.formats(node), {}};
  int64_t all = 0;
  std::vector<Rows> every;
  for (int32_t weight : weights) {
    const int64_t rows = graph.weights[size_t(weight)].rows;
    all += rows;
    for (int64_t first = 0; first < rows; first += tileRows)
      every.push_back({weight, first, std::min(tileRows, rows - first)});
  }
  const int64_t count = std::min(tiles, int64_t(every.size()));
  for (int64_t i = 0; i < count; ++i) {
    sampled.rows.push_back(every[size_t(i) * every.size() / size_t(count)]);
    sampled.count += sampled.rows.back().count;
  }
  sampled.share = double(all) / double(sampled.count);
  return sampled;
}

Status FoldLoss::prepare(const StatisticsLookup &statistics) {
  SMELT_TRY(readInput(statistics, place.consumers[0], input));
  for (int32_t consumer : place.consumers) {
    const std::vector<int32_t> &weights = graph.nodes[size_t(consumer)].weights;
    consumers.push_back(sampleRows(
        consumer,
        {weights.begin(), weights.begin() + ptrdiff_t(partsOf(graph.nodes[size_t(consumer)]))},
        consumerTiles));
  }
  maxWeight.assign(size_t(place.channels), 0.0);
  channelWeight = maxWeight;
  std::vector<float> rows;
  for (int32_t consumer : place.consumers) {
    const Node &node = graph.nodes[size_t(consumer)];
    for (size_t p = 0; p < partsOf(node); ++p) {
      const WeightView &view = original.weights[size_t(node.weights[p])];
      rows.resize(size_t(weightChunk * view.cols));
      for (int64_t first = 0; first < view.rows; first += weightChunk) {
        const int64_t count = std::min(weightChunk, view.rows - first);
        readRows(view, first, count, rows.data());
        for (int64_t i = 0; i < count * view.cols; ++i) {
          const size_t channel = size_t(place.channelOf(i % view.cols));
          const double weight = std::fabs(double(rows[size_t(i)]));
          maxWeight[channel] = std::max(maxWeight[channel], weight);
          channelWeight[channel] += weight * weight;
        }
      }
      if (options.release)
        options.release(view);
    }
  }
  if (place.kind != FoldKind::Value)
    return {};
  SMELT_TRY(readInput(statistics, place.producer, producerInput));
  std::vector<int32_t> given;
  for (const GivingWeight &giving : place.giving)
    if (!giving.isVector)
      given.push_back(giving.weight);
  producer = sampleRows(place.producer, given, INT64_MAX);
  makeValues();
  return preparePowers();
}

/// tr(W H W^T) of the consumers.
Status FoldLoss::preparePowers() {
  for (const Sampled &linear : consumers) {
    std::vector<float> rows(size_t(linear.count * place.width));
    float *out = rows.data();
    for (const Rows &run : linear.rows) {
      readRows(original.weights[size_t(run.weight)], run.first, run.count, out);
      out += run.count * place.width;
    }
    for (double value : rowPowers(rows, input))
      power += linear.share * value;
  }
  return {};
}

/// v = x W_v^T + b of the sampled tokens.
void FoldLoss::makeValues() {
  auto found = inputs.find(place.producer);
  if (found == inputs.end())
    return;
  const Matrix &x = found->second;
  values = {x.rows, place.channels, std::make_unique<float[]>(size_t(x.rows * place.channels))};
  for (const GivingWeight &giving : place.giving) {
    const WeightView &view = original.weights[size_t(giving.weight)];
    std::vector<float> weights(size_t(view.rows * view.cols));
    readRows(view, 0, view.rows, weights.data());
    if (!giving.isVector)
      gemm(false, true, x.rows, view.rows, view.cols, 1.0f, x.row(0), x.cols, weights.data(),
           view.cols, values.row(0) + giving.first, values.cols);
  }
  for (const GivingWeight &giving : place.giving) {
    const WeightView &view = original.weights[size_t(giving.weight)];
    if (!giving.isVector)
      continue;
    std::vector<float> bias(size_t(view.cols));
    readRows(view, 0, 1, bias.data());
    for (int64_t t = 0; t < values.rows; ++t)
      for (int64_t k = 0; k < place.channels; ++k)
        values.row(t)[k] += bias[size_t(giving.first + k)];
  }
}

ChannelStatistics FoldLoss::channels() const {
  ChannelStatistics channels;
  channels.rotates = place.rotates;
  channels.headDim = place.headDim;
  channels.maxWeight = maxWeight;
  channels.meanAbsolute.assign(size_t(place.channels), 0.0);
  channels.maxAbsolute = channels.meanAbsolute;
  for (int64_t k = 0; k < place.width; ++k) {
    const size_t channel = size_t(place.channelOf(k));
    channels.meanAbsolute[channel] += input.statistics->sumAbsolute[size_t(k)] /
                                      double(input.statistics->tokens) / double(place.sharing);
    channels.maxAbsolute[channel] =
        std::max(channels.maxAbsolute[channel], double(input.statistics->maxAbsolute[size_t(k)]));
  }
  return channels;
}

/// What is stored in place of the sampled rows, less these rows.
Result<FoldLoss::Errors> FoldLoss::storedErrors(const Sampled &linear, const Input &from) const {
  const WeightTransform *transform = graph.weights[size_t(linear.rows[0].weight)].transform.get();
  const int64_t cols = graph.weights[size_t(linear.rows[0].weight)].cols;
  LinearWeights weights{graph.nodes[size_t(linear.node)].name, {}, false};
  Errors result;
  result.weights.resize(size_t(linear.count * cols));
  float *out = result.weights.data();
  for (const Rows &run : linear.rows) {
    weights.parts.push_back(viewOfRows(graph.weights[size_t(run.weight)], run.first, run.count));
    readRows(weights.parts.back(), 0, run.count, out);
    out += run.count * cols;
  }
  const InputStatistics importance = importanceOf(*from.statistics, transform);
  SMELT_ASSIGN(result.errors, dequantizeLinear(weights, linear.formats.weights, Algorithm::Search,
                                               &importance, options.threads));
  for (size_t i = 0; i < result.errors.size(); ++i)
    result.errors[i] -= result.weights[i];
  undoColumns(transform, cols, result.errors);
  return result;
}

/// d^T H d of every row d.
std::vector<double> FoldLoss::rowPowers(const std::vector<float> &rows, const Input &from) const {
  const int64_t cols = from.statistics->cols(), count = int64_t(rows.size()) / cols;
  std::vector<double> powers(size_t(count), 0.0);
  if (from.moments.empty()) {
    for (int64_t i = 0; i < count * cols; ++i)
      powers[size_t(i / cols)] += double(rows[size_t(i)]) * double(rows[size_t(i)]) *
                                  from.statistics->sumSquares[size_t(i % cols)] /
                                  double(from.statistics->tokens);
    return powers;
  }
  std::vector<float> moved(rows.size()); // rows H
  const int64_t pieces = (cols + momentColumns - 1) / momentColumns;
  pool.run(pieces, [&](int64_t piece) {
    const int64_t first = piece * momentColumns, width = std::min(momentColumns, cols - first);
    gemm(false, false, count, width, cols, 1.0f, rows.data(), cols, from.moments.data() + first,
         cols, moved.data() + first, cols);
  });
  for (int64_t i = 0; i < count * cols; ++i)
    powers[size_t(i / cols)] += double(rows[size_t(i)]) * double(moved[size_t(i)]);
  return powers;
}

/// E|W' e|^2 with the rounding errors e of the folded inputs, as if errors of different inputs were
/// independent, which rounding makes them nearly.
double FoldLoss::roundingLoss(const Sampled &linear, const std::vector<float> &weights) const {
  const ActivationFormat activation = linear.formats.activation;
  auto found = inputs.find(place.consumers[0]);
  if (activation == ActivationFormat::F32 || found == inputs.end() ||
      linear.formats.weights == WeightFormat::F32)
    return 0;
  const Matrix &x = found->second;
  const WeightTransform *transform = graph.weights[size_t(linear.rows[0].weight)].transform.get();
  const int64_t cols = x.cols;
  const ActivationInfo &info = activationInfo(activation);
  const int64_t group = info.group ? info.group : cols;
  const auto levels = float(info.largestCode());
  std::vector<double> squares(size_t(cols), 0.0); // sum over rows of W'_nk^2
  for (size_t i = 0; i < weights.size(); ++i)
    squares[i % size_t(cols)] += linear.share * double(weights[i]) * double(weights[i]);
  std::vector<double> sums(size_t(x.rows), 0.0);
  pool.run(x.rows, [&](int64_t t) {
    std::vector<float> folded(x.row(t), x.row(t) + cols), errors(size_t(cols), 0.0f);
    if (transform && !transform->columnFactors.empty())
      for (int64_t k = 0; k < cols; ++k)
        folded[size_t(k)] /= transform->columnFactors[size_t(k)];
    if (transform && transform->columnBlock)
      rotateBlocks(folded.data(), cols, transform->columnBlock);
    for (int64_t k = 0; k < cols; k += group)
      adjointKernels().roundingError(folded.data() + k, levels, errors.data() + k,
                                     std::min(group, cols - k));
    for (int64_t k = 0; k < cols; ++k)
      sums[size_t(t)] += double(errors[size_t(k)]) * double(errors[size_t(k)]) * squares[size_t(k)];
  });
  double sum = 0;
  for (double value : sums)
    sum += value;
  return sum / double(x.rows);
}

Result<double> FoldLoss::consumerLoss(const Sampled &linear) {
  if (linear.formats.weights == WeightFormat::F32)
    return 0.0;
  SMELT_ASSIGN(Errors errors, storedErrors(linear, input));
  double loss = 0;
  for (double value : rowPowers(errors.errors, input))
    loss += linear.share * value;
  return loss + roundingLoss(linear, errors.weights);
}

/// The error of the values by their weights, relative to the values; rotated in blocks of `block`.
Result<double> FoldLoss::producerLoss(int64_t block) {
  if (producer.formats.weights == WeightFormat::F32)
    return 0.0;
  if (!block && producerAsIs >= 0)
    return producerAsIs;
  SMELT_ASSIGN(Errors errors, storedErrors(producer, producerInput));
  const int64_t cols = producerInput.statistics->cols();
  std::vector<float> plain(errors.weights.size());
  int64_t at = 0;
  for (const Rows &run : producer.rows) {
    readRows(original.weights[size_t(run.weight)], run.first, run.count, plain.data() + at * cols);
    at += run.count;
  }
  for (int64_t row = 0; block && row < producer.count; row += block)
    rotateRows(errors.errors.data() + row * cols, block, cols);
  const std::vector<double> lost = rowPowers(errors.errors, producerInput);
  const std::vector<double> whole = rowPowers(plain, producerInput);
  double sum = 0, total = 0;
  for (size_t n = 0; n < lost.size(); ++n) {
    sum += channelWeight[n] * lost[n];
    total += channelWeight[n] * whole[n];
  }
  const double loss = total > 0 ? sum / total : 0.0;
  if (!block)
    producerAsIs = loss;
  return loss;
}

/// The error of the values by the cache, relative to the values.
double FoldLoss::cacheLoss(const Fold *fold) const {
  if (cacheInfo(options.cache).valueBits > 8 || !values.data)
    return 0;
  double lost = 0, whole = 0;
  std::vector<float> folded(size_t(place.channels)), errors(folded);
  for (int64_t t = 0; t < values.rows; ++t) {
    const float *v = values.row(t);
    std::copy_n(v, place.channels, folded.data());
    for (int64_t k = 0; fold && !fold->scales.empty() && k < place.channels; ++k)
      folded[size_t(k)] /= fold->scales[size_t(k)];
    if (fold && fold->block)
      rotateBlocks(folded.data(), place.channels, fold->block);
    for (int64_t k = 0; k < place.channels; k += place.headDim)
      cacheErrors(options.cache, folded.data() + k, errors.data() + k, place.headDim);
    if (fold && fold->block)
      rotateBlocks(errors.data(), place.channels, fold->block);
    for (int64_t k = 0; k < place.channels; ++k) {
      const double scale = fold && !fold->scales.empty() ? double(fold->scales[size_t(k)]) : 1.0;
      const double error = double(errors[size_t(k)]) * scale;
      lost += channelWeight[size_t(k)] * error * error;
      whole += channelWeight[size_t(k)] * double(v[k]) * double(v[k]);
    }
  }
  return whole > 0 ? lost / whole : 0.0;
}

Result<double> FoldLoss::measure(const Fold *fold) {
  // The views of the place alone change.
  std::vector<std::pair<int32_t, WeightView>> kept;
  if (fold) {
    for (const GivingWeight &giving : place.giving)
      kept.emplace_back(giving.weight, graph.weights[size_t(giving.weight)]);
    for (int32_t consumer : place.consumers)
      for (int32_t weight : graph.nodes[size_t(consumer)].weights)
        kept.emplace_back(weight, graph.weights[size_t(weight)]);
    applyFold(graph, *fold);
  }
  auto measureNow = [&]() -> Result<double> {
    double loss = 0;
    for (const Sampled &linear : consumers) {
      SMELT_ASSIGN(double share, consumerLoss(linear));
      loss += share;
    }
    if (place.kind == FoldKind::Value) {
      SMELT_ASSIGN(double share, producerLoss(fold ? fold->block : 0));
      loss += power * (share + cacheLoss(fold));
    }
    return loss;
  };
  Result<double> loss = measureNow();
  for (auto &[weight, view] : kept)
    graph.weights[size_t(weight)] = std::move(view);
  return loss;
}

} // namespace smelt
