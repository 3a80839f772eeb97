// What the kernels of a token program read about a step: ids, places and wanted rows, in one array.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/model/backend.h"

#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

/// Zero beyond the counts. places(): [4][maxTokens], see OperandKind::Positions.
class StepInputs {
public:
  StepInputs(const format::ModelConfig &config, uint32_t slots)
      : maxTokens(config.maxTokens), values((1 + placeCount) * maxTokens + config.maxLogitRows),
        lastPosition(slots) {}

  void set(std::span<const Token> tokens, std::span<const int32_t> logitRows);

  int32_t *ids() { return values.data(); }
  int32_t *places() { return ids() + maxTokens; }
  int32_t *rows() { return places() + placeCount * maxTokens; }
  std::span<const int32_t> all() const { return values; }
  /// Rows of logits asked for in the last step.
  size_t rowCount() const { return usedRows; }

private:
  static constexpr size_t placeCount = 4;

  size_t maxTokens;
  std::vector<int32_t> values;
  std::vector<int32_t> lastPosition; ///< [slots] of the step
  size_t usedTokens = 0, usedRows = 0;
};

} // namespace smelt
