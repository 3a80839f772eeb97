// Measurement of load, prefill and decode, as `smelt bench` shows it and reports keep it.
#pragma once

#include "runtime/base/json.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <string>

namespace smelt::cli {

struct BenchOptions {
  std::string model;    ///< artifact
  std::string target;   ///< code to use; empty: the best for this CPU
  uint64_t rounds = 7;  ///< medians of so many
  uint32_t threads = 0; ///< 0: defaultThreads()
  bool profile = false; ///< also time by kind of operation
  bool quiet = false;   ///< no progress
};

/// Seconds, bytes and tokens per second by length, with the machine's limits probed between the
/// measurements.
Result<Json> measureSpeed(const BenchOptions &options);

} // namespace smelt::cli
