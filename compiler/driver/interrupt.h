// Removes an unfinished output when the process is told to stop.
#pragma once

#include <csignal>
#include <string>

namespace smelt {

/// While it lives, SIGINT, SIGTERM and SIGHUP remove `file` before they end the process as they
/// always do. One at a time.
class InterruptGuard {
public:
  explicit InterruptGuard(const std::string &file);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard &) = delete;
  InterruptGuard &operator=(const InterruptGuard &) = delete;

private:
  static constexpr int signals[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction previous[std::size(signals)];
};

} // namespace smelt
