// Folds of a source model: what is asked for, where they are kept, and who sees the folded weights.
#pragma once

#include "calibration/fold.h"
#include "compiler/driver/frontend.h"

#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// The folds as text, and back; nothing if the text is damaged, or of another graph or `key`, which
/// says what they depend on beside the work folder's own key.
std::string foldsText(const Graph &graph, const std::vector<Fold> &folds, const std::string &key);
std::optional<std::vector<Fold>> readFolds(const Graph &graph, const std::string &text,
                                           const std::string &key);

/// Folds the weights of the source's graph, and whatever its resolver gives from now on.
void foldModel(SourceModel &source, const std::vector<Fold> &folds);

} // namespace smelt
