// Small random models with every variation that a Graph can hold, for tests that compare two
// executors.
#pragma once

#include "calibration/graph.h"

#include <deque>
#include <random>
#include <vector>

namespace smelt {

struct ModelShape {
  int64_t vocab = 61, width = 48, layers = 2, heads = 4, kvHeads = 2, headDim = 12, rotaryDim = 12,
          inner = 80;
  bool layerNorm = false;   ///< with bias, instead of rms norm
  bool headNorm = false;    ///< on queries and keys
  bool interleaved = false; ///< rotary pairs
  bool fusedQkv = false;    ///< one linear of three parts, then slices
  bool bias = false;
  bool parallel =
      false; ///< attention and MLP read the same norm, so that a layer has no cut inside
  bool transposed = false; ///< [in, out] storage
  bool gated = true;
  int64_t window = 0;
  int64_t positionOffset = -1; ///< >= 0: a row of a table of positions is added to the embedding
  bool slopes = false;         ///< ALiBi
  double attentionCap = 0, logitCap = 0, embeddingScale = 1;
  ActivationKind activation = ActivationKind::Silu;
  DataType type = DataType::F32;
};

/// A graph and the weights it views.
struct RandomModel {
  Graph graph;
  std::deque<std::vector<std::byte>> storage;

  /// Adds [rows, cols] normal numbers times `spread`, plus `mean`, stored as `type`; returns the
  /// index of the view.
  int32_t addWeight(int64_t rows, int64_t cols, double spread, double mean = 0,
                    DataType type = DataType::F32, bool transposed = false);
  int32_t addWeight(int64_t rows, int64_t cols, const std::vector<float> &values);
  int32_t addNode(Node node);

  std::mt19937_64 random{7};
};

RandomModel makeRandomModel(const ModelShape &shape, uint64_t seed = 7);
std::vector<int32_t> randomTokens(int64_t count, int64_t vocab, uint64_t seed);

} // namespace smelt
