// Finds the places of a graph where a fold is exact, and folds the weights there.
#include "calibration/fold.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

namespace smelt {

namespace {

using ViewKey = std::tuple<const std::byte *, int64_t, int64_t, int64_t, int64_t, int64_t>;
ViewKey keyOf(const WeightView &view) {
  return {view.data, view.givenOffset, view.rows, view.cols, view.rowStride, view.colStride};
}

class PlaceFinder {
public:
  explicit PlaceFinder(const Graph &graph) : graph(graph), readers(graph.nodes.size()) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      for (int32_t input : graph.nodes[i].inputs)
        readers[size_t(input)].push_back(int32_t(i));
      for (int32_t weight : graph.nodes[i].weights)
        ++uses[keyOf(graph.weights[size_t(weight)])];
    }
  }

  std::vector<FoldPlace> run() const {
    std::vector<FoldPlace> places;
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      if (std::optional<FoldPlace> place = placeAt(int32_t(i)))
        places.push_back(*std::move(place));
    return places;
  }

private:
  const Node &node(int32_t index) const { return graph.nodes[size_t(index)]; }
  const std::vector<int32_t> &readersOf(int32_t index) const { return readers[size_t(index)]; }
  bool isLast(int32_t index) const { return size_t(index) + 1 == graph.nodes.size(); }

  /// A node that reads the same weights (a tied embedding, a norm shared by layers) would see them
  /// changed too.
  bool hasOwnWeights(int32_t index) const {
    return std::all_of(node(index).weights.begin(), node(index).weights.end(), [&](int32_t weight) {
      return uses.at(keyOf(graph.weights[size_t(weight)])) == 1;
    });
  }

  /// All that reads a value, row by row, if that is linears alone.
  bool addConsumers(int32_t value, std::vector<int32_t> &consumers) const {
    if (isLast(value))
      return false;
    for (int32_t reader : readersOf(value)) {
      if (node(reader).kind == NodeKind::SelectRows) {
        if (!addConsumers(reader, consumers))
          return false;
      } else if (node(reader).kind == NodeKind::Linear && hasOwnWeights(reader)) {
        consumers.push_back(reader);
      } else {
        return false;
      }
    }
    return !consumers.empty();
  }

  std::optional<FoldPlace> placeAt(int32_t index) const {
    switch (node(index).kind) {
    case NodeKind::RmsNorm:
    case NodeKind::LayerNorm:
      return normAt(index);
    case NodeKind::Attention:
      return valueAt(index);
    case NodeKind::Gated:
      return upAt(index);
    default:
      return std::nullopt;
    }
  }

  std::optional<FoldPlace> normAt(int32_t index) const {
    FoldPlace place;
    place.kind = FoldKind::Norm;
    place.producer = index;
    if (!hasOwnWeights(index) || !addConsumers(index, place.consumers))
      return std::nullopt;
    place.channels = place.width = place.headDim = node(index).width;
    for (int32_t weight : node(index).weights)
      place.giving.push_back({weight, true, 0});
    return place;
  }

  std::optional<FoldPlace> valueAt(int32_t index) const {
    const Node &attention = node(index);
    FoldPlace place;
    place.kind = FoldKind::Value;
    if (!addConsumers(index, place.consumers) || !addGiving(attention.inputs[2], index, place))
      return std::nullopt;
    place.channels = attention.kvHeads * attention.headDim;
    place.width = attention.width;
    place.sharing = attention.heads / attention.kvHeads;
    place.headDim = attention.headDim;
    place.rotates =
        std::all_of(place.giving.begin(), place.giving.end(), [&](const GivingWeight &giving) {
          return !giving.isVector || graph.weights[size_t(giving.weight)].cols == place.channels;
        });
    return place;
  }

  /// activation(gate) * up is linear in `up` alone.
  std::optional<FoldPlace> upAt(int32_t index) const {
    FoldPlace place;
    place.kind = FoldKind::Up;
    if (node(index).inputs[0] == node(index).inputs[1] || !addConsumers(index, place.consumers) ||
        !addGiving(node(index).inputs[1], index, place))
      return std::nullopt;
    place.channels = place.width = place.headDim = node(index).width;
    return place;
  }

