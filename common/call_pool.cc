// SPDX-License-Identifier: Apache-2.0
#include "common/call_pool.h"

#include <algorithm>
#include <utility>

namespace conclave {

CallPool::CallPool(const Limits& limits) : limits_(limits) {
  for (int32_t i = 0; i < limits_.threads; ++i) threads_.emplace_back([this] { Work(); });
}

void CallPool::Join() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool CallPool::TryRun(int64_t bytes, std::function<void()> call) {
  MutexLock lock(&mutex_);
  const bool full =
      static_cast<int32_t>(queue_.size()) >= limits_.calls_max || bytes > limits_.bytes_max - queued_bytes_;
  if (full || stopping_) return false;
  queue_.push_back({bytes, std::move(call)});
  queued_bytes_ += bytes;
  changed_.Signal();
  return true;
}

int32_t CallPool::waiting() const {
  MutexLock lock(&mutex_);
  return static_cast<int32_t>(queue_.size());
}

std::deque<CallPool::Call>::iterator CallPool::NextRunnable() {
  return std::find_if(queue_.begin(), queue_.end(), [this](const Call& call) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return !large_in_work_ || !IsLarge(call);
  });
}

void CallPool::Work() {
  mutex_.Lock();
  while (true) {
    const auto next = NextRunnable();
    if (next == queue_.end()) {
      if (stopping_ && queue_.empty()) break;
      changed_.Wait(&mutex_);
      continue;
    }
    const bool large = IsLarge(*next);
    {
      const Call call = std::move(*next);
      queue_.erase(next);
      queued_bytes_ -= call.bytes;
      if (large) large_in_work_ = true;
      mutex_.Unlock();
      call.run();
    }  // destroys the call's captures before the next one is taken
    mutex_.Lock();
    if (large) large_in_work_ = false;
    if (large || stopping_) changed_.SignalAll();
  }
  mutex_.Unlock();
}

}  // namespace conclave
