// A fixed sequence of random numbers as token ids.
#include "calibration/random_samples.h"

#include <random>

namespace smelt {

std::vector<std::vector<int32_t>> randomSamples(const Graph &graph, int64_t samples,
                                                int64_t tokens) {
  // The engine's sequence is fixed by the standard; its distributions are not.
  std::mt19937_64 random(1);
  const uint64_t ids = uint64_t(tokenCount(graph));
  std::vector<std::vector<int32_t>> drawn(size_t(ids ? samples : 0));
  for (std::vector<int32_t> &sample : drawn)
    for (int64_t i = 0; i < tokens; ++i)
      sample.push_back(int32_t(random() % ids));
  return drawn;
}

} // namespace smelt
