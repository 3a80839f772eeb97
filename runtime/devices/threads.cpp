// The thread team: signals over futexes, the dissemination barrier and the walk over the
// instructions.
#include "runtime/devices/threads.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <system_error>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;

/// Bounds of patience. Waking takes some 10 us and an instruction of a decode step 1 to 100 us:
/// spinning is for the gaps between instructions and steps, not for waiting on people. Measured
/// with 6 busy processes per processor: 17 tokens/s at a constant 50 us, 115 at 5 us; alone on the
/// machine both give 400, and 2 us gives 145.
constexpr auto leastSpin = std::chrono::microseconds(5), mostSpin = std::chrono::microseconds(50);
constexpr auto spinGrowth = std::chrono::nanoseconds(250),
               sleepGrowth = std::chrono::nanoseconds(1500);
/// A wait of this length, the waking included, was for work in hand; one for a lost processor is
/// longer (a time slice is a millisecond and more).
constexpr auto mostWork = std::chrono::microseconds(200);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void futex(std::atomic<uint32_t> &word, int operation, uint32_t value) {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
  ::syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), operation | FUTEX_PRIVATE_FLAG, value,
            nullptr, nullptr, 0);
}

/// Counts wrap around; two counts that are compared are at most one step apart.
bool reached(uint32_t word, uint32_t count) { return int32_t((word & ~1u) - count) >= 0; }

} // namespace

void Prefetch::aim(std::span<const std::byte> memory) {
  if (memory.data() == start)
    return;
  // More than this is not there in time, and less of what runs before stays in the cache.
  constexpr size_t most = 8192;
  start = next = memory.data();
  end = start + std::min(memory.size(), most);
}

bool Prefetch::step() {
  constexpr ptrdiff_t line = 64;
  if (end - next < 2 * line)
    return false;
  __builtin_prefetch(next, 0, 2);
  __builtin_prefetch(next + line, 0, 2);
  next += 2 * line;
  return true;
}

void Signal::raise(uint32_t value) {
  if (word.exchange(value, std::memory_order_acq_rel) & 1)
    futex(word, FUTEX_WAKE, 1);
}

void Patience::came() {
  current = std::min<std::chrono::nanoseconds>(mostSpin, current + spinGrowth);
}

void Patience::slept(std::chrono::nanoseconds waited) {
  current = waited <= mostWork ? std::min<std::chrono::nanoseconds>(mostSpin, current + sleepGrowth)
                               : std::max<std::chrono::nanoseconds>(leastSpin, current / 2);
}

void Signal::await(uint32_t value, Patience &patience, Prefetch &ahead) {
  uint32_t seen = word.load(std::memory_order_acquire);
  if (reached(seen, value))
    return;
  Clock::time_point begin{};
  for (unsigned spins = 1;; ++spins) {
    if (!ahead.step())
      relax();
    seen = word.load(std::memory_order_acquire);
    if (reached(seen, value)) {
      patience.came();
      return;
    }
    if (spins % 32 == 0) {
      Clock::time_point now = Clock::now();
      if (spins == 32)
        begin = now;
      else if (now >= begin + patience.spin())
        break;
    }
  }
  while (!reached(seen, value)) {
    if (seen & 1 || word.compare_exchange_weak(seen, seen | 1, std::memory_order_acquire)) {
      futex(word, FUTEX_WAIT, seen | 1);
      seen = word.load(std::memory_order_acquire);
    }
  }
  patience.slept(Clock::now() - begin);
}

ThreadTeam::ThreadTeam(unsigned threads)
    : count(threads), rounds(unsigned(std::bit_width(threads - 1))),
      signals(std::make_unique<Signal[]>(size_t(threads) * rounds)),
      own(std::make_unique<Own[]>(threads)), starts(std::make_unique<Signal[]>(threads)) {}

