// Exact re-parameterisations of the float model that make it easier to quantize: factors or
// rotations of channels, folded into the weights on both sides of them.
//
// A fold changes what a linear reads, x' = T x, and its weights, W' = W T^-1, and makes T part of
// the weights of whatever gives x, so that the float function stays the same. It is chosen by the
// error that the quantized linears' outputs would have, measured on calibration's statistics; that
// nothing is changed is always among the choices.
#pragma once

#include "calibration/graph.h"
#include "calibration/statistics.h"
#include "runtime/base/status.h"
#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

enum class FoldAlgorithm : uint32_t {
#define FOLD(enumerator, name, candidates, help) enumerator,
#include "calibration/folds.def"
};
std::string_view foldName(FoldAlgorithm algorithm);
/// By table name; the error lists the names there are.
Result<FoldAlgorithm> findFold(std::string_view name);

/// What gives the channels that are changed.
enum class FoldKind : uint32_t {
  Norm,  ///< RmsNorm or LayerNorm -> all linears that read it
  Value, ///< the value linear of an attention -> the linears that read the attention
  Up,    ///< the linear factor of a gated product -> the linears that read the product
};

/// A stored matrix or vector whose rows (or, of a vector, columns) from `first` on give the
/// channels of a place.
struct GivingWeight {
  int32_t weight; ///< index into Graph::weights
  bool isVector;
  int64_t first; ///< channel of its row 0, or column of channel 0
};

/// A place where a fold is exact: nothing but `consumers` reads the channels, no other node reads
/// the weights on either side.
struct FoldPlace {
  FoldKind kind = FoldKind::Norm;
  int32_t producer = 0;           ///< the norm, the value linear or the up linear
  std::vector<int32_t> consumers; ///< linears whose inputs they are
  int64_t channels = 0;           ///< that have a factor each
  int64_t width = 0;              ///< inputs of the consumers
  /// Value: query heads that read one kv head, and columns of a head. Else 1 and `channels`.
  int64_t sharing = 1, headDim = 0;
  /// Whether a rotation within heads is exact: through a norm or a gate it is not, nor in a vector
  /// that holds more than these channels.
  bool rotates = false;
  std::vector<GivingWeight> giving;

  /// The channel of an input of the consumers.
  int64_t channelOf(int64_t input) const {
    return input / headDim / sharing * headDim + input % headDim;
  }
};

/// All places of a graph that checkGraph accepted, in execution order.
std::vector<FoldPlace> findFoldPlaces(const Graph &graph);

/// What was chosen at a place.
struct Fold {
  FoldPlace place;
  FoldAlgorithm algorithm = FoldAlgorithm::Awq;
  double exponent = 0;          ///< of the factors; 0: none
  std::vector<float> scales;    ///< [channels] x'_k = x_k / scales[k]; empty: a rotation
  int64_t block = 0;            ///< of the rotation
  double before = 0, after = 0; ///< error of the consumers' outputs, mean square per token
};

/// Makes the graph's views those of the folded model. Every place takes one fold at most.
void applyFold(Graph &graph, const Fold &fold);

/// How a linear will be stored.
struct FoldFormats {
  WeightFormat weights = WeightFormat::F32;
  ActivationFormat activation = ActivationFormat::F32;
};

struct FoldOptions {
  std::vector<FoldAlgorithm> algorithms;            ///< that compete
  std::function<FoldFormats(int32_t node)> formats; ///< of every linear
  CacheFormat cache = CacheFormat::F32;
  /// A fold is taken if it leaves less than this share of the error.
  double mostLeft = 0.97;
  int threads = 0;                                 ///< 0: all cores
  std::function<bool(double)> progress;            ///< 0..1; returning false cancels
  std::function<void(const WeightView &)> release; ///< may be empty
};

/// Chooses a fold, or none, for every place. Errors of weights are tr(D H D^T), D what the search
/// (scale_search.h) leaves of sampled rows, H = E[x x^T], or its diagonal where the statistics have
/// no more; errors of rounded inputs and values are measured on some tokens of `samples`, none if
/// there are none.
Result<std::vector<Fold>> planFolds(const Graph &graph, const StatisticsLookup &statistics,
                                    const std::vector<std::vector<int32_t>> &samples,
                                    const FoldOptions &options);

/// Statistics of a linear's input after a fold: sums of squares and products exactly; after a
/// rotation, sums and maxima of |x| are bounds.
InputStatistics foldStatistics(const InputStatistics &statistics, const Fold &fold);
/// Looks up in `statistics` what the inputs of the folded model have; second moments that linears
/// share stay shared.
StatisticsLookup lookUpFolded(const Graph &graph, const StatisticsLookup &statistics,
                              std::vector<Fold> folds);

} // namespace smelt
