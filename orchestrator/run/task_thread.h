// SPDX-License-Identifier: Apache-2.0
// A thread that runs what is posted to it, in order.
#pragma once

#include <cstdint>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "common/mutex.h"

namespace conclave::orchestrator {

using Task = absl::AnyInvocable<void()>;

// A queue of tasks with a wait that can end early. Thread-safe. Not bounded: whoever posts is bounded by what it waits
// for (calls in flight, RPCs, commits).
class TaskQueue {
 public:
  // False once closed; the task is then destroyed unrun.
  bool Post(Task task) {
    MutexLock lock(&mutex_);
    if (closed_) return false;
    tasks_.push_back(std::move(task));
    changed_.Signal();
    return true;
  }
  // What is queued; waits for something until the timeout, if there is nothing. Negative: for ever.
  std::deque<Task> Take(int64_t timeout_ns) {
    MutexLock lock(&mutex_);
    if (timeout_ns < 0) {
      while (tasks_.empty() && !closed_) changed_.Wait(&mutex_);
    } else if (tasks_.empty() && !closed_ && timeout_ns > 0) {
      changed_.WaitWithTimeout(&mutex_, timeout_ns);
    }
    return std::exchange(tasks_, {});
  }
  // Refuses what comes later. Returns what was queued and not taken.
  std::deque<Task> Close() {
    MutexLock lock(&mutex_);
    closed_ = true;
    changed_.SignalAll();
    return std::exchange(tasks_, {});
  }
  bool closed() const {
    MutexLock lock(&mutex_);
    return closed_;
  }
  size_t size() const {
    MutexLock lock(&mutex_);
    return tasks_.size();
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

// Runs tasks until it is destroyed; those queued by then still run.
class TaskThread {
 public:
  TaskThread() : thread_([this] { Loop(); }) {}
  ~TaskThread() { Join(); }
  bool Post(Task task) { return queue_.Post(std::move(task)); }
  // Runs what is queued, refuses the rest, ends.
  void Join() {
    if (!thread_.joinable()) return;
    queue_.Post([this] { stop_ = true; });
    thread_.join();
  }

 private:
  void Loop() {
    while (!stop_) {
      for (Task& task : queue_.Take(-1)) task();
    }
    for (Task& task : queue_.Close()) task();
  }

  TaskQueue queue_;
  bool stop_ = false;  // of the thread
  std::thread thread_;
};

}  // namespace conclave::orchestrator
