// Clock and median of the parts of `smelt bench`.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace smelt::cli {

using Clock = std::chrono::steady_clock;

inline double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The middle one, the upper of two; 0 if there is none.
inline double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

} // namespace smelt::cli
