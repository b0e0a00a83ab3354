// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/client/event_feed.h"

#include <algorithm>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {

absl::StatusOr<bool> EventFeed::Take(const deliberation::v1::Event& event) {
  if (!run_id_.empty() && event.run_id() != run_id_) {
    return DataLoss("{}: the stream brought an event of {}", run_id_, event.run_id());
  }
  const int64_t number = event.sequence_number();
  if (number > last_ + 1) return DataLoss("{}: event {} is followed by {}", event.run_id(), last_, number);
  run_id_ = event.run_id();
  broken_ = false;
  delay_ns_ = kFirstRetryNs;
  if (number == 0) return !event.has_heartbeat();
  if (number <= last_) return false;
  last_ = number;
  return true;
}

EventFeed::Next EventFeed::OnBroken(const absl::Status& status, int64_t now_ns) {
  const bool too_slow = rpc::Reason(status) == "SUBSCRIBER_TOO_SLOW";
  if (status.ok() || (!absl::IsUnavailable(status) && !too_slow)) return {.end = true, .status = status, .delay_ns = 0};
  if (!broken_) {
    broken_ = true;
    broken_since_ns_ = now_ns;
    if (too_slow) return {};  // the orchestrator is there: at once
  }
  if (now_ns - broken_since_ns_ >= lost_ns_) return {.end = true, .status = status, .delay_ns = 0};
  return {.end = false, .status = {}, .delay_ns = std::exchange(delay_ns_, std::min(2 * delay_ns_, kRetryNsMax))};
}

}  // namespace conclave::orchestrator
