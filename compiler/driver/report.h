// `smelt report`: what an artifact is made of, how good and how fast it is, as JSON and as one HTML
// page; and the comparison of two such JSON files, for continuous integration.
#pragma once

#include "runtime/base/json.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace smelt {

struct ReportOptions {
  std::vector<std::string> models; ///< the artifact, and others for the plot of size against KL
  std::string reference;           ///< ONNX model or artifact to measure against; empty: no quality
  std::vector<std::string> texts;  ///< files that are predicted
  std::vector<std::string> tasks;
  std::vector<std::string> prompts; ///< answered by both, side by side
  std::string statistics;           ///< of 'smelt calibrate', for outliers of activations
  int64_t context = 512, chunks = 0, answerTokens = 64;
  int64_t benchRounds = 0; ///< 0: no speed
  int threads = 0;
  bool quiet = false;
};

/// Collects everything. The keys: report (version), file, bytes, source, options, numerics,
/// decoder_bits_per_weight, parts, linears, weights (histograms), activations (histograms, with
/// statistics), tried, points (size and KL of
/// every model), quality, answers, speed; what was not asked for or is not stored is absent.
Result<Json> collectReport(const ReportOptions &options);

/// One page that needs nothing else: styles and SVG inside, no scripts, no network.
std::string reportHtml(const Json &report);

struct CompareLimits {
  double klIncrease = -1, sizeIncrease = -1; ///< as shares, 0.05 is 5 %; below 0: no limit
};

/// What changed from report `before` to `after`, a line each.
struct Comparison {
  std::string text;
  std::vector<std::string> exceeded; ///< limits, each a sentence
};
/// InvalidArgument: a limit on what a report does not hold; no report at all.
Result<Comparison> compareReports(const Json &before, const Json &after,
                                  const CompareLimits &limits);

/// Reads a report's JSON.
Result<Json> readReport(const std::string &path);

} // namespace smelt
