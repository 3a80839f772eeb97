// `smelt calibrate`, and the calibration text of a model in its own tokens.
#pragma once

#include "calibration/collect.h"
#include "compiler/driver/dataset.h"
#include "compiler/tokenizer/import.h"

#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// The tokenizer beside a model; none if there is no tokenizer.json: such a model takes and gives
/// token ids.
Result<std::optional<TokenizerImport>> findTokenizer(const std::string &model);

/// Positions that the model's tables cover.
int64_t positionLimit(const Graph &graph);

/// Calibration data as windows of tokens that `graph` knows; without `data` the built-in samples.
Result<SampleSet> readSamples(const Graph &graph, const std::vector<std::string> &data,
                              SampleOptions sampling,
                              const std::optional<TokenizerImport> &tokenizer);

struct CalibrateOptions {
  std::string model;
  std::string output; ///< statistics file
  std::vector<std::string> data;
  SampleOptions samples;
  bool secondMoments = false;
  int threads = 0;
  bool quiet = false;
};

/// Runs the float model over the data, or over a shard of it, and writes the statistics.
[[nodiscard]] Status calibrateModel(const CalibrateOptions &options);

struct MergeOptions {
  std::vector<std::string> inputs; ///< statistics files of one model
  std::string output;
};

/// Adds statistics; shards of the same data give the bytes of one run.
[[nodiscard]] Status mergeStatisticsFiles(const MergeOptions &options);

} // namespace smelt
