// Chooses the folds: at every place the candidate with the smallest measured error, or none.
#include "calibration/fold.h"
#include "calibration/fold_candidates.h"
#include "calibration/fold_loss.h"

#include <optional>

namespace smelt {

namespace {

struct FoldInfo {
  std::string_view name;
  std::vector<FoldCandidate> (*candidates)(const ChannelStatistics &channels);
};
constexpr FoldInfo foldTable[] = {
#define FOLD(enumerator, name, candidates, help) {name, candidates},
#include "calibration/folds.def"
};

/// Linears of which some inputs are needed: those whose inputs, or values, are rounded.
std::vector<int32_t> sampledLinears(const std::vector<FoldPlace> &places,
                                    const FoldOptions &options) {
  std::vector<int32_t> linears;
  for (const FoldPlace &place : places) {
    bool rounds = false;
    for (int32_t consumer : place.consumers) {
      const FoldFormats formats = options.formats(consumer);
      rounds |= formats.activation != ActivationFormat::F32 && formats.weights != WeightFormat::F32;
    }
    if (rounds)
      linears.push_back(place.consumers[0]);
    if (place.kind == FoldKind::Value && cacheInfo(options.cache).valueBits <= 8)
      linears.push_back(place.producer);
  }
  return linears;
}

/// The best fold of a place; none if nothing is gained.
Result<std::optional<Fold>> choose(FoldLoss &loss, const FoldPlace &place,
                                   const FoldOptions &options) {
  SMELT_ASSIGN(const double before, loss.measure(nullptr));
  std::optional<Fold> best;
  double least = options.mostLeft * before;
  const ChannelStatistics channels = loss.channels();
  for (FoldAlgorithm algorithm : options.algorithms)
    for (FoldCandidate &candidate : foldTable[size_t(algorithm)].candidates(channels)) {
      Fold fold{place, algorithm, candidate.exponent, std::move(candidate.scales), candidate.block};
      SMELT_ASSIGN(const double after, loss.measure(&fold));
      if (!(after < least))
        continue;
      least = after;
      fold.before = before;
      fold.after = after;
      best = std::move(fold);
    }
  return best;
}

} // namespace

std::string_view foldName(FoldAlgorithm algorithm) { return foldTable[size_t(algorithm)].name; }

Result<FoldAlgorithm> findFold(std::string_view name) {
  std::string known;
  for (size_t i = 0; i < std::size(foldTable); ++i) {
    if (foldTable[i].name == name)
      return FoldAlgorithm(i);
    known += (i ? ", " : "") + std::string(foldTable[i].name);
  }
  return notFound("there is no fold '" + std::string(name) + "'; expected " + known);
}

Result<std::vector<Fold>> planFolds(const Graph &graph, const StatisticsLookup &statistics,
                                    const std::vector<std::vector<int32_t>> &samples,
                                    const FoldOptions &options) {
  SMELT_TRY(checkGraph(graph));
  std::vector<Fold> folds;
  if (options.algorithms.empty())
    return folds;
  const std::vector<FoldPlace> places = findFoldPlaces(graph);
  WorkerPool pool(options.threads);
  SMELT_ASSIGN(const SampledInputs inputs,
               sampleInputs(graph, sampledLinears(places, options), samples, options, pool));
  Graph folded = graph;
  for (size_t i = 0; i < places.size(); ++i) {
    if (options.progress && !options.progress(double(i) / double(places.size())))
      return cancelled("stopped while folds were compared");
    FoldLoss loss(graph, folded, places[i], inputs, options, pool);
    SMELT_TRY(loss.prepare(statistics));
    SMELT_ASSIGN(std::optional<Fold> best, choose(loss, places[i], options));
    if (!best)
      continue;
    applyFold(folded, *best);
    folds.push_back(*std::move(best));
  }
  return folds;
}

} // namespace smelt
