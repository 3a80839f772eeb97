// Second moments of output gradients on disk: one backward pass fills the folder, packing reads one
// linear's at a time.
#pragma once

#include "calibration/output_moments.h"

#include <filesystem>

namespace smelt {

/// A folder inside the work folder, whose key says what its contents depend on.
class OutputFolder {
public:
  explicit OutputFolder(std::filesystem::path folder) : folder(std::move(folder)) {}

  /// Fills the folder, unless an earlier run has.
  [[nodiscard]] Status collect(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                               const OutputMomentsOptions &options) const;
  /// `*this` outlives it.
  OutputMomentsLookup lookup() const;

private:
  std::filesystem::path pathOf(const std::string &linear) const;

  std::filesystem::path folder;
};

} // namespace smelt
