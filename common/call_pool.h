// SPDX-License-Identifier: Apache-2.0
// The threads that parse, tokenize and submit calls, off gRPC's own few threads, behind a bounded queue.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"

namespace conclave {

// Thread-safe. Calls begin in the order of arrival, except that at most one large call is in work at a time and small
// ones may pass it: parsing can expand a message fifty-fold, so this bounds memory, and a small call is never stuck
// behind two large ones.
class CallPool {
 public:
  struct Limits {
    int32_t threads = 2;
    int32_t calls_max = 0;
    int64_t bytes_max = 0;
    int64_t large_bytes = 0;  // calls of more bytes are large
  };
  explicit CallPool(const Limits& limits);
  ~CallPool() { Join(); }
  CallPool(const CallPool&) = delete;
  CallPool& operator=(const CallPool&) = delete;

  // False when the queue is full: `call` will not run and the caller answers its own client. Never blocks.
  bool TryRun(int64_t bytes, std::function<void()> call);

  // Refuses what comes later, runs what is queued, then ends the threads. For one thread; again is no harm.
  void Join();

  int32_t waiting() const;

 private:
  struct Call {
    int64_t bytes;
    std::function<void()> run;
  };
  void Work();
  // The first call that may begin now, or end().
  std::deque<Call>::iterator NextRunnable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsLarge(const Call& call) const { return call.bytes > limits_.large_bytes; }

  const Limits limits_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Call> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool large_in_work_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace conclave
