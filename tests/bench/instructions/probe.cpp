// Makes the steps whose instructions are counted: prefill of 8 tokens, then one token at position
// 72, on one thread.
//
// usage: instruction_probe ARTIFACT TARGET [step]
// Each of them stands between two marks, for the counting plugin (plugin.c). With `step` (x86-64
// only) the program counts by itself, by the trap flag, and prints the same lines: slow (some 10^5
// a second), but for CPUs that no emulator here knows.
#include "runtime/model/session.h"
#include "tests/bench/instructions/mark.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace smelt;

namespace {

bool isStepping = false;
volatile unsigned long steps = 0;

void onTrap(int) { steps = steps + 1; }

void setTrapFlag([[maybe_unused]] bool on) {
#if defined(__x86_64__)
  if (on)
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
  else
    __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
#endif
}

/// Ends what is counted, and begins the next.
void mark() { ::syscall(SYS_getpgid, long(markArgument)); }

Status append(Session &session, std::span<const int32_t> tokens) {
  mark();
  steps = 0;
  setTrapFlag(isStepping);
  Status status = session.append(0, tokens);
  setTrapFlag(false);
  if (isStepping)
    std::fprintf(stderr, "instructions %lu\n", steps);
  return status;
}

Status run(const char *path, const char *target) {
  SMELT_ASSIGN(auto model, Model::open(path, target));
  SessionOptions options;
  options.context = 128;
  options.threads = 1;
  SMELT_ASSIGN(auto session, Session::create(model, options));
  std::vector<int32_t> tokens(73);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = int32_t((i * i * 31 + 7 * i + 3) % model->config().vocabSize);
  const std::span<const int32_t> all = tokens;
  SMELT_TRY(session->append(0, all)); // pages are touched, symbols are bound
  SMELT_TRY(session->truncate(0, 64));
  SMELT_TRY(append(*session, all.subspan(64, 8)));
  SMELT_TRY(append(*session, all.subspan(72)));
  mark();
  return {};
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: instruction_probe ARTIFACT TARGET [step]\n");
    return 2;
  }
  if (argc == 4) {
    isStepping = true;
    struct sigaction action = {};
    action.sa_handler = onTrap;
    ::sigaction(SIGTRAP, &action, nullptr);
  }
  Status status = run(argv[1], argv[2]);
  if (!status.ok())
    std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
