// Memory plan: buffers with lifetimes over a list of instructions become offsets in one scratch
// area.
#pragma once

#include <cstdint>
#include <vector>

namespace smelt {

/// A buffer of the step, named by its index in the plan.
struct PlannedBuffer {
  int64_t bytes = 0;
  int64_t first = -1;   ///< first instruction that touches it
  int64_t last = -1;    ///< last one
  int64_t offset = 0;   ///< assigned by planMemory, a multiple of 64
  int64_t rowBytes = 0; ///< of float rows of the token domain, back to back; 0: something else
};

/// Gives every buffer an offset such that buffers that live at the same time do not overlap (greedy
/// by size, first fit), and returns the bytes of the whole area.
int64_t planMemory(std::vector<PlannedBuffer> &buffers);

} // namespace smelt
