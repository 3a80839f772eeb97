// A persistent team of threads that walks one list of instructions together, with barriers where
// they need each other's results.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/artifact/reader.h"
#include "runtime/base/status.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace smelt {

/// How long a thread spins before it sleeps; each thread has its own. On an idle machine what it
/// waits for comes within microseconds, and spinning is cheapest. On a busy one the other thread
/// may have lost its processor, to this very thread at worst, and every spin is lost time: patience
/// halves with each long sleep and grows slowly again. A short sleep says the contrary: threads
/// that share memory's bandwidth finish some tens of microseconds apart, and a sleeper, woken late,
/// keeps the others waiting in turn.
class Patience {
public:
  std::chrono::nanoseconds spin() const { return current; }
  /// What was awaited came while spinning.
  void came();
  /// It came after sleep, `waited` in all.
  void slept(std::chrono::nanoseconds waited);

private:
  std::chrono::nanoseconds current = std::chrono::microseconds(50);
};

/// Memory that a thread will stream next: what it asks for while it waits costs nothing, and the
/// stream of a matrix does not start from nothing behind every barrier.
class Prefetch {
public:
  /// From now on the start of `memory`; goes on where it was if that is the same.
  void aim(std::span<const std::byte> memory);
  /// Asks for some lines, unless it has asked for enough.
  bool step();

private:
  const std::byte *start = nullptr, *next = nullptr, *end = nullptr;
};

/// A word that one thread raises and one other thread awaits; spins, then sleeps on a futex.
/// The value counts in steps of 2; bit 0 says that the waiter sleeps.
class alignas(64) Signal {
public:
  /// Raises the count to `count` (even) and wakes the waiter if it sleeps.
  void raise(uint32_t count);
  /// Returns once the count has reached `count`; asks for what is `ahead` while it spins.
  void await(uint32_t count, Patience &patience, Prefetch &ahead);

private:
  std::atomic<uint32_t> word{0};
};

/// An instruction with everything resolved to addresses.
struct ResolvedInstruction {
  format::KernelFunction one, many; ///< null: nothing to do for that row count
  format::Domain domain;
  format::OpLabel label;
  bool oneWaits, manyWait; ///< each kernel, until all threads have finished what is before it
  void *operands[format::operandCount];
  /// The matrix that this instruction or the next one with a matrix streams, for all threads.
  std::span<const std::byte> ahead = {};
};

/// Time per kind of instruction, measured by thread 0 with a barrier behind each.
struct StepProfile {
  std::array<uint64_t, opLabelCount> nanoseconds{};
  std::array<uint64_t, opLabelCount> calls{};
};

/// `threads` threads, the caller included; the others sleep between steps. One caller at a time.
class ThreadTeam {
public:
  /// Exhausted when the system refuses to start the threads.
  static Result<std::unique_ptr<ThreadTeam>> create(unsigned threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam &) = delete;
  ThreadTeam &operator=(const ThreadTeam &) = delete;

  unsigned size() const { return count; }
  /// Runs all instructions on all threads; `info` is int64[format::FieldCount] with all but
  /// FieldThread and FieldThreads filled in. With `profile`, adds the time of each instruction to
  /// it.
  void run(std::span<const ResolvedInstruction> program, const int64_t *info,
           StepProfile *profile = nullptr);
  /// Runs `function(context, thread)` on all threads at once.
  void run(void (*function)(void *context, unsigned thread), void *context);
  /// To be called by every thread of a running function: none returns before all have called.
  void barrier(unsigned thread, Prefetch &ahead);
  void barrier(unsigned thread) {
    Prefetch nothing;
    barrier(thread, nothing);
  }

private:
  explicit ThreadTeam(unsigned threads);
  void work(unsigned thread);

  unsigned count, rounds = 0;
  /// Dissemination barrier (Hensgen, Finkel, Manber 1988): in round r a thread signals the one 2^r
  /// further on and awaits the one 2^r before; signals[thread * rounds + round]. For two threads
  /// this is one exchange of flags.
  std::unique_ptr<Signal[]> signals;
  struct alignas(64) Own {
    uint32_t barriers = 0;
    Patience patience;
  };
  std::unique_ptr<Own[]> own;       ///< what each thread keeps for itself
  std::unique_ptr<Signal[]> starts; ///< one per thread
  uint32_t jobs = 0;
  void (*job)(void *, unsigned) = nullptr; ///< null: the threads end
  void *jobContext = nullptr;
  std::vector<std::thread> workers;
};

} // namespace smelt
