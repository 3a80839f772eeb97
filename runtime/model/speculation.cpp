// Running estimates of step costs and of the share of drafts that are right.
#include "runtime/model/speculation.h"

#include <algorithm>
#include <iterator>

namespace smelt {

namespace {

/// Share of one more row of a step's cost, before anything was measured.
constexpr double rowShare = 0.12;
/// Weights of a new measurement that is below and above the estimate.
constexpr double faster = 0.5, slower = 0.05;
/// What a size that is not used forgets at each step of another: one slow measurement must not
/// keep it from ever being tried again.
constexpr double forgetting = 0.005;

/// By class, the draft model last. They only have to last until the text's own counts outweigh
/// them.
constexpr double firstRates[Acceptance::classes] = {0.3, 0.45, 0.55, 0.65, 0.8, 0.9, 0.95, 0.6};
constexpr double firstTrials = 4;
constexpr double fading = 0.96; ///< a trial's weight after the next one
constexpr double relaxation = 0.02;

} // namespace

double StepCosts::guess(size_t tokens) const {
  return measured[1] * (1 + rowShare * double(tokens - 1));
}

void StepCosts::record(size_t tokens, double seconds) {
  double &own = measured[tokens];
  own = own == 0 ? seconds : own + (seconds < own ? faster : slower) * (seconds - own);
  for (size_t other = 2; other < measured.size(); ++other)
    if (other != tokens && known() && measured[other] > guess(other))
      measured[other] += forgetting * (guess(other) - measured[other]);
}

double StepCosts::of(size_t tokens) const {
  if (measured[tokens] > 0)
    return measured[tokens];
  size_t below = tokens, above = tokens;
  while (below > 1 && measured[below] == 0)
    --below;
  while (above < measured.size() && measured[above] == 0)
    ++above;
  if (above == measured.size())
    return measured[below] + guess(tokens) - guess(below);
  double way = double(tokens - below) / double(above - below);
  return measured[below] + way * (measured[above] - measured[below]);
}

size_t Acceptance::ofMatch(size_t length) {
  constexpr size_t starts[] = {3, 4, 6, 9, 14, 24}; // of the second class and those behind it
  return size_t(std::upper_bound(std::begin(starts), std::end(starts), length) -
                std::begin(starts));
}

Acceptance::Acceptance() {
  for (size_t kind = 0; kind < classes; ++kind)
    counts[kind] = {firstRates[kind] * firstTrials, firstTrials};
}

void Acceptance::record(size_t kind, bool right) {
  Count &count = counts[kind];
  count = {count.right * fading + (right ? 1 : 0), count.tried * fading + 1};
}

void Acceptance::relax(size_t kind) {
  Count &count = counts[kind];
  count.right += relaxation * (firstRates[kind] * count.tried - count.right);
}

} // namespace smelt
