// The probes. Portable C++ that the compiler vectorizes; many sums, so that loads do not wait for
// additions.
#include "runtime/tools/probes.h"

#include <atomic>
#include <chrono>
#include <cstring>

#include <sys/mman.h>

namespace smelt::cli {

namespace {

using Clock = std::chrono::steady_clock;

/// Keeps the sums from being optimized away.
std::atomic<uint64_t> sink;

uint64_t sumOf(const std::byte *data, uint64_t bytes) {
  constexpr size_t lanes = 32;
  uint64_t sums[lanes] = {};
  for (uint64_t at = 0; at + sizeof sums <= bytes; at += sizeof sums) {
    uint64_t words[lanes];
    std::memcpy(words, data + at, sizeof words);
    for (size_t lane = 0; lane < lanes; ++lane)
      sums[lane] += words[lane];
  }
  uint64_t total = 0;
  for (uint64_t sum : sums)
    total += sum;
  return total;
}

struct Share {
  std::byte *data;
  uint64_t bytes;
  ThreadTeam *team;
  std::byte *begin(unsigned thread) const { return data + offset(thread); }
  uint64_t offset(unsigned thread) const { return bytes / 4096 * thread / team->size() * 4096; }
  uint64_t size(unsigned thread) const { return offset(thread + 1) - offset(thread); }
};

constexpr int barriers = 2000;

} // namespace

Result<ReadProbe> ReadProbe::create(ThreadTeam &team) {
  SMELT_ASSIGN(Pages pages, Pages::allocate(bytes, "the bandwidth probe"));
  // The machine's limit, not that of its page tables.
  ::madvise(pages.data(), bytes, MADV_HUGEPAGE);
  Share share{pages.data(), bytes, &team};
  team.run(
      [](void *context, unsigned thread) {
        const Share &share = *static_cast<Share *>(context);
        std::memset(share.begin(thread), 1, share.size(thread));
      },
      &share);
  return ReadProbe(team, std::move(pages));
}

double ReadProbe::measure() {
  Share share{pages.data(), bytes, team};
  Clock::time_point start = Clock::now();
  team->run(
      [](void *context, unsigned thread) {
        const Share &share = *static_cast<Share *>(context);
        sink += sumOf(share.begin(thread), share.size(thread));
      },
      &share);
  return double(bytes) / std::chrono::duration<double>(Clock::now() - start).count();
}

double measureBarrier(ThreadTeam &team) {
  Clock::time_point start = Clock::now();
  team.run(
      [](void *context, unsigned thread) {
        for (int i = 0; i < barriers; ++i)
          static_cast<ThreadTeam *>(context)->barrier(thread);
      },
      &team);
  return std::chrono::duration<double>(Clock::now() - start).count() / barriers;
}

} // namespace smelt::cli
