// Where passes put bytes of the artifact's weights section, and where they find the weights of the
// model.
#pragma once

#include "calibration/graph.h"
#include "runtime/base/status.h"

#include "mlir/IR/Value.h"
#include "llvm/ADT/StringMap.h"

#include <cstddef>
#include <functional>
#include <span>

namespace smelt {

/// The weights section while it is being made; bytes go to disk as they come, so that a model never
/// has to fit in memory.
class WeightSink {
public:
  virtual ~WeightSink() = default;
  /// Starts a new object at the next multiple of 64 bytes and returns its offset in the section.
  virtual Result<int64_t> begin() = 0;
  virtual Status write(std::span<const std::byte> bytes) = 0;
};

/// Small arrays in the weights section, each of them once however often it is asked for.
class FloatStore {
public:
  explicit FloatStore(WeightSink &sink) : sink(sink) {}
  /// Where the values lie, which are written if they are not there yet.
  Result<int64_t> offsetOf(std::span<const float> values) {
    const auto bytes = std::as_bytes(values);
    auto [found, isNew] = offsets.try_emplace(
        llvm::StringRef(reinterpret_cast<const char *>(bytes.data()), bytes.size()), 0);
    if (isNew) {
      SMELT_ASSIGN(found->second, sink.begin());
      SMELT_TRY(sink.write(bytes));
    }
    return found->second;
  }

private:
  WeightSink &sink;
  llvm::StringMap<int64_t> offsets; ///< by the values' bytes
};

/// The data behind an `slm.weight` or `slm.rotary_table`; the view stays valid while the weight
/// store lives.
using WeightResolver = std::function<Result<WeightView>(mlir::Value)>;

} // namespace smelt
