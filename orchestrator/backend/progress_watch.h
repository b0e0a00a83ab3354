// SPDX-License-Identifier: Apache-2.0
// Which calls are stalled: nothing has come for them, and the engine of their worker has made no step, for too long. A
// long prefill or a call that waits its turn is silent, too, but there the engine works. Pure: no clock, no connection.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// Not thread-safe. Times are of any one monotonic clock, in nanoseconds.
class ProgressWatch {
 public:
  explicit ProgressWatch(int64_t stall_ns) : stall_ns_(stall_ns) {}

  void OnBegin(CallId call, int32_t worker, int64_t now_ns);
  // How many messages have come for the call so far. True: more than the last time.
  bool OnMessages(CallId call, int64_t count, int64_t now_ns);
  // The worker's step count, as it says. True if it has grown since the last time.
  bool OnSteps(int32_t worker, int64_t steps, int64_t now_ns);
  void OnEnd(CallId call);

  // Workers to be asked for their steps now: those with a call that is silent for a quarter of the limit, each once in
  // such a quarter. They count as asked.
  std::vector<int32_t> TakeToAsk(int64_t now_ns);
  // Calls that are stalled; each is told once. A worker that never was asked is not known to stall.
  std::vector<CallId> TakeStalled(int64_t now_ns);

 private:
  struct Call {
    int32_t worker = -1;
    int64_t messages = 0;
    int64_t heard_ns = 0;
    bool told = false;
  };
  struct Worker {
    int64_t steps = -1;    // -1: it never said
    int64_t moved_ns = 0;  // when they last grew, or were first heard of
    int64_t asked_ns = 0;  // when asked
    bool asked = false;
  };

  const int64_t stall_ns_;
  std::unordered_map<CallId, Call> calls_;
  std::unordered_map<int32_t, Worker> workers_;
};

}  // namespace conclave::orchestrator
