// Cuts by counting the values that are alive after every node.
#include "calibration/segments.h"

namespace smelt {

std::vector<Segment> cutSegments(const Graph &graph, const std::vector<bool> &wanted, int32_t end) {
  std::vector<int32_t> lastUse(graph.nodes.size(), -1);
  for (int32_t i = 0; i < end; ++i)
    if (wanted[i] || graph.nodes[i].kind == NodeKind::Linear)
      for (int32_t input : graph.nodes[i].inputs)
        lastUse[input] = i;
  std::vector<Segment> segments;
  int32_t first = 0;
  bool hasLinear = false;
  for (int32_t i = 0; i + 1 < end; ++i) {
    hasLinear |= graph.nodes[i].kind == NodeKind::Linear;
    if (!hasLinear)
      continue;
    int32_t alive = 0, carried = -1;
    for (int32_t value = 0; value <= i; ++value)
      if (lastUse[value] > i) {
        ++alive;
        carried = value;
      }
    if (alive != 1)
      continue;
    segments.push_back({first, i + 1, carried});
    first = i + 1;
    hasLinear = false;
  }
  segments.push_back({first, end, -1});
  return segments;
}

std::vector<SequenceBatch> makeTiles(const std::vector<std::vector<int32_t>> &samples,
                                     int64_t tokens) {
  std::vector<SequenceBatch> tiles;
  for (const std::vector<int32_t> &sample : samples) {
    if (tiles.empty() || tiles.back().size() + int64_t(sample.size()) > tokens)
      tiles.push_back({{}, {0}, {}});
    SequenceBatch &tile = tiles.back();
    tile.tokens.insert(tile.tokens.end(), sample.begin(), sample.end());
    tile.starts.push_back(tile.size());
  }
  for (SequenceBatch &tile : tiles)
    for (int64_t t = 0; t < tile.size(); ++t)
      tile.wanted.push_back(int32_t(t));
  return tiles;
}

} // namespace smelt
