// smelt inspect MODEL.onnx: what a model is, and what compiling it would give, before any compile.
#pragma once

#include "runtime/base/json.h"
#include "runtime/base/status.h"

#include <string>

namespace smelt {

/// Imports and raises the model and describes it: exporter, interface, architecture, parameters by
/// part, patterns that raised nodes, nodes that were not raised with the reason, expected size and
/// memory by format, warnings. Reads no weight but those that norms and rotary tables are made of.
Result<Json> describeModel(const std::string &path);
/// The same for people.
std::string describeText(const std::string &path, const Json &description);

} // namespace smelt
