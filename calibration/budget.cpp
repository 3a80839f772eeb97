// The chain of hull plans by sorting every item's hull steps by divergence per byte saved
// (Everett's multipliers, Operations Research 11, 1963), then the best neighbour of the chain.
#include "calibration/budget.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace smelt {

namespace {

/// One move along an item's hull: to the next smaller choice.
struct Step {
  int32_t item, from, to;
  double price; ///< divergence per byte saved
};

Status checkItems(std::span<const BudgetItem> items, const BudgetGoal &goal) {
  if (!std::isfinite(goal.limit) || goal.limit < 0)
    return invalidArgument("a budget of " + std::to_string(goal.limit) +
                           " is no size or divergence");
  for (const BudgetItem &item : items) {
    if (item.choices.empty())
      return invalidArgument("'" + item.name + "' has no format to choose from");
    for (const BudgetChoice &choice : item.choices)
      if (!std::isfinite(choice.kl) || choice.kl < 0 || choice.bytes < 0)
        return invalidArgument("'" + item.name + "' has a choice of " +
                               std::to_string(choice.bytes) + " bytes and divergence " +
                               std::to_string(choice.kl) +
                               "; both must be finite and not negative");
  }
  return {};
}

/// An item's lower convex hull, from its smallest divergence to its fewest bytes: indices of
/// choices, with rising price from one to the next.
std::vector<int32_t> hullOf(const BudgetItem &item) {
  const std::vector<BudgetChoice> &choices = item.choices;
  std::vector<int32_t> order(choices.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return choices[a].kl != choices[b].kl ? choices[a].kl < choices[b].kl
                                          : choices[a].bytes < choices[b].bytes;
  });
  auto price = [&](int32_t from, int32_t to) {
    return (choices[to].kl - choices[from].kl) / double(choices[from].bytes - choices[to].bytes);
  };
  std::vector<int32_t> hull;
  for (int32_t choice : order) {
    if (!hull.empty() && choices[choice].bytes >= choices[hull.back()].bytes)
      continue; // no smaller and no closer
    while (hull.size() > 1 &&
           price(hull.back(), choice) <= price(hull[hull.size() - 2], hull.back()))
      hull.pop_back();
    hull.push_back(choice);
  }
  return hull;
}

/// The best plan seen so far: the chain after `steps` moves, with `item` (-1: none) moved to
/// `choice`.
struct Best {
  bool found = false;
  size_t steps = 0;
  int32_t item = -1, choice = 0;
  int64_t bytes = 0;
  double kl = 0;
};

class Planner {
public:
  Planner(std::span<const BudgetItem> items, const BudgetGoal &goal)
      : items(items), byKl(goal.kind == BudgetKind::MaxKl), limit(goal.limit) {
    if (goal.kind == BudgetKind::MeanBits) {
      int64_t weights = 0;
      for (const BudgetItem &item : items)
        weights += item.weights;
      limit = goal.limit / 8 * double(weights);
    }
    limit *= 1 + 1e-12; // a limit that is itself such a sum is met
  }

  BudgetPlan plan() {
    makeChain();
    Best best;
    std::vector<int32_t> choices = start;
    int64_t bytes = 0;
    double kl = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      bytes += items[i].choices[choices[i]].bytes;
      kl += items[i].choices[choices[i]].kl;
    }
    for (size_t steps = 0;; ++steps) {
      consider(best, {true, steps, -1, 0, bytes, kl});
      considerNeighbours(best, choices, steps, bytes, kl);
      if (steps == chain.size())
        break;
      const Step &step = chain[steps];
      const std::vector<BudgetChoice> &of = items[step.item].choices;
      bytes += of[step.to].bytes - of[step.from].bytes;
      kl += of[step.to].kl - of[step.from].kl;
      choices[step.item] = step.to;
    }
    return rebuild(best);
  }

private:
  void makeChain() {
    for (size_t i = 0; i < items.size(); ++i) {
      const std::vector<int32_t> hull = hullOf(items[i]);
      start.push_back(hull.front());
      for (size_t k = 1; k < hull.size(); ++k) {
        const BudgetChoice &from = items[i].choices[hull[k - 1]], &to = items[i].choices[hull[k]];
        chain.push_back(
            {int32_t(i), hull[k - 1], hull[k], (to.kl - from.kl) / double(from.bytes - to.bytes)});
      }
    }
    std::stable_sort(chain.begin(), chain.end(),
                     [](const Step &a, const Step &b) { return a.price < b.price; });
  }

  void considerNeighbours(Best &best, const std::vector<int32_t> &choices, size_t steps,
                          int64_t bytes, double kl) const {
    for (size_t i = 0; i < items.size(); ++i) {
      const BudgetChoice &now = items[i].choices[choices[i]];
      for (size_t c = 0; c < items[i].choices.size(); ++c)
        consider(best, {true, steps, int32_t(i), int32_t(c),
                        bytes - now.bytes + items[i].choices[c].bytes,
                        kl - now.kl + items[i].choices[c].kl});
    }
  }

  /// Keeps the better one: within the limit first, then by what is to be small.
  void consider(Best &best, const Best &other) const {
    auto within = [&](const Best &plan) { return (byKl ? plan.kl : double(plan.bytes)) <= limit; };
    const bool better = !best.found                     ? true
                        : within(best) != within(other) ? within(other)
                        : byKl == within(other)         ? fewerBytes(other, best)
                                                        : smallerKl(other, best);
    if (better)
      best = other;
  }
  static bool fewerBytes(const Best &a, const Best &b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.kl < b.kl;
  }
  static bool smallerKl(const Best &a, const Best &b) {
    return a.kl != b.kl ? a.kl < b.kl : a.bytes < b.bytes;
  }

  BudgetPlan rebuild(const Best &best) const {
    BudgetPlan plan;
    plan.choices = start;
    for (size_t s = 0; s < best.steps; ++s)
      plan.choices[chain[s].item] = chain[s].to;
    if (best.item >= 0)
      plan.choices[best.item] = best.choice;
    for (size_t i = 0; i < items.size(); ++i) {
      plan.bytes += items[i].choices[plan.choices[i]].bytes;
      plan.kl += items[i].choices[plan.choices[i]].kl;
    }
    plan.met = (byKl ? plan.kl : double(plan.bytes)) <= limit;
    return plan;
  }

  std::span<const BudgetItem> items;
  const bool byKl; ///< the limit is one of divergence, and bytes are to be few
  double limit;
  std::vector<int32_t> start; ///< of the chain: the smallest divergence of every item
  std::vector<Step> chain;
};

} // namespace

Result<BudgetPlan> planBudget(std::span<const BudgetItem> items, const BudgetGoal &goal) {
  SMELT_TRY(checkItems(items, goal));
  return Planner(items, goal).plan();
}

} // namespace smelt
