// SPDX-License-Identifier: Apache-2.0
// Threads for the loops of one step. A loop's tasks are claimed one by one, so a thread that the machine has taken away
// delays nothing it has not begun; with more processes than cores that matters more than the claim's few nanoseconds.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace conclave::engine::cpu {

// One caller at a time. Idle workers spin for a moment (the next loop of a step comes within microseconds), then sleep.
class ThreadPool {
 public:
  // More tasks than this are the caller's to group.
  static constexpr int64_t kTasksMax = 65535;

  // Loops over less work than this (elements touched) are not worth waking a thread.
  static constexpr int64_t kSerialElements = 16384;

  // `threads` includes the caller: 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs body(task, thread) for every task in [0, tasks), 0 <= thread < threads(); returns when all are done.
  void ParallelFor(int64_t tasks, absl::FunctionRef<void(int64_t task, int thread)> body);
  // Runs body(row) over `rows` rows of `width` elements, on the calling thread if that is little.
  void ForRows(int64_t rows, int64_t width, absl::FunctionRef<void(int64_t row)> body);

 private:
  using Body = absl::FunctionRef<void(int64_t, int)>;
  void Run(int thread);
  void Work(uint32_t epoch, int thread);

  // (epoch, number of tasks, next task) in one word: a claim made for a finished loop fails.
  alignas(64) std::atomic<uint64_t> ticket_ = 0;
  alignas(64) std::atomic<uint32_t> done_ = 0;
  alignas(64) std::atomic<uint32_t> epoch_ = 0;  // what sleepers wait on
  std::atomic<const Body*> body_ = nullptr;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace conclave::engine::cpu
