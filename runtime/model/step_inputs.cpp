// Filling the inputs of a step.
#include "runtime/model/step_inputs.h"

#include <algorithm>

namespace smelt {

void StepInputs::set(std::span<const Token> tokens, std::span<const int32_t> logitRows) {
  for (const Token &token : tokens)
    lastPosition[size_t(token.slot)] = token.position;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Token &token = tokens[i];
    ids()[i] = token.id;
    const int32_t given[placeCount] = {token.position, token.slot, lastPosition[size_t(token.slot)],
                                       token.type};
    for (size_t k = 0; k < placeCount; ++k)
      places()[k * maxTokens + i] = given[k];
  }
  // Entries of the step before that this one does not reach become padding.
  for (size_t i = tokens.size(); i < usedTokens; ++i) {
    ids()[i] = 0;
    for (size_t k = 0; k < placeCount; ++k)
      places()[k * maxTokens + i] = 0;
  }
  std::copy(logitRows.begin(), logitRows.end(), rows());
  for (size_t i = logitRows.size(); i < usedRows; ++i)
    rows()[i] = 0;
  usedTokens = tokens.size();
  usedRows = logitRows.size();
}

} // namespace smelt
