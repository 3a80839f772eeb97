// Which format every matrix gets under a budget: a knapsack over bytes and predicted divergence.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// One way to store a matrix.
struct BudgetChoice {
  int64_t bytes = 0; ///< in the file
  double kl = 0;     ///< predicted mean divergence that it adds (sensitivity.h), nats per token
};

/// What is decided together: a matrix, or matrices that share storage (a tied embedding and head).
struct BudgetItem {
  std::string name;
  int64_t weights = 0; ///< elements, for the mean of bits
  std::vector<BudgetChoice> choices;
};

enum class BudgetKind : uint32_t {
  MaxKl,    ///< fewest bytes with a predicted sum of at most `limit` nats per token
  MaxBytes, ///< smallest predicted sum in at most `limit` bytes
  MeanBits, ///< smallest predicted sum in at most `limit` bits per weight, scales included
};

struct BudgetGoal {
  BudgetKind kind = BudgetKind::MaxKl;
  /// Predictions fall short of what is measured: a caller divides its budget by that factor.
  double limit = 0;
};

struct BudgetPlan {
  std::vector<int32_t> choices; ///< by item
  int64_t bytes = 0;
  double kl = 0;   ///< predicted, the sum
  bool met = true; ///< false: no plan keeps to the limit, and this one comes nearest
};

/// Chooses for all items. The plans on the convex hull of (bytes, sum of kl), which the Lagrangian
/// min sum(kl + lambda * bytes) yields for every lambda, form one chain from the smallest
/// divergence to the fewest bytes; considered are all of them and all that differ from one of them
/// in a single item. The plan is the best of these that keeps to the limit, hence optimal where the
/// optimum lies on the hull, otherwise no further from it than one step of the chain; a looser
/// limit never makes it worse, and equal items are taken in their order. Refuses items without
/// choices and values that are negative or not finite.
Result<BudgetPlan> planBudget(std::span<const BudgetItem> items, const BudgetGoal &goal);

} // namespace smelt
