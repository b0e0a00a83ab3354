// SPDX-License-Identifier: Apache-2.0
// Time as an injected dependency. Nothing outside main() and this folder reads the system's clocks.
#pragma once

#include <cstdint>

namespace conclave {

class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic nanoseconds (CLOCK_BOOTTIME): for durations, deadlines and leases. Unaffected by clock changes.
  virtual int64_t NowNs() const = 0;
  // Nanoseconds since the Unix epoch: for records that a person reads, never for a decision.
  virtual int64_t UnixNs() const = 0;

  // The real clock. Thread-safe, never destroyed.
  static const Clock& System();
};

// A clock that a test moves by hand. Not thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t now_ns = 0) : now_ns_(now_ns) {}
  int64_t NowNs() const override { return now_ns_; }
  int64_t UnixNs() const override { return now_ns_; }
  void AdvanceNs(int64_t ns) { now_ns_ += ns; }

 private:
  int64_t now_ns_;
};

}  // namespace conclave
