// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_witness.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/worker_leases.h"
#include "orchestrator/run/stored_run.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

// The dispatcher looks every 50 ms, and what it asks may be under way for two seconds.
constexpr int64_t kHeardSlackNs = 3 * kSimSecond;

std::string NameOf(const pb::Event& event, const pb::CallKey& key) {
  return event.run_id() + "|" + event.node_path() + "|" + key.SerializeAsString();
}

}  // namespace

void SimWitness::OnCommitted(const std::vector<WriteOp>& batch) {
  for (const WriteOp& op : batch) {
    if (const auto* input = std::get_if<RecordInput>(&op)) {
      const int64_t last = last_[input->run_id];
      if (input->after_sequence_number > last) {
        Violation(fmt::format("{}: an input that came after event {} is stored, where event {} is the last",
                              input->run_id, input->after_sequence_number, last));
      }
      continue;
    }
    const auto* append = std::get_if<AppendEvents>(&op);
    if (append == nullptr) continue;
    int64_t& last = last_[append->run_id];
    for (const std::string& bytes : append->events) {
      const auto event = DecodeEvent(append->run_id, ++last, bytes);
      if (!event.ok()) {
        Violation(event.status().ToString());
        continue;
      }
      if (event->has_call_started()) {
        open_[NameOf(*event, event->call_started().key())] = event->call_started().seed();
        ++announced_[event->call_started().seed()];
      }
      if (!event->has_call_finished() && !event->has_call_lost()) continue;
      const pb::CallKey& key = event->has_call_finished() ? event->call_finished().key() : event->call_lost().key();
      const auto found = open_.find(NameOf(*event, key));
      if (found == open_.end()) continue;  // said at the end: a call ended that never began
      --announced_[found->second];
      open_.erase(found);
    }
  }
}

void SimWitness::OnSeen(const pb::Event& event) const {
  const auto last = last_.find(event.run_id());
  if (last != last_.end() && event.sequence_number() <= last->second) return;
  Violation(fmt::format("event {} of {} is shown before it is durable", event.sequence_number(), event.run_id()));
}

void SimWitness::OnCancelAcknowledged(const std::string& run_id) const {
  const auto run = disk_->GetRun(run_id);
  if (run.ok() && run->finished) return;
  const auto inputs = disk_->ReadInputs(run_id);
  const std::string cancel = EncodeInput(CancelRequested{});
  const bool stored = inputs.ok() && std::any_of(inputs->begin(), inputs->end(),
                                                 [&](const StoredInput& input) { return input.input == cancel; });
  if (!stored) Violation(fmt::format("the cancellation of {} is acknowledged before it is durable", run_id));
}

int32_t SimWitness::announced(uint64_t seed) const {
  const auto found = announced_.find(seed);
  return found == announced_.end() ? 0 : found->second;
}

void SimSwitchboard::Start(CallRequest request, CallSink* sink) {
  if (++in_flight_[request.seed] > witness_->announced(request.seed)) {
    witness_->Violation("a call is made that no durable event announces");
  }
  if (!calls_.emplace(request.id, Call{request.seed, sink}).second) witness_->Violation("a call id is used twice");
  backend_->Start(std::move(request), this);
}

void SimSwitchboard::OnDelta(CallId id, CallDelta delta) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return witness_->Violation("words come of a call that has ended");
  found->second.sink->OnDelta(id, std::move(delta));
}

void SimSwitchboard::OnDone(CallId id, CallOutcome outcome) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return witness_->Violation("a call ends twice");
  const Call call = found->second;
  calls_.erase(found);
  --in_flight_[call.seed];
  if (Message(outcome.status).find("LEASE:") != std::string_view::npos) {
    const int64_t silence_ns = fleet_->SilenceOf(outcome.instance_id);
    if (silence_ns < kLeaseNs - kHeardSlackNs) {
      witness_->Violation(
          fmt::format("{} is given up, and was heard of {} ms ago", outcome.instance_id, silence_ns / kSimMs));
    }
  }
  call.sink->OnDone(id, std::move(outcome));
}

}  // namespace conclave::orchestrator
