// Signal handling of commands that write files.
#include "compiler/driver/interrupt.h"

#include <climits>
#include <cstring>

#include <unistd.h>

namespace smelt {

namespace {

char unfinishedFile[PATH_MAX];

/// Only calls that are safe in a signal handler. The action was reset on entry, so raising ends the
/// process.
void removeAndDie(int signal) {
  ::unlink(unfinishedFile);
  ::raise(signal);
}

} // namespace

InterruptGuard::InterruptGuard(const std::string &file) {
  std::strncpy(unfinishedFile, file.c_str(), sizeof unfinishedFile - 1);
  struct sigaction action{};
  action.sa_handler = removeAndDie;
  action.sa_flags = int(SA_RESETHAND);
  for (size_t i = 0; i < std::size(signals); ++i) {
    ::sigaction(signals[i], nullptr, &previous[i]);
    // A signal that the caller ignores (nohup) stays ignored.
    if (previous[i].sa_handler != SIG_IGN)
      ::sigaction(signals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  for (size_t i = 0; i < std::size(signals); ++i)
    ::sigaction(signals[i], &previous[i], nullptr);
}

} // namespace smelt
