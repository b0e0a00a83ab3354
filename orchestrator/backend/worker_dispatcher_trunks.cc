// SPDX-License-Identifier: Apache-2.0
// WorkerDispatcher's trunks: what the calls of a worker begin with stays pinned there while they come. A worker that
// pins nothing is used as before, and a pin that is lost costs only its computation.
#include "common/status.h"
#include "orchestrator/backend/worker_dispatcher.h"
#include "orchestrator/backend/worker_request.h"

namespace conclave::orchestrator {

namespace pb = ::conclave::inference::v1;

void WorkerDispatcher::NoteTrunk(int32_t index, const CallRequest& request, Todo* todo) {
  std::optional<TrunkTable::Wanted> wanted = trunks_.OnEnd(index, request, Now());
  if (!wanted.has_value()) return;
  pb::PinPrefixRequest pin = ToPin(wanted->trunk, workers_[static_cast<size_t>(index)].described.model());
  todo->pin.emplace_back(*std::move(wanted), std::move(pin));
  ++asking_;
}

void WorkerDispatcher::DoTrunks(const Todo& todo) {
  for (const auto& [wanted, request] : todo.pin) {
    transport_->PinPrefix(wanted.worker, request,
                          [this, worker = wanted.worker, ticket = wanted.ticket](
                              const absl::Status& status, const pb::PinPrefixResponse& response) {
                            OnPinned(worker, ticket, status, response);
                          });
  }
  for (const TrunkTable::Due& due : todo.trunks) {
    if (!due.release.empty()) transport_->ReleasePrefixes(due.worker, due.release);
    if (due.renew.empty()) continue;
    transport_->RenewPrefixes(due.worker, due.renew,
                              [this, worker = due.worker, ids = due.renew](const absl::Status& status,
                                                                           const pb::RenewPrefixesResponse& response) {
                                OnRenewed(worker, ids, status, response);
                              });
  }
}

void WorkerDispatcher::OnPinned(int32_t index, uint64_t ticket, const absl::Status& status,
                                const pb::PinPrefixResponse& response) {
  std::vector<std::string> release;
  {
    MutexLock lock(&mutex_);
    release = trunks_.OnPinned(index, ticket, status, response.prefix_id(), Now());
  }
  if (!release.empty()) transport_->ReleasePrefixes(index, release);
  MutexLock lock(&mutex_);  // last: the destructor waits for it
  --asking_;
  changed_.SignalAll();
}

void WorkerDispatcher::OnRenewed(int32_t index, const std::vector<std::string>& prefix_ids, const absl::Status& status,
                                 const pb::RenewPrefixesResponse& response) {
  MutexLock lock(&mutex_);
  // Of a renewal that did not arrive, the next one tells.
  for (int i = 0; status.ok() && i < response.outcomes_size() && i < std::ssize(prefix_ids); ++i) {
    if (response.outcomes(i) == pb::RenewPrefixesResponse::OUTCOME_RENEWED) continue;
    trunks_.OnLapsed(index, prefix_ids[static_cast<size_t>(i)]);
  }
  --asking_;  // last: the destructor waits for it
  changed_.SignalAll();
}

void WorkerDispatcher::RenewTrunks(int64_t now_ns, Todo* todo) {
  todo->trunks = trunks_.TakeDue(now_ns);
  for (const TrunkTable::Due& due : todo->trunks) asking_ += due.renew.empty() ? 0 : 1;
}

}  // namespace conclave::orchestrator
