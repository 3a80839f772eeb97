// What a fold leaves of the errors at its place.
#pragma once

#include "calibration/float_model.h"
#include "calibration/fold.h"
#include "calibration/fold_candidates.h"
#include "calibration/parallel.h"

#include <map>
#include <memory>

namespace smelt {

/// Some rows of the inputs of linears, by node.
using SampledInputs = std::map<int32_t, Matrix>;

/// Runs the float model over the beginnings of a few samples and keeps evenly spread rows of the
/// inputs of `linears`.
Result<SampledInputs> sampleInputs(const Graph &graph, const std::vector<int32_t> &linears,
                                   const std::vector<std::vector<int32_t>> &samples,
                                   const FoldOptions &options, WorkerPool &pool);

/// Measures the errors that depend on the fold of one place: all are mean squares per token at the
/// consumers' outputs. Errors of a value linear, and of values that the cache rounds, are taken
/// relative to the values, each channel weighted by the squares of the weights that read it, times
/// the power of the consumers' outputs: attention averages errors at least as much as values.
/// Scales of a producer's rows do not change the relative error of these rows: every format has
/// steps of its own for each row.
class FoldLoss {
public:
  /// `graph` has the folds of earlier places; `original` has none. Both outlive the object.
  FoldLoss(const Graph &original, const Graph &folded, const FoldPlace &place,
           const SampledInputs &inputs, const FoldOptions &options, WorkerPool &pool);
  /// Reads the statistics and the weights; to be called once, first.
  Status prepare(const StatisticsLookup &statistics);

  ChannelStatistics channels() const;
  /// The loss with a fold at the place, or with none.
  Result<double> measure(const Fold *fold);

private:
  /// A run of rows of a weight.
  struct Rows {
    int32_t weight;
    int64_t first, count;
  };
  struct Sampled {
    int32_t node;
    FoldFormats formats;
    std::vector<Rows> rows;
    int64_t count = 0;
    double share = 1; ///< all rows of the linear for each one sampled
  };
  struct Errors {
    std::vector<float> weights; ///< [rows, cols] as they are read
    std::vector<float> errors;  ///< [rows, cols] of the stored ones, in the original columns
  };
  struct Input {
    std::shared_ptr<const InputStatistics> statistics;
    std::vector<float> moments; ///< [cols, cols] E[x x^T]; empty: the diagonal has to do
  };

  Status readInput(const StatisticsLookup &statistics, int32_t linear, Input &input) const;
  Sampled sampleRows(int32_t node, const std::vector<int32_t> &weights, int64_t tiles) const;
  Result<Errors> storedErrors(const Sampled &linear, const Input &input) const;
  std::vector<double> rowPowers(const std::vector<float> &rows, const Input &input) const;
  double roundingLoss(const Sampled &linear, const std::vector<float> &weights) const;
  Result<double> consumerLoss(const Sampled &linear);
  Result<double> producerLoss(int64_t block);
  double cacheLoss(const Fold *fold) const;
  void makeValues();
  Status preparePowers();

  const Graph &original;
  Graph graph;
  const FoldPlace &place;
  const SampledInputs &inputs;
  const FoldOptions &options;
  WorkerPool &pool;
  Input input; ///< of the consumers
  std::vector<Sampled> consumers;
  std::vector<double> maxWeight;     ///< [channels]
  std::vector<double> channelWeight; ///< [channels] sum over the consumers' rows of W_nk^2
  double power = 0;                  ///< of the consumers' outputs
  // Of a FoldKind::Value.
  Sampled producer;
  Input producerInput;
  Matrix values;            ///< [tokens, channels]
  double producerAsIs = -1; ///< relative error of the producer without a rotation; < 0: not known
};

} // namespace smelt
