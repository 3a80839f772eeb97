// A small pool of workers that share the items of a loop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace smelt {

/// Runs loops over independent items. What an item computes must not depend on the thread it runs
/// on, so that results are the same for any number of workers.
class WorkerPool {
public:
  /// `threads` workers, the caller being one of them; 0 means one per core.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool &) = delete;
  WorkerPool &operator=(const WorkerPool &) = delete;

  int threads() const { return int(workers.size()) + 1; }
  /// Calls item(i) for i in [0, count) and returns when all are done. Not reentrant.
  void run(int64_t count, const std::function<void(int64_t)> &item);

private:
  void work();
  void takeItems(const std::function<void(int64_t)> &item, int64_t count);

  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake, done;
  const std::function<void(int64_t)> *current = nullptr;
  int64_t currentCount = 0;
  uint64_t generation = 0;
  int active = 0;
  bool stopping = false;
  std::atomic<int64_t> next{0};
};

} // namespace smelt
