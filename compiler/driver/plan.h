// Chooses the weight format of every matrix and the precision of every linear's input under a
// budget of bytes or divergence.
#pragma once

#include "calibration/budget.h"
#include "calibration/graph.h"
#include "calibration/quantizer.h"
#include "calibration/statistics.h"
#include "passes/quantize/quantize.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// What is known of one matrix before anything is chosen.
struct MatrixOutlook {
  std::string name; ///< of the linear, or of an embedding with a table of its own
  bool isHead = false;
  int64_t rows = 0, cols = 0;
  std::vector<WeightFormat> formats; ///< that compete
  std::vector<int64_t> bytes;        ///< of each
  std::vector<double> kl;            ///< of each, predicted: nats per token
  /// What rounding the linear's inputs adds; 0: an embedding.
  double a8g32 = 0, a8g64 = 0, a16g32 = 0;
  std::string input; ///< linears that read the same value have the same
};

struct OutlookOptions {
  std::vector<WeightFormat> formats; ///< that compete
  Algorithm algorithm = Algorithm::Search;
  int threads = 0;
  std::function<bool(double)> progress;
  std::function<void(const WeightView &)> release;
};

/// Measures what each format would cost each matrix: one backward pass for how much a matrix
/// matters (sensitivity.h), and the loss of each format on a part of its rows (quantizer.h).
Result<std::vector<MatrixOutlook>> surveyMatrices(mlir::ModuleOp module, const Graph &graph,
                                                  const std::vector<std::vector<int32_t>> &samples,
                                                  const StatisticsLookup &statistics,
                                                  const WeightResolver &resolve,
                                                  const OutlookOptions &options);

/// The outlooks as text, and back; nothing if the text is not of this version or damaged. `key`
/// says what they depend on beside the work folder's own key.
std::string outlooksText(const std::vector<MatrixOutlook> &matrices, const std::string &key);
std::optional<std::vector<MatrixOutlook>> readOutlooks(const std::string &text,
                                                       const std::string &key);

/// What was chosen, and what it is predicted to cost.
struct FormatPlan {
  QuantizeScheme scheme;
  std::map<std::string, double> kl; ///< by matrix, predicted
  double weightKl = 0, activationKl = 0;
  int64_t bytes = 0;
  bool met = true; ///< false: nothing keeps to the limit, and this comes nearest
};

/// How many inputs may be INT16.
struct PreciseInputs {
  bool onlyPrefill = false; ///< the model never decodes: few, since they slow prefill
  bool favored = false;     ///< quality goes before speed: many more
};

/// Chooses formats under `goal` (bytes are those of packed matrices), INT16 inputs where INT8 costs
/// most for its speed, and scales for 64 inputs where they cost least.
Result<FormatPlan> planFormats(const std::vector<MatrixOutlook> &matrices, BudgetGoal goal,
                               const QuantizeScheme &base, const PreciseInputs &precise);

/// What a choice of formats stands beside, predicted: one format everywhere, and plans of other
/// sizes.
struct TriedPlan {
  std::string name; ///< the format's, or empty: a plan
  int64_t bytes = 0;
  double kl = 0; ///< of weights: nats per token
};
Result<std::vector<TriedPlan>> tryPlans(const std::vector<MatrixOutlook> &matrices,
                                        const FormatPlan &chosen);

/// What is aimed at without a budget. INT8 decoders: a scale per channel instead of one per group,
/// which is faster, where that costs little (with `favorsQuality` nothing). Others: the bytes of all
/// matrices if the decoder's were in its format of `scheme`, and head and embeddings in theirs.
BudgetGoal usualGoal(const std::vector<MatrixOutlook> &matrices, const QuantizeScheme &scheme,
                     bool favorsQuality);

} // namespace smelt