Result<std::unique_ptr<ThreadTeam>> ThreadTeam::create(unsigned threads) {
  if (threads == 0 || threads > 1024)
    return invalidArgument("found " + std::to_string(threads) + " threads, expected 1 to 1024");
  std::unique_ptr<ThreadTeam> team(new ThreadTeam(threads));
  team->workers.reserve(threads - 1);
  for (unsigned thread = 1; thread < threads; ++thread) {
    try {
      team->workers.emplace_back(&ThreadTeam::work, team.get(), thread);
    } catch (const std::system_error &error) {
      return exhausted("cannot start " + std::to_string(threads) + " threads: " + error.what());
    }
  }
  return team;
}

ThreadTeam::~ThreadTeam() {
  job = nullptr;
  jobs += 2;
  for (size_t thread = 1; thread <= workers.size(); ++thread)
    starts[thread].raise(jobs);
  for (std::thread &worker : workers)
    worker.join();
}

void ThreadTeam::work(unsigned thread) {
  Prefetch nothing;
  for (uint32_t next = 2;; next += 2) {
    starts[thread].await(next, own[thread].patience, nothing);
    if (!job)
      return;
    job(jobContext, thread);
    barrier(thread);
  }
}

void ThreadTeam::run(void (*function)(void *, unsigned), void *context) {
  job = function;
  jobContext = context;
  jobs += 2;
  for (unsigned thread = 1; thread < count; ++thread)
    starts[thread].raise(jobs);
  function(context, 0);
  // The last barrier: nobody looks at `job` or the caller's data after it.
  barrier(0);
}

void ThreadTeam::barrier(unsigned thread, Prefetch &ahead) {
  uint32_t value = own[thread].barriers += 2;
  for (unsigned round = 0; round < rounds; ++round) {
    unsigned partner = thread + (1u << round);
    if (partner >= count)
      partner -= count;
    signals[size_t(partner) * rounds + round].raise(value);
    signals[size_t(thread) * rounds + round].await(value, own[thread].patience, ahead);
  }
}

namespace {

struct Walk {
  ThreadTeam *team;
  std::span<const ResolvedInstruction> program;
  const int64_t *info;
  StepProfile *profile;
};

/// The part that a thread has of a matrix: about the tiles that its kernel gives it.
std::span<const std::byte> shareOf(std::span<const std::byte> matrix, size_t thread,
                                   size_t threads) {
  const size_t first = matrix.size() * thread / threads;
  return matrix.subspan(first, matrix.size() * (thread + 1) / threads - first);
}

int64_t rowsOf(const ResolvedInstruction &instruction, const int64_t *info) {
  return info[instruction.domain == format::Domain::Tokens ? format::FieldTokens
                                                           : format::FieldLogitRows];
}

template <bool Profiled> void walk(void *context, unsigned thread) {
  const Walk &step = *static_cast<const Walk *>(context);
  alignas(64) int64_t info[format::FieldCount];
  std::memcpy(info, step.info, sizeof info);
  info[format::FieldThread] = thread;
  info[format::FieldThreads] = step.team->size();
  Clock::time_point before = Profiled ? Clock::now() : Clock::time_point();
  bool isFirst = true, isDue = false;
  Prefetch ahead;
  for (const ResolvedInstruction &instruction : step.program) {
    const int64_t rows = rowsOf(instruction, info);
    isDue |= rows == 1 ? instruction.oneWaits : instruction.manyWait;
    format::KernelFunction kernel = rows == 1 ? instruction.one : instruction.many;
    if (!kernel || rows == 0)
      continue;
    if (!Profiled && isDue && !isFirst) {
      ahead.aim(shareOf(instruction.ahead, thread, step.team->size()));
      step.team->barrier(thread, ahead);
    }
    isFirst = isDue = false;
    void *const *p = instruction.operands;
    kernel(info, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
    if (!Profiled)
      continue;
    step.team->barrier(thread);
    if (thread == 0) {
      Clock::time_point now = Clock::now();
      auto label = size_t(instruction.label);
      step.profile->nanoseconds[label] += uint64_t((now - before) / std::chrono::nanoseconds(1));
      step.profile->calls[label] += 1;
      before = now;
    }
  }
}

} // namespace

void ThreadTeam::run(std::span<const ResolvedInstruction> program, const int64_t *info,
                     StepProfile *profile) {
  Walk step{this, program, info, profile};
  run(profile ? walk<true> : walk<false>, &step);
}

} // namespace smelt
