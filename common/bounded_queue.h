// SPDX-License-Identifier: Apache-2.0
// A bounded multi-producer queue drained in batches by one consumer.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/mutex.h"

namespace conclave {

// Thread-safe. Push never blocks: a full or closed queue refuses, and the caller answers its own client.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // False when the queue is full or closed; `item` is then left untouched.
  bool TryPush(T&& item) {
    MutexLock lock(&mutex_);
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    ready_.Signal();
    return true;
  }

  // Takes everything now in the queue, without waiting.
  std::vector<T> DrainNow() {
    MutexLock lock(&mutex_);
    return TakeAll();
  }

  // Waits until there is an item, Close() or Wake(), or the timeout; then takes everything. May return early with
  // nothing when a timeout was given.
  std::vector<T> WaitAndDrain(absl::Duration timeout = absl::InfiniteDuration()) {
    MutexLock lock(&mutex_);
    if (timeout == absl::InfiniteDuration()) {
      while (!Ready()) ready_.Wait(&mutex_);
    } else if (!Ready()) {
      ready_.WaitWithTimeout(&mutex_, absl::ToInt64Nanoseconds(timeout));
    }
    woken_ = false;
    return TakeAll();
  }

  // Makes a waiting or the next WaitAndDrain return.
  void Wake() {
    MutexLock lock(&mutex_);
    woken_ = true;
    ready_.Signal();
  }

  // Later pushes are refused; what is queued can still be drained.
  void Close() {
    MutexLock lock(&mutex_);
    closed_ = true;
    ready_.SignalAll();
  }

  bool closed() const {
    MutexLock lock(&mutex_);
    return closed_;
  }
  size_t size() const {
    MutexLock lock(&mutex_);
    return items_.size();
  }

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !items_.empty() || closed_ || woken_; }
  std::vector<T> TakeAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<T> out(std::make_move_iterator(items_.begin()), std::make_move_iterator(items_.end()));
    items_.clear();
    return out;
  }

  const size_t capacity_;
  mutable Mutex mutex_;
  CondVar ready_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace conclave
