// The steps that a device has recorded, found again by their dispatches.
#pragma once

#include "runtime/devices/gpu.h"

#include <algorithm>
#include <span>
#include <vector>

namespace smelt {

/// Keeps the steps used last. An answer needs one at a time, a new one whenever attention takes
/// another block of positions; drafts of several lengths need a few side by side.
template <typename Recording> class RecordedSteps {
public:
  static constexpr size_t most = 4;

  struct Step {
    std::vector<GpuDispatch> dispatches;
    Recording recording{};
  };

  /// The recorded step, used last from now on; null: there is none.
  Step *find(std::span<const GpuDispatch> dispatches) {
    auto found = std::find_if(steps.begin(), steps.end(), [&](const Step &step) {
      return std::equal(step.dispatches.begin(), step.dispatches.end(), dispatches.begin(),
                        dispatches.end());
    });
    if (found == steps.end())
      return nullptr;
    std::rotate(steps.begin(), found, found + 1);
    return &steps.front();
  }

  /// Takes what was recorded, and gives the recording that there is no more room for: to be freed
  /// or used again.
  Recording add(std::span<const GpuDispatch> dispatches, Recording recording) {
    Recording dropped{};
    if (steps.size() == most) {
      dropped = steps.back().recording;
      steps.pop_back();
    }
    steps.insert(steps.begin(), {{dispatches.begin(), dispatches.end()}, recording});
    return dropped;
  }

  /// Forgets them all; `drop(recording)` frees one.
  template <typename Drop> void clear(const Drop &drop) {
    for (Step &step : steps)
      drop(step.recording);
    steps.clear();
  }

private:
  std::vector<Step> steps; ///< the one used last first
};

} // namespace smelt
