// Seeks, trial after trial, the plan whose finished artifact just keeps to a budget.
#pragma once

#include "calibration/budget.h"

#include <optional>
#include <string>

namespace smelt {

/// A finished artifact, and the plan that it was made of.
struct BudgetTrial {
  double reached;      ///< whole bytes, measured divergence or bits a weight
  double plannedBytes; ///< of matrices
  /// Whether the plan kept to the goal; where none can, a further trial would only repeat it.
  bool planMet;
};

/// Trials are needed since what a file weighs beside its matrices, and how predicted divergences
/// relate to measured ones, is only known of a finished artifact. Says what the next trial is to
/// aim at, which one to keep and when to stop.
class BudgetSearch {
public:
  /// `bytesBeside`: what is known to be in the file beside its matrices.
  BudgetSearch(const BudgetGoal &budget, double bytesBeside)
      : budget(budget), bytesBeside(bytesBeside) {}

  /// What the plan of the next trial may reach. `activationKl`: what the inputs of its linears are
  /// predicted to add to the divergence, in nats.
  BudgetGoal nextGoal(double activationKl) const;

  struct Verdict {
    bool isBest; ///< of all trials: the one to keep
    bool isDone; ///< no further trial would gain anything, or the last has been made
  };
  Verdict record(const BudgetTrial &trial);

  /// By how much the best trial misses the budget, to tell the user; empty: it keeps to it.
  std::string shortfall() const;

private:
  bool isBetter(double reached) const;

  BudgetGoal budget;
  double bytesBeside; ///< as the last trial had them: code is written for the formats in use
  double slackBytes = 0;
  /// Measured over predicted divergence: predictions leave out what errors add to each other
  /// (sensitivity.h). Over budgets of 0.01 to 0.05 nats it was 1.09 to 1.15.
  double underestimate = 1.12;
  int trials = 0;
  std::optional<BudgetTrial> best;
};

} // namespace smelt
