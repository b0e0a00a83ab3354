// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGINT for programs that serve: while one starts they end it as usual, then it is told and ends in order.
#pragma once

#include <atomic>
#include <optional>

#include "absl/time/time.h"
#include "common/bounded_queue.h"

namespace conclave {

// One per process, made before any other thread (threads inherit what is blocked) and never destroyed. SIGPIPE is
// ignored from here on. Thread-safe.
class TerminationSignals {
 public:
  TerminationSignals();
  TerminationSignals(const TerminationSignals&) = delete;
  TerminationSignals& operator=(const TerminationSignals&) = delete;

  // From here on signals are handed to Wait; before, and again after EndServing, one exits at once with 128 + its
  // number: a start can take minutes while nobody is served yet, and an end may hang.
  void BeginServing() { serving_ = true; }
  void EndServing() { serving_ = false; }
  // The next signal; nothing after the time.
  std::optional<int> Wait(absl::Duration timeout);

 private:
  void Take();

  std::atomic<bool> serving_ = false;
  BoundedQueue<int> taken_{16};
};

}  // namespace conclave
