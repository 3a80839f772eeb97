// Where passes put bytes of the artifact's weights section, and where they find the weights of the model.
#pragma once

#include "calibration/graph.h"
#include "runtime/base/status.h"

#include "mlir/IR/Value.h"

#include <cstddef>
#include <functional>
#include <span>

namespace smelt {

/// The weights section while it is being made; bytes go to disk as they come, so that a model never has to fit in memory.
class WeightSink {
public:
  virtual ~WeightSink() = default;
  /// Starts a new object at the next multiple of 64 bytes and returns its offset in the section.
  virtual Result<int64_t> begin() = 0;
  virtual Status write(std::span<const std::byte> bytes) = 0;
};

/// The data behind an `slm.weight` or `slm.rotary_table`; the view stays valid while the weight store lives.
using WeightResolver = std::function<Result<WeightView>(mlir::Value)>;

} // namespace smelt
