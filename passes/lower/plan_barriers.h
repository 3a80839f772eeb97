// Barrier plan: which operands of a list of instructions may be used at once, and which only when
// all threads have finished what came before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

/// What an operand touches: addresses [begin, end) of a space of addresses of its own.
struct TouchedRange {
  int64_t space = 0;
  int64_t begin = 0, end = 0; ///< empty: nothing that is ever written
  bool writes = false;
  /// Ranges with the same number are apart for each thread, though not from others; -1: none.
  int64_t own = -1;
  bool ready = true; ///< assigned by planBarriers
};

/// Marks as ready what no instruction since the last barrier has touched, or has only read where
/// this operand only reads. Before an instruction with an operand that is not ready there is a
/// barrier; one that an instruction needs which does not run in some step is due before the next
/// one that does.
void planBarriers(std::span<std::vector<TouchedRange>> instructions);

} // namespace smelt
