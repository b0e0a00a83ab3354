// SPDX-License-Identifier: Apache-2.0
// Whether a server that keeps failing is asked at all: after too many failures it is left alone for a while, then one
// call tries it, and its end decides. Counts and times only: whoever asks brings the clock and the lock.
#pragma once

#include <cstdint>
#include <string>

namespace conclave::orchestrator {

// What specs/service.md 1c row 25 asks for: ten failures in a row or half of the last twenty, then thirty seconds.
struct BreakerOptions {
  int32_t failures = 10;         // in a row
  int32_t window = 20;           // ends that are looked back on, once there are so many; at most 64
  int32_t window_failures = 10;  // of them
  int64_t pause_ns = 30'000'000'000;
  int64_t pause_max_ns = 30'000'000'000;  // it doubles up to here each time that the trial fails
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
  // While open: "10 failures in a row", "10 failures in 20 calls".
  std::string Why() const;

 private:
  void Count(bool failed);

  const BreakerOptions options_;
  int64_t pause_ns_;
  int64_t until_ns_ = 0;
  int32_t in_a_row_ = 0;
  uint64_t last_ = 0;  // the newest in the lowest bit; 1: it failed
  int32_t counted_ = 0;
  bool open_ = false;
  bool trying_ = false;
};

}  // namespace conclave::orchestrator
