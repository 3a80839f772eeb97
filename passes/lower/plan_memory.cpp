// Greedy-by-size interval placement (Pisarchyk and Lee, 2020): large buffers first, each at the
// lowest offset that is free during its whole life.
#include "passes/lower/plan_memory.h"

#include "runtime/formats/formats.h"

#include <algorithm>
#include <numeric>

namespace smelt {

int64_t planMemory(std::vector<PlannedBuffer> &buffers) {
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });

  std::vector<size_t> placed; // sorted by offset
  int64_t total = 0;
  for (size_t index : order) {
    PlannedBuffer &buffer = buffers[index];
    if (buffer.first < 0)
      continue; // never used
    int64_t size = roundUp(buffer.bytes, 64), offset = 0;
    for (size_t other : placed) {
      const PlannedBuffer &taken = buffers[other];
      bool together = taken.first <= buffer.last && buffer.first <= taken.last;
      if (together && offset + size > taken.offset)
        offset = std::max(offset, taken.offset + roundUp(taken.bytes, 64));
    }
    buffer.offset = offset;
    total = std::max(total, offset + size);
    auto at = std::upper_bound(placed.begin(), placed.end(), offset,
                               [&](int64_t value, size_t p) { return value < buffers[p].offset; });
    placed.insert(at, index);
  }
  return total;
}

} // namespace smelt
