// SPDX-License-Identifier: Apache-2.0
// Whether a server that keeps failing is asked at all: after some failures in a row it is left alone for a while, then
// one call tries it, and its end decides. Counts and times only: whoever asks brings the clock and the lock.
#pragma once

#include <cstdint>

namespace conclave::orchestrator {

struct BreakerOptions {
  int32_t failures = 5;              // in a row
  int64_t pause_ns = 1'000'000'000;  // doubled each time that the trial fails
  int64_t pause_max_ns = 60'000'000'000;
};

// Not thread-safe. Each call that passes reports once how it ended.
class Breaker {
 public:
  explicit Breaker(const BreakerOptions& options) : options_(options), pause_ns_(options.pause_ns) {}

  enum class Pass : uint8_t { kYes, kTrial, kNo };
  Pass Ask(int64_t now_ns);
  // Of a call that passed so. What neither tells that the server serves nor that it does not (a cancelled call) is
  // withdrawn.
  void Succeeded(Pass pass);
  void Failed(Pass pass, int64_t now_ns);
  void Withdrawn(Pass pass);

  // Left alone: nobody passes, or one to try.
  bool open() const { return open_; }
  // While open: before this nobody passes. During a trial it is in the past.
  int64_t closed_until_ns() const { return until_ns_; }
  int32_t failures() const { return failures_; }  // in a row

 private:
  const BreakerOptions options_;
  int64_t pause_ns_;
  int64_t until_ns_ = 0;
  int32_t failures_ = 0;
  bool open_ = false;
  bool trying_ = false;
};

}  // namespace conclave::orchestrator
