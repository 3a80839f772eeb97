// Merging of statistics: checks first, then exact addition.
#include "calibration/statistics.h"

#include <algorithm>
#include <utility>

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
  for (const auto &[hash, shards] : from.data) {
    auto found = into.data.find(hash);
    if (found == into.data.end())
      continue; // other data: the sum of both
    if (found->second.count != shards.count)
      return invalidArgument("the same data are cut into " + std::to_string(found->second.count) +
                             " shards in one of the statistics, " + std::to_string(shards.count) +
                             " in the other: they overlap");
    for (uint32_t shard : shards.present)
      if (found->second.present.contains(shard))
        return invalidArgument("shard " + std::to_string(shard + 1) + "/" +
                               std::to_string(shards.count) +
                               " of the same data is in both: it would count twice");
  }
  return {};
}

void mergeCoverage(Statistics &into, const Statistics &from) {
  for (const auto &[hash, shards] : from.data) {
    ShardCoverage &sum = into.data.try_emplace(hash, ShardCoverage{shards.count, {}}).first->second;
    sum.present.insert(shards.present.begin(), shards.present.end());
    if (sum.whole())
      sum = {1, {0}};
  }
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

std::string missingShards(const Statistics &statistics) {
  std::string text;
  for (const auto &[hash, shards] : statistics.data) {
    if (shards.whole())
      continue;
    text += text.empty() ? "shards" : "; shards";
    for (uint32_t shard = 0; shard < shards.count; ++shard)
      if (!shards.present.contains(shard))
        text += " " + std::to_string(shard + 1);
    text += " of " + std::to_string(shards.count);
  }
  return text;
}

Status mergeStatistics(Statistics &into, const Statistics &from) {
  SMELT_TRY(checkMergeable(into, from));
  // Second moments are shared between linears; each pair of blocks is added once.
  struct Block {
    std::shared_ptr<const std::vector<double>> sums;
    std::shared_ptr<const Residues> residues;
  };
  std::map<std::pair<const void *, const void *>, Block> merged;
  std::vector<std::shared_ptr<const std::vector<double>>> kept;
  for (auto &[name, sum] : into.inputs) {
    const InputStatistics &other = from.inputs.at(name);
    sum.tokens += other.tokens;
    addSums(sum.sumSquares, sum.squaresResidues, other.sumSquares, other.squaresResidues);
    addSums(sum.sumAbsolute, sum.absoluteResidues, other.sumAbsolute, other.absoluteResidues);
    for (size_t k = 0; k < sum.maxAbsolute.size(); ++k)
      sum.maxAbsolute[k] = std::max(sum.maxAbsolute[k], other.maxAbsolute[k]);
    if (!sum.secondMoments)
      continue;
    Block &block = merged[{sum.secondMoments.get(), other.secondMoments.get()}];
    if (!block.sums) {
      auto sums = std::make_shared<std::vector<double>>(*sum.secondMoments);
      auto residues = std::make_shared<Residues>(*sum.momentResidues);
      addSums(*sums, *residues, *other.secondMoments, *other.momentResidues);
      block = {std::move(sums), std::move(residues)};
    }
    // The old block stays alive, so that no other takes its address as a key.
    kept.push_back(std::exchange(sum.secondMoments, block.sums));
    sum.momentResidues = block.residues;
  }
  mergeCoverage(into, from);
  return {};
}

} // namespace smelt