  /// The linear behind `value`, or a slice of it that is made by whole parts, if only `reader`
  /// reads it, once.
  bool addGiving(int32_t value, int32_t reader, FoldPlace &place) const {
    const auto &inputs = node(reader).inputs;
    if (readersOf(value).size() != 1 || std::count(inputs.begin(), inputs.end(), value) != 1)
      return false;
    int64_t first = 0;
    int32_t linear = value;
    if (node(value).kind == NodeKind::Slice) {
      first = node(value).first;
      linear = node(value).inputs[0];
      if (!readInSlices(linear, value))
        return false;
    }
    const Node &producer = node(linear);
    if (producer.kind != NodeKind::Linear || !hasOwnWeights(linear))
      return false;
    place.producer = linear;
    const int64_t end = first + node(value).width;
    const size_t parts = producer.weights.size() - (producer.hasBias ? 1 : 0);
    int64_t row = 0, covered = 0;
    for (size_t p = 0; p < parts; ++p) {
      const int64_t rows = graph.weights[size_t(producer.weights[p])].rows;
      if (row >= first && row + rows <= end) {
        place.giving.push_back({producer.weights[p], false, row - first});
        covered += rows;
      } else if (row < end && row + rows > first) {
        return false;
      }
      row += rows;
    }
    if (producer.hasBias)
      place.giving.push_back({producer.weights.back(), true, first});
    return covered == end - first;
  }

  /// Whether slices alone read a linear, and none but `own` the same columns.
  bool readInSlices(int32_t linear, int32_t own) const {
    const Node &mine = node(own);
    return std::all_of(readersOf(linear).begin(), readersOf(linear).end(), [&](int32_t reader) {
      const Node &other = node(reader);
      return reader == own ||
             (other.kind == NodeKind::Slice &&
              (other.first >= mine.first + mine.width || other.first + other.width <= mine.first));
    });
  }

  const Graph &graph;
  std::vector<std::vector<int32_t>> readers;
  std::map<ViewKey, int> uses;
};

/// The transform of a view, to be added to.
std::shared_ptr<WeightTransform> transformOf(const WeightView &view) {
  return view.transform ? std::make_shared<WeightTransform>(*view.transform)
                        : std::make_shared<WeightTransform>();
}

void foldGiving(WeightView &view, const GivingWeight &giving, const Fold &fold) {
  std::shared_ptr<WeightTransform> transform = transformOf(view);
  if (fold.scales.empty()) {
    (giving.isVector ? transform->columnBlock : transform->rowBlock) = fold.block;
  } else if (giving.isVector) {
    transform->columnFactors.assign(size_t(view.cols), 1.0f);
    for (int64_t k = 0; k < fold.place.channels; ++k)
      transform->columnFactors[size_t(giving.first + k)] = 1.0f / fold.scales[size_t(k)];
  } else {
    for (int64_t row = 0; row < view.rows; ++row)
      transform->rowFactors.push_back(1.0f / fold.scales[size_t(giving.first + row)]);
  }
  view.transform = std::move(transform);
}

} // namespace

std::vector<FoldPlace> findFoldPlaces(const Graph &graph) { return PlaceFinder(graph).run(); }

void applyFold(Graph &graph, const Fold &fold) {
  const FoldPlace &place = fold.place;
  for (const GivingWeight &giving : place.giving)
    foldGiving(graph.weights[size_t(giving.weight)], giving, fold);
  for (int32_t consumer : place.consumers) {
    const Node &linear = graph.nodes[size_t(consumer)];
    const size_t parts = linear.weights.size() - (linear.hasBias ? 1 : 0);
    for (size_t p = 0; p < parts; ++p) {
      WeightView &view = graph.weights[size_t(linear.weights[p])];
      std::shared_ptr<WeightTransform> transform = transformOf(view);
      if (fold.scales.empty())
        transform->columnBlock = fold.block;
      else
        for (int64_t k = 0; k < view.cols; ++k)
          transform->columnFactors.push_back(fold.scales[size_t(place.channelOf(k))]);
      view.transform = std::move(transform);
    }
  }
}

} // namespace smelt
