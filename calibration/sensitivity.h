// How much the error of each stored matrix, and of each linear's rounded input, adds to the
// divergence of the quantized model from the float one: one backward pass.
#pragma once

#include "calibration/graph.h"
#include "calibration/sampled_labels.h"
#include "runtime/base/status.h"

#include <functional>
#include <string>
#include <vector>

namespace smelt {

struct SensitivityOptions : SampledPassOptions {
  SensitivityOptions() : SampledPassOptions{.windows = 4, .seed = 1} {}
};

/// Writes rows [first, first + count) of a node's matrix [N, K] as the reference format stores
/// them; the rows of a linear's parts are counted through. Called from several threads at a time.
using StoredRows = std::function<Status(int32_t node, int64_t first, int64_t count, float *out)>;

/// Divergences are nats per token that the error adds to KL(float || quantized).
struct NodeSensitivity {
  int32_t node = 0; ///< of the graph: a linear, or an embedding that is looked up by tokens
  std::string name;
  double kl = 0;              ///< by the stored weights' error, of all parts together
  std::vector<double> partKl; ///< by each part's alone
  // By the rounding of a linear's input, in place of the weights' error.
  double a8g32 = 0;  ///< INT8, one scale per 32 inputs
  double a8g64 = 0;  ///< INT8, one scale per 64 inputs
  double a8t = 0;    ///< INT8, one scale per token
  double a16g32 = 0; ///< INT16, one scale per 32 inputs
};

struct Sensitivity {
  std::vector<NodeSensitivity> nodes; ///< in the order of the graph
  int64_t tokens = 0;                 ///< that were looked at
};

/// KL(p || p') ~ 1/2 delta^T F delta with the Fisher information F = E[g g^T], where g is the
/// gradient of -log p(label) for labels drawn from the model itself (Amari, Neural Computation 10,
/// 1998; Martens, JMLR 21, 2020). Per linear y = W x with the error D of its weights: sum over
/// tokens of 1/2 (g_t . D x_t)^2, divided by their number; with the error e of its input 1/2 (g_t .
/// W e_t)^2; per embedding 1/2 (g_t . D[token_t])^2. Correlations between tokens, and between
/// errors of different linears, are left out: sums of these values rank choices and fall short of
/// the whole by a factor of about 1.4 (research/ladder.md). Other formats of a linear scale with
/// their own loss tr(D H D^T).
Result<Sensitivity> measureSensitivity(const Graph &graph,
                                       const std::vector<std::vector<int32_t>> &samples,
                                       const StoredRows &stored, const SensitivityOptions &options);

} // namespace smelt
