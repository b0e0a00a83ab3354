// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/thread_pool.h"

#include <algorithm>

#include "common/check.h"

namespace conclave::engine::cpu {
namespace {

constexpr int kWorkerSpins = 4000;  // some 50 microseconds
constexpr int kCallerSpins = 1000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

constexpr uint64_t Ticket(uint32_t epoch, int64_t tasks) {
  return (uint64_t{epoch} << 32) | (static_cast<uint64_t>(tasks) << 16);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Run(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int64_t tasks, Body body) {
  CONCLAVE_CHECK(tasks <= kTasksMax);
  if (tasks <= 1 || workers_.empty()) {
    for (int64_t i = 0; i < tasks; ++i) body(i, 0);
    return;
  }
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  body_.store(&body, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  ticket_.store(Ticket(epoch, tasks), std::memory_order_release);
  epoch_.store(epoch, std::memory_order_release);
  epoch_.notify_all();
  Work(epoch, 0);
  for (int spins = 0; done_.load(std::memory_order_acquire) != static_cast<uint32_t>(tasks); ++spins) {
    if (spins < kCallerSpins) {
      Pause();
    } else {
      std::this_thread::yield();  // a worker holds a task but not a core
    }
  }
}

void ThreadPool::ForRows(int64_t rows, int64_t width, absl::FunctionRef<void(int64_t)> body) {
  const int64_t tasks = rows * width < kSerialElements ? 1 : std::min<int64_t>(rows, threads() * 4);
  ParallelFor(tasks, [&](int64_t task, int) {
    for (int64_t row = rows * task / tasks; row < rows * (task + 1) / tasks; ++row) body(row);
  });
}

void ThreadPool::Work(uint32_t epoch, int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (true) {
    const uint64_t next = ticket & 0xffff, tasks = (ticket >> 16) & 0xffff;
    if (ticket >> 32 != epoch || next >= tasks) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    (*body_.load(std::memory_order_relaxed))(static_cast<int64_t>(next), thread);
    done_.fetch_add(1, std::memory_order_acq_rel);
    ++ticket;
  }
}

void ThreadPool::Run(int thread) {
  uint32_t seen = 0;
  while (true) {
    uint32_t epoch = epoch_.load(std::memory_order_acquire);
    for (int spins = 0; epoch == seen && spins < kWorkerSpins; ++spins) {
      Pause();
      epoch = epoch_.load(std::memory_order_acquire);
    }
    if (epoch == seen) {
      epoch_.wait(seen, std::memory_order_acquire);
      epoch = epoch_.load(std::memory_order_acquire);
    }
    if (stop_.load(std::memory_order_acquire)) return;
    seen = epoch;
    Work(epoch, thread);
  }
}

}  // namespace conclave::engine::cpu
