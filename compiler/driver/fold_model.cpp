// Folds as JSON, by the name of the first linear that reads the folded channels.
#include "compiler/driver/fold_model.h"

#include <nlohmann/json.hpp>

#include <map>

using Json = nlohmann::json;

namespace smelt {

namespace {

const std::string &nameOf(const Graph &graph, const FoldPlace &place) {
  return graph.nodes[size_t(place.consumers[0])].name;
}

} // namespace

std::string foldsText(const Graph &graph, const std::vector<Fold> &folds, const std::string &key) {
  Json list = Json::array();
  for (const Fold &fold : folds)
    list.push_back({{"linear", nameOf(graph, fold.place)},
                    {"algorithm", foldName(fold.algorithm)},
                    {"exponent", fold.exponent},
                    {"scales", fold.scales},
                    {"block", fold.block},
                    {"before", fold.before},
                    {"after", fold.after}});
  return Json{{"key", key}, {"folds", std::move(list)}}.dump(1, ' ', false,
                                                             Json::error_handler_t::replace);
}

std::optional<std::vector<Fold>> readFolds(const Graph &graph, const std::string &text,
                                           const std::string &key) {
  std::map<std::string, FoldPlace> places;
  for (FoldPlace &place : findFoldPlaces(graph))
    places.emplace(nameOf(graph, place), std::move(place));
  std::vector<Fold> folds;
  // The library throws at wrong types; a damaged file is as good as none.
  try {
    const Json json = Json::parse(text);
    if (json.at("key") != key)
      return std::nullopt;
    for (const Json &entry : json.at("folds")) {
      auto place = places.find(entry.at("linear").get<std::string>());
      Result<FoldAlgorithm> algorithm = findFold(entry.at("algorithm").get<std::string>());
      if (place == places.end() || !algorithm)
        return std::nullopt;
      Fold fold{place->second,     *algorithm,         entry.at("exponent"), entry.at("scales"),
                entry.at("block"), entry.at("before"), entry.at("after")};
      const bool rotates = fold.scales.empty();
      if (rotates ? !fold.place.rotates || fold.block < 2 || fold.place.headDim % fold.block != 0
                  : int64_t(fold.scales.size()) != fold.place.channels)
        return std::nullopt;
      folds.push_back(std::move(fold));
    }
  } catch (const Json::exception &) {
    return std::nullopt;
  }
  return folds;
}

void foldModel(SourceModel &source, const std::vector<Fold> &folds) {
  for (const Fold &fold : folds)
    applyFold(source.graph, fold);
  for (const WeightView &view : source.graph.weights)
    if (view.transform)
      source.weights->setTransform(view);
}

} // namespace smelt
