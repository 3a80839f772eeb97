// The backward pass with sampled labels; per linear and tile one product g^T g.
#include "calibration/output_moments.h"
#include "calibration/adjoint.h"
#include "calibration/gemm.h"
#include "calibration/products.h"
#include "calibration/sampled_labels.h"
#include "calibration/segments.h"

#include <algorithm>

namespace smelt {

namespace {

constexpr int64_t fewestWindows = 4;

class Collection {
public:
  Collection(const Graph &graph, const OutputMomentsOptions &options)
      : graph(graph), options(options), pool(options.threads), precision(options.precision()) {}

  Status run(const std::vector<std::vector<int32_t>> &samples,
             const std::function<Status(const std::string &, OutputMoments)> &finished) {
    const int32_t last = int32_t(graph.nodes.size()) - 1;
    const std::vector<bool> wanted = ancestors(graph, std::span(&last, 1));
    for (int32_t i = 0; i <= last; ++i)
      if (wanted[i] && graph.nodes[i].kind == NodeKind::Linear && !graph.givesVectors)
        head = i;
    const std::vector<SequenceBatch> tiles =
        makeTiles(pickWindows(samples, windowsThatFit(wanted), options.tokens), options.tokens);
    for (const SequenceBatch &tile : tiles)
      tokens += tile.size();
    AdjointHooks hooks;
    hooks.visit = [this](const NodeGradient &seen) {
      if (graph.nodes[seen.node].kind == NodeKind::Linear && seen.node != head)
        add(seen);
      return Status();
    };
    hooks.finished = [&](int32_t, int32_t) -> Status {
      for (auto &[node, sums] : moments) {
        for (OutputMoments::Block &block : sums.blocks)
          for (float &value : block.values)
            value /= float(tokens);
        SMELT_TRY(finished(graph.nodes[node].name, std::move(sums)));
      }
      moments.clear();
      return {};
    };
    return backpropagateSampled(graph, tiles, pool, options, std::move(hooks));
  }

private:
  /// The backward pass keeps a value of every segment for all tokens.
  int64_t windowsThatFit(const std::vector<bool> &wanted) const {
    const int32_t last = int32_t(graph.nodes.size()) - 1;
    int64_t perToken = 0;
    for (const Segment &segment : cutSegments(graph, wanted, last + 1))
      if (segment.carried >= 0)
        perToken += graph.nodes[segment.carried].width * int64_t(sizeof(float));
    const int64_t fitting = options.mostBytes / std::max<int64_t>(1, perToken * options.tokens);
    return std::min(options.windows, std::max(fewestWindows, fitting));
  }

  OutputMoments emptyMoments(const Node &node) const {
    OutputMoments sums;
    const size_t parts = node.weights.size() - (node.hasBias ? 1 : 0);
    for (size_t p = 0, row = 0; p < parts; ++p) {
      const int64_t rows = graph.weights[node.weights[p]].rows;
      const int64_t pieces = (rows + largestOutputBlock - 1) / largestOutputBlock;
      for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t from = rows * piece / pieces, to = rows * (piece + 1) / pieces;
        sums.blocks.push_back({int64_t(row) + from, to - from,
                               std::vector<float>(size_t((to - from) * (to - from)), 0.0f)});
      }
      row += size_t(rows);
    }
    return sums;
  }

  void add(const NodeGradient &seen) {
    auto place = moments.find(seen.node);
    if (place == moments.end())
      place = moments.emplace(seen.node, emptyMoments(graph.nodes[seen.node])).first;
    std::vector<float> gradients; // [T, count]
    for (OutputMoments::Block &block : place->second.blocks) {
      const int64_t rows = seen.gradient.rows;
      gradients.resize(size_t(rows * block.count));
      for (int64_t t = 0; t < rows; ++t)
        std::copy_n(seen.gradient.row(t) + block.first, block.count,
                    gradients.data() + t * block.count);
      const Operand g(gradients.data(), rows, block.count, precision, pool);
      multiply(g, true, g, false, block.values.data(), block.count, true, pool);
    }
  }

  const Graph &graph;
  const OutputMomentsOptions &options;
  WorkerPool pool;
  const ProductPrecision precision;
  int32_t head = -1; ///< the linear that gives the logits
  int64_t tokens = 0;
  std::map<int32_t, OutputMoments> moments; ///< by node, of the running segment
};

} // namespace

Status collectOutputMoments(
    const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
    const OutputMomentsOptions &options,
    const std::function<Status(const std::string &linear, OutputMoments moments)> &finished) {
  SMELT_TRY(checkGraph(graph));
  if (samples.empty())
    return invalidArgument("there are no samples to take gradients of");
  for (const std::vector<int32_t> &sample : samples)
    if (sample.empty())
      return invalidArgument("a sample to take gradients of has no tokens");
  return Collection(graph, options).run(samples, finished);
}

} // namespace smelt
