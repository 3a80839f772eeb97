// Merging of statistics: checks first, then plain addition.
#include "calibration/statistics.h"

#include <algorithm>

namespace smelt {

namespace {

Status checkMergeable(const Statistics &into, const Statistics &from) {
  if (into.modelHash != from.modelHash)
    return invalidArgument("the statistics belong to different models (" + into.modelHash +
                           " and " + from.modelHash + "): calibrate both from the same ONNX file");
  if (into.inputs.size() != from.inputs.size())
    return invalidArgument("one has " + std::to_string(into.inputs.size()) +
                           " linear inputs, the other " + std::to_string(from.inputs.size()));
  for (const auto &[name, input] : from.inputs) {
    auto found = into.inputs.find(name);
    if (found == into.inputs.end())
      return invalidArgument("linear '" + name + "' is in one of the statistics only");
    if (found->second.cols() != input.cols())
      return invalidArgument("linear '" + name + "' has " + std::to_string(found->second.cols()) +
                             " inputs in one, " + std::to_string(input.cols()) + " in the other");
    if (!found->second.secondMoments != !input.secondMoments)
      return invalidArgument("linear '" + name + "' has second moments in one only: collect both " +
                             "with or both without");
  }
  return {};
}

} // namespace

StatisticsLookup lookUpIn(const Statistics &statistics) {
  return [&](const std::string &linear) -> Result<std::shared_ptr<const InputStatistics>> {
    auto found = statistics.inputs.find(linear);
    // Owned by `statistics`: the pointer shares nothing.
    return found == statistics.inputs.end()
               ? nullptr
               : std::shared_ptr<const InputStatistics>(std::shared_ptr<void>(), &found->second);
  };
}

Status mergeStatistics(Statistics &into, const Statistics &from) {
  SMELT_TRY(checkMergeable(into, from));
  // Second moments are shared between linears; each pair of blocks is added once.
  std::map<std::pair<const void *, const void *>, std::shared_ptr<const std::vector<double>>> sums;
  for (auto &[name, sum] : into.inputs) {
    const InputStatistics &other = from.inputs.at(name);
    sum.tokens += other.tokens;
    for (size_t k = 0; k < sum.sumSquares.size(); ++k) {
      sum.sumSquares[k] += other.sumSquares[k];
      sum.sumAbsolute[k] += other.sumAbsolute[k];
      sum.maxAbsolute[k] = std::max(sum.maxAbsolute[k], other.maxAbsolute[k]);
    }
    if (!sum.secondMoments)
      continue;
    auto &merged = sums[{sum.secondMoments.get(), other.secondMoments.get()}];
    if (!merged) {
      auto added = std::make_shared<std::vector<double>>(*sum.secondMoments);
      for (size_t i = 0; i < added->size(); ++i)
        (*added)[i] += (*other.secondMoments)[i];
      merged = std::move(added);
    }
    sum.secondMoments = merged;
  }
  return {};
}

} // namespace smelt
