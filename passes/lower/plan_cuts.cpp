// A buffer is taken over where an instruction before the cut and one behind it touch it.
#include "passes/lower/plan_cuts.h"

namespace smelt {

std::vector<format::LayerStart> planCuts(std::span<const int64_t> attention,
                                         std::span<const PlannedBuffer> buffers) {
  std::vector<format::LayerStart> starts;
  int64_t earliest = 0;
  for (int64_t own : attention) {
    format::LayerStart start{};
    for (int64_t cut = own; cut >= earliest && start.rowBytes == 0; --cut) {
      const PlannedBuffer *taken = nullptr;
      int64_t count = 0;
      for (const PlannedBuffer &buffer : buffers)
        if (buffer.first >= 0 && buffer.first < cut && buffer.last >= cut) {
          taken = &buffer;
          ++count;
        }
      if (count == 1 && taken->rowBytes != 0)
        start = {uint32_t(cut), uint32_t(taken->rowBytes), uint64_t(taken->offset)};
    }
    starts.push_back(start);
    earliest = own + 1;
  }
  return starts;
}

} // namespace smelt
