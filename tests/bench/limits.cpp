// Measures what this machine can do at most, so that speeds can be given as shares of it: read
// bandwidth, 8-bit dot products and the cost of a spin barrier. Prints one JSON object. Build:
// clang++-22 -O3 -march=native -pthread limits.cpp -o limits
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Threads meet here without the kernel's help: the cheapest barrier there is.
class SpinBarrier {
public:
  explicit SpinBarrier(int threads) : threads(threads) {}
  void wait() {
    const int round = generation.load(std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived.store(0, std::memory_order_relaxed);
      generation.store(round + 1, std::memory_order_release);
      return;
    }
    // On a machine that is busy with other work the peer may not be running at all: then make room
    // for it.
    for (int spins = 0; generation.load(std::memory_order_acquire) == round; ++spins)
      spins < 20'000 ? pause() : std::this_thread::yield();
  }

private:
  const int threads;
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<int> generation{0};
};

/// Runs body(thread) on all threads at once, the caller being one of them, and returns the wall
/// time in seconds.
template <typename Body> double runTogether(int threads, Body body) {
  SpinBarrier barrier(threads);
  std::vector<std::thread> team;
  for (int t = 1; t < threads; ++t)
    team.emplace_back([&, t] {
      barrier.wait();
      body(t);
      barrier.wait();
    });
  barrier.wait();
  const auto start = Clock::now();
  body(0);
  barrier.wait();
  const double seconds = secondsSince(start);
  for (auto &thread : team)
    thread.join();
  return seconds;
}

std::atomic<uint64_t> sink;

/// A cache line as one vector of whatever width the machine has.
typedef uint64_t Line __attribute__((vector_size(64), aligned(8)));

/// GB/s of reading `bytes` once, best of `rounds`; eight independent sums keep several lines in
/// flight.
double readBandwidth(const uint64_t *data, size_t bytes, int threads, int rounds) {
  double best = 0;
  const size_t words = bytes / 8 / threads / 64 * 64;
  for (int r = 0; r < rounds; ++r) {
    const double seconds = runTogether(threads, [&](int t) {
      const auto *p = reinterpret_cast<const Line *>(data + words * t);
      Line sum[8] = {};
      for (size_t i = 0; i < words / 8; i += 8)
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j)
          sum[j] ^= p[i + j];
      for (Line s : sum)
        sink ^= s[0];
    });
    best = std::max(best, 8.0 * words * threads / seconds / 1e9);
  }
  return best;
}

/// GOP/s (a multiplication and an addition count two) of 8-bit dot products held in registers, best
/// of 3.
double dotPeak(int threads) {
  double best = 0;
#if defined(__AVX512VNNI__)
  constexpr int iterations = 4'000'000, chains = 12;
  for (int r = 0; r < 3; ++r) {
    const double seconds = runTogether(threads, [&](int t) {
      __m512i sum[chains], a = _mm512_set1_epi8(t + 1), b = _mm512_set1_epi8(3);
      for (auto &s : sum)
        s = _mm512_setzero_si512();
      for (int i = 0; i < iterations; ++i)
#pragma GCC unroll 12
        for (int c = 0; c < chains; ++c) {
          sum[c] = _mm512_dpbusd_epi32(sum[c], a, b);
          asm("" : "+v"(sum[c])); // keeps the compiler from folding the loop
        }
      for (auto &s : sum)
        sink += _mm512_reduce_add_epi32(s);
    });
    best = std::max(best, 128.0 * iterations * chains * threads / seconds / 1e9);
  }
#elif defined(__AVX2__)
  constexpr int iterations = 4'000'000, chains = 10;
  for (int r = 0; r < 3; ++r) {
    const double seconds = runTogether(threads, [&](int t) {
      __m256i sum[chains], a = _mm256_set1_epi8(t + 1), b = _mm256_set1_epi8(3);
      const __m256i ones = _mm256_set1_epi16(1);
      for (auto &s : sum)
        s = _mm256_setzero_si256();
      for (int i = 0; i < iterations; ++i)
#pragma GCC unroll 10
        for (int c = 0; c < chains; ++c) {
          __m256i product = _mm256_maddubs_epi16(a, b);
          asm("" : "+x"(product));
          sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(product, ones));
        }
      for (auto &s : sum)
        sink += _mm256_extract_epi32(s, 0);
    });
    best = std::max(best, 64.0 * iterations * chains * threads / seconds / 1e9);
  }
#endif
  return best;
}

/// Nanoseconds of one spin barrier among `threads`, median of 9.
double barrierCost(int threads) {
  constexpr int rounds = 2'000;
  std::vector<double> times;
  for (int r = 0; r < 9; ++r) {
    SpinBarrier barrier(threads);
    times.push_back(runTogether(threads,
                                [&](int) {
                                  for (int i = 0; i < rounds; ++i)
                                    barrier.wait();
                                }) /
                    rounds * 1e9);
  }
  std::sort(times.begin(), times.end());
  return times[4];
}

} // namespace

int main(int argc, char **argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  if (threads < 1) {
    std::fprintf(stderr, "usage: limits [THREADS]\n");
    return 2;
  }
  constexpr size_t large = size_t(512) << 20, medium = size_t(96) << 20;
  std::vector<uint64_t> data(large / 8, 1);
  std::printf("{\"threads\": %d, \"read_512\": %.2f, \"read_96\": %.2f, \"dot8\": %.1f, "
              "\"barrier_ns\": %.0f}\n",
              threads, readBandwidth(data.data(), large, threads, 3),
              readBandwidth(data.data(), medium, threads, 8), dotPeak(threads),
              threads > 1 ? barrierCost(threads) : 0.0);
  return 0;
}
