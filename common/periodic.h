// SPDX-License-Identifier: Apache-2.0
// Something done again and again until it is stopped: housekeeping.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"

namespace conclave {

// Calls `act` on a thread of its own, `interval_ns` after its start and after each return of `act`, until destroyed or
// stopped. Stop waits for an `act` under way.
class Periodic {
 public:
  Periodic(int64_t interval_ns, std::function<void()> act)
      : interval_ns_(interval_ns), act_(std::move(act)), thread_([this] { Loop(); }) {}
  ~Periodic() { Stop(); }
  Periodic(const Periodic&) = delete;
  Periodic& operator=(const Periodic&) = delete;

  void Stop() {
    if (!thread_.joinable()) return;
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      changed_.SignalAll();
    }
    thread_.join();
  }

 private:
  void Loop() {
    while (true) {
      {
        MutexLock lock(&mutex_);
        if (!stop_) changed_.WaitWithTimeout(&mutex_, interval_ns_);
        if (stop_) return;
      }
      act_();
    }
  }

  const int64_t interval_ns_;
  const std::function<void()> act_;
  Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it begins at once
};

}  // namespace conclave
