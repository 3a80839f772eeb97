// The worker pool: one generation counter wakes the workers, one item counter feeds them.
#include "calibration/parallel.h"

#include <algorithm>

namespace smelt {

WorkerPool::WorkerPool(int threads) {
  if (threads <= 0)
    threads = std::max(1u, std::thread::hardware_concurrency());
  for (int i = 1; i < threads; ++i)
    workers.emplace_back([this] { work(); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex);
    stopping = true;
  }
  wake.notify_all();
  for (std::thread &worker : workers)
    worker.join();
}

void WorkerPool::takeItems(const std::function<void(int64_t)> &item, int64_t count) {
  for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
    item(i);
}

void WorkerPool::run(int64_t count, const std::function<void(int64_t)> &item) {
  if (workers.empty() || count <= 1) {
    for (int64_t i = 0; i < count; ++i)
      item(i);
    return;
  }
  {
    std::lock_guard lock(mutex);
    next.store(0, std::memory_order_relaxed);
    current = &item;
    currentCount = count;
    active = int(workers.size());
    ++generation;
  }
  wake.notify_all();
  takeItems(item, count);
  std::unique_lock lock(mutex);
  done.wait(lock, [this] { return active == 0; });
}

void WorkerPool::work() {
  uint64_t seen = 0;
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [&] { return stopping || generation != seen; });
    if (stopping)
      return;
    seen = generation;
    const std::function<void(int64_t)> &item = *current;
    int64_t count = currentCount;
    lock.unlock();
    takeItems(item, count);
    lock.lock();
    if (--active == 0)
      done.notify_one();
  }
}

} // namespace smelt
