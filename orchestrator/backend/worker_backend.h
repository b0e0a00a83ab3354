// SPDX-License-Identifier: Apache-2.0
// Calls answered by conclave workers over gRPC: one channel per worker, the least loaded of a member's replicas, a
// bounded number of calls on each worker and a queue in front of it.
//
// What is tried again here, unseen by the run: a worker that is full and says when to come back. What the run decides:
// a call whose worker was lost ends as retryable, and the same seed gives the same text on another replica. A call to
// a member none of whose workers can be reached waits for one (a worker may be restarting) for unreachable_ns. A call
// whose worker stalls while its connection lives is lost, too, and the worker gets no calls until it works again. So is
// one whose worker says nothing at all until its lease is over; when it is heard of again, it is told what was given
// up. What several calls of a worker begin with is pinned there (trunk_table.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "conclave/deliberation/v1/fleet.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/backend/breaker.h"
#include "protos/rpc_endpoint.h"

namespace conclave::orchestrator {

struct WorkerMember {
  std::string name;
  std::vector<std::string> addresses;  // replicas; members may share workers
  double weight = 1.0;
  std::optional<deliberation::v1::Card> card = {};
};

struct WorkerBackendOptions {
  rpc::TlsFiles tls = {};
  int32_t calls_per_worker_max = 64;          // on the wire at once
  int64_t call_timeout_ns = 600'000'000'000;  // of calls that name none
  int64_t unreachable_ns = 15'000'000'000;    // how long a call waits for a worker
  int64_t cancel_grace_ns = 2'000'000'000;    // how long a cancelled call may take to report its work
  int64_t stall_ns = 60'000'000'000;          // silent for so long, and no engine step either: the call is lost
  BreakerOptions breaker = {};                // of each worker
  const Clock* clock = &Clock::System();
  std::string request_prefix = {};  // of the ids on the wire, at most 17 characters; "": one drawn for this process
};

// INVALID_ARGUMENT for an address or a member without one; UNAVAILABLE NO_WORKER, naming the addresses, when not every
// worker has said what it serves after `connect_timeout_ns`. Blocks until then.
absl::StatusOr<std::unique_ptr<Backend>> ConnectWorkers(std::vector<WorkerMember> members,
                                                        const WorkerBackendOptions& options,
                                                        int64_t connect_timeout_ns);

}  // namespace conclave::orchestrator
