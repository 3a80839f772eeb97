// Progress of long work on stderr: a bar with phase, percent and time left on a terminal, plain
// lines otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace smelt::cli {

/// Shows one phase after the other. Not for several threads at once.
class Progress {
public:
  /// `enabled` false: prints nothing (an option like --quiet).
  explicit Progress(bool enabled = true);
  ~Progress();
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  /// Ends the current phase and starts another of `total` units (0: not known).
  void begin(std::string phase, uint64_t total = 0);
  /// `done` units of the phase are finished. Cheap: prints at most ten times a second.
  void update(uint64_t done);
  /// Ends the current phase: its line stays, with the time it took.
  void end();

private:
  using Clock = std::chrono::steady_clock;
  void draw(bool last);

  bool enabled, terminal;
  bool active = false;
  std::string phase;
  uint64_t total = 0, done = 0;
  double nextLogSeconds = 0; ///< plain lines: not before this time of the phase
  Clock::time_point started, drawn;
};

} // namespace smelt::cli
