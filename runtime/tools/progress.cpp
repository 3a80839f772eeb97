// Draws progress; a terminal's line is overwritten, a log gets a line at the start, at every half
// and at the end.
#include "runtime/tools/progress.h"

#include <algorithm>
#include <cstdio>

#include <unistd.h>

namespace smelt::cli {

namespace {

/// What a log is spared: lines of phases that will end soon anyway.
constexpr double logSeconds = 10;

std::string clockText(double seconds) {
  char text[32];
  if (seconds < 10)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (seconds < 60)
    std::snprintf(text, sizeof text, "%.0f s", seconds);
  else
    std::snprintf(text, sizeof text, "%d:%02d min", int(seconds) / 60, int(seconds) % 60);
  return text;
}

} // namespace

Progress::Progress(bool enabled) : enabled(enabled), terminal(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  // Left by an error: the line must not swallow the message that follows.
  if (active && enabled && terminal)
    std::fputs("\n", stderr);
}

void Progress::begin(std::string name, uint64_t units) {
  end();
  phase = std::move(name);
  total = units;
  done = 0;
  nextLogSeconds = logSeconds;
  started = Clock::now();
  drawn = {};
  active = true;
  draw(false);
}

void Progress::update(uint64_t units) {
  done = units;
  if (!active || Clock::now() - drawn < std::chrono::milliseconds(100))
    return;
  draw(false);
}

void Progress::end() {
  if (!active)
    return;
  done = total;
  draw(true);
  active = false;
}

void Progress::draw(bool last) {
  if (!enabled)
    return;
  drawn = Clock::now();
  double seconds = std::chrono::duration<double>(drawn - started).count();
  double share = total == 0 ? 0 : std::min(1.0, double(done) / double(total));
  std::string text = phase;
  text.resize(std::max<size_t>(phase.size(), 28), ' ');
  if (last) {
    text += "  done in " + clockText(seconds);
  } else if (total != 0) {
    constexpr int width = 24;
    int filled = int(share * width);
    text += " [" + std::string(size_t(filled), '#') + std::string(size_t(width - filled), '.') +
            "] " + std::to_string(int(share * 100)) + " %";
    if (share > 0.02 && seconds > 0.5)
      text += "  " + clockText(seconds * (1 - share) / share) + " left";
  }
  if (terminal) {
    std::fprintf(stderr, "\r\033[K%s%s", text.c_str(), last ? "\n" : "");
    std::fflush(stderr);
  } else if (last || seconds >= nextLogSeconds) {
    nextLogSeconds = seconds + logSeconds;
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

} // namespace smelt::cli
