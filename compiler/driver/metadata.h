// The metadata section: how an artifact came to be, for people and tools (keys:
// runtime/artifact/format.h).
#pragma once

#include "compiler/driver/compile.h"
#include "compiler/driver/plan.h"
#include "compiler/driver/text_use.h"
#include "passes/quantize/quantize.h"
#include "runtime/artifact/format.h"

#include <map>
#include <string>
#include <vector>

namespace smelt {

/// What calibration used; empty hash: nothing.
struct CalibrationRecord {
  std::string hash; ///< of the statistics
  int64_t samples = 0, tokens = 0;
};

/// How the channels that a linear reads were changed.
struct FoldRecord {
  std::string_view algorithm;
  double exponent = 0;
  double errorLeft = 0; ///< of the outputs of all linears that read them, of what it was
};

struct Provenance {
  std::string sourceFile, sourceHash;
  uint64_t sourceBytes = 0;
  std::string algorithm;
  CalibrationRecord calibration;
  std::map<std::string, double> predicted; ///< nats per token, by matrix; empty: not predicted
  std::map<std::string, FoldRecord> folds; ///< by linear
  std::vector<TriedPlan> tried;            ///< other choices of formats, for the report
  std::vector<PackedMatrix> matrices;
  format::ModelConfig config{};
  int64_t wholeTables = 0, compactTables = 0; ///< rotary tables, as they are stored
  TextUse use;
  int64_t classes = 0; ///< columns of the output; -1: not known
};

/// Packed bits per weight over all matrices of a role; 0 if there are none.
double bitsPerWeight(const std::vector<PackedMatrix> &matrices, std::string_view role);

/// One JSON object. The same inputs give the same bytes: no dates, no host names.
std::string metadataJson(const CompileOptions &options, const Provenance &provenance);

} // namespace smelt
