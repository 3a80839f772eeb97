// What several commands share: opening a session, generation options, Ctrl-C, numbers as text.
#pragma once

#include "runtime/model/generate.h"
#include "runtime/model/session.h"
#include "runtime/tools/cli.h"

#include <atomic>
#include <memory>
#include <string>

namespace smelt::cli {

/// A session as --context, --threads, --target and --draft say.
Result<std::unique_ptr<Session>> openSession(const Arguments &arguments, const std::string &path);

/// --max-tokens, --stop and the sampling options; what is not given is the model's default.
Result<GenerateOptions> generateOptions(const Arguments &arguments,
                                        const format::ModelConfig &config);

/// --threads, at most what a team can have.
Result<uint32_t> threadCount(const Arguments &arguments);

/// While it lives, Ctrl-C sets a flag instead of ending the process.
class InterruptGuard {
public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard &) = delete;
  InterruptGuard &operator=(const InterruptGuard &) = delete;
  std::atomic<bool> &flag();
};

/// "94.1 MB", decimal units.
std::string bytesText(double bytes);
/// A number with so many digits behind the point.
std::string fixedText(double value, int digits);

void printStats(const GenerateResult &result);

} // namespace smelt::cli
