// A walk that keeps what was touched since the last barrier: read after write, write after read
// and write after write wait for it (Bernstein's conditions, 1966).
#include "passes/lower/plan_barriers.h"

#include <algorithm>

namespace smelt {

void planBarriers(std::span<std::vector<TouchedRange>> instructions) {
  std::vector<TouchedRange> since;
  for (std::vector<TouchedRange> &operands : instructions) {
    for (TouchedRange &operand : operands)
      operand.ready = std::none_of(since.begin(), since.end(), [&](const TouchedRange &other) {
        const bool isOwn = operand.own >= 0 && operand.own == other.own;
        return !isOwn && other.space == operand.space && other.begin < operand.end &&
               operand.begin < other.end && (other.writes || operand.writes);
      });
    if (std::any_of(operands.begin(), operands.end(), [](auto &operand) { return !operand.ready; }))
      since.clear();
    since.insert(since.end(), operands.begin(), operands.end());
  }
}

} // namespace smelt
