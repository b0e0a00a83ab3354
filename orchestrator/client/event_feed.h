// SPDX-License-Identifier: Apache-2.0
// What a stream of events must be, and what to do when it breaks. Pure: no connection, no clock.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"

namespace conclave::orchestrator {

// Wait before asking again: the first time, then twice as long each time, at most.
inline constexpr int64_t kFirstRetryNs = 100'000'000;
inline constexpr int64_t kRetryNsMax = 5'000'000'000;

// Not thread-safe. Times are of any one monotonic clock.
class EventFeed {
 public:
  // Events follow after a number. `lost_ns`: how long it may stay broken.
  EventFeed(int64_t after_sequence_number, int64_t lost_ns) : last_(after_sequence_number), lost_ns_(lost_ns) {}

  // An event came: whether the observer should see it. Heartbeats and repeats are not for it. DATA_LOSS for a gap, or
  // an event of another run.
  absl::StatusOr<bool> Take(const deliberation::v1::Event& event);

  struct Next {
    bool end = false;     // tell the observer `status`; else ask again after `delay_ns`
    absl::Status status;  // OK: the stream is complete
    int64_t delay_ns = 0;
  };
  // The stream ended. Worth asking again: UNAVAILABLE, and RESOURCE_EXHAUSTED SUBSCRIBER_TOO_SLOW.
  Next OnBroken(const absl::Status& status, int64_t now_ns);

  // "" until the first event.
  const std::string& run_id() const { return run_id_; }
  int64_t last_sequence_number() const { return last_; }

 private:
  std::string run_id_;
  int64_t last_;
  const int64_t lost_ns_;
  bool broken_ = false;          // and nothing heard since
  int64_t broken_since_ns_ = 0;  // when broken_
  int64_t delay_ns_ = kFirstRetryNs;
};

}  // namespace conclave::orchestrator
