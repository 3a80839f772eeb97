// Speculative decoding: how many drafted tokens are worth a longer step.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace smelt {

/// Most tokens that are drafted for one step.
inline constexpr size_t mostDrafted = 15;

/// Measured time of decode steps by their number of tokens. Follows what is fast quickly and what
/// is slow slowly: a step is slow for many reasons, but fast for one.
class StepCosts {
public:
  /// A step of `tokens` tokens, 1 to mostDrafted + 1, with logits of all.
  void record(size_t tokens, double seconds);
  /// Expected seconds; of sizes that were never seen, by those that were. Only once a step of one
  /// token was.
  double of(size_t tokens) const;
  bool known() const { return measured[1] > 0; }

private:
  double guess(size_t tokens) const;
  std::array<double, mostDrafted + 2> measured{}; ///< 0: never
};

/// How often drafted tokens were right, in classes (of the length of a match, or one for a draft
/// model). Old trials fade.
class Acceptance {
public:
  static constexpr size_t classes = 8, draftModel = classes - 1;
  /// The class of a token drafted behind a match of `length` tokens.
  static size_t ofMatch(size_t length);

  Acceptance();
  double rate(size_t kind) const { return counts[kind].right / counts[kind].tried; }
  void record(size_t kind, bool right);
  /// Moves a little towards what was expected at first: without trials, nothing is known for long.
  void relax(size_t kind);

private:
  struct Count {
    double right, tried;
  };
  std::array<Count, classes> counts;
};

/// What to draft, and what is expected of it.
struct DraftPlan {
  size_t count = 0; ///< tokens; 0: a plain step is best
  double speed = 0; ///< expected tokens per second
};

/// The number of drafted tokens k <= `limit` with the most tokens per second:
///   (1 + sum over i <= k of the probability that drafts 1..i are all right)
///     / (costs.of(k + 1) + k * draftSeconds)
/// (Leviathan, Kalman, Matias 2023, with measured costs). `kindOf(i)`: class of draft i, from 0.
template <typename KindOf>
DraftPlan planDraft(const StepCosts &costs, const Acceptance &acceptance, double draftSeconds,
                    size_t limit, const KindOf &kindOf) {
  /// A longer step must promise that much more: expectations are no measurements.
  constexpr double margin = 1.03;
  if (!costs.known())
    return {};
  DraftPlan best{0, margin / costs.of(1)};
  double certain = 1, expected = 1;
  for (size_t count = 1; count <= limit; ++count) {
    certain *= acceptance.rate(kindOf(count - 1));
    expected += certain;
    double speed = expected / (costs.of(count + 1) + double(count) * draftSeconds);
    if (speed > best.speed)
      best = {count, speed};
  }
  return best;
}

} // namespace smelt
