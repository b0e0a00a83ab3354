// SPDX-License-Identifier: Apache-2.0
// Those who are late or lost: another attempt after a loss, which goes on from what was said; a second call on another
// worker for stragglers, and an end to waiting once a quorum is there. A second call has the seed of the first and
// hence its words, so that who of the two answers first changes no vote. When is decided by answers and timers, which
// are both recorded, so that a replay decides the same.
#include <fmt/format.h>

#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {

namespace pb = deliberation::v1;

void Machine::Impl::OnLost(const CallLost& input) {
  Call& call = calls_[input.call];
  Slot* slot = nullptr;  // of a call that somebody waits for
  if (!call.cancelled && stage_ == Stage::kRunning) {
    slot = &values_.node(call.node).slots[static_cast<size_t>(call.slot)];
    --slot->open;
  }
  const bool retry =
      input.retryable && slot != nullptr && slot->open == 0 && !RanOut(call.allowance) && slot->retries < kRetriesMax;
  // What was said is of use where there is something left to say.
  const int32_t said = input.partial.token_ids_size();
  const bool goes_on = retry && said > 0 && said < call.spec.sampling->max_output_tokens();
  // A loss has a reason; one without would be a mistake of a backend, and must not read as a success.
  const absl::Status status = input.status.ok() ? Internal("lost without a reason") : input.status;
  Charge(&call, input.usage, !goes_on, false);
  pb::CallLost* event = AddEvent(call.spec.node_path)->mutable_call_lost();
  *event->mutable_key() = call.spec.key;
  event->set_code(static_cast<int32_t>(status.code()));
  event->set_message(std::string(Message(status)));
  *event->mutable_usage() = input.usage;
  event->set_will_retry(retry);
  if (goes_on) *event->mutable_partial() = input.partial;

  const int32_t node = call.node, slot_index = call.slot;
  if (retry) {
    Call& again = queue_.emplace_back();
    again.node = node;
    again.slot = slot_index;
    again.shown = std::move(call.shown);
    again.about = call.about;
    again.allowance = call.allowance;
    again.spec = std::move(call.spec);
    again.spec.key.set_attempt(slot->attempts++);
    again.spec.beside.reset();
    if (goes_on) again.spec.partial = std::make_shared<const pb::PartialText>(input.partial);
    again.reserved = Reservation(again.spec);
    ++slot->retries;
    ++slot->open;
    call.spec = CallSpec{};
    return;
  }
  call.spec = CallSpec{};
  if (slot == nullptr || slot->open > 0) return;
  last_loss_ = status;
  Resolve(node, slot_index, Slot::State::kHole, -1);
}

// A call that waited is not made; its slot is a hole, unless another call is made for it.
void Machine::Impl::DropWaiting(const Call& call) {
  Slot& slot = values_.node(call.node).slots[static_cast<size_t>(call.slot)];
  if (--slot.open == 0) Resolve(call.node, call.slot, Slot::State::kHole, -1);
}

void Machine::Impl::SetAlarm(Alarm::What what, const CompiledNode& node, int64_t delay_ns) {
  out_->timers.push_back({static_cast<uint32_t>(alarms_.size()), delay_ns});
  alarms_.push_back({what, node.index, values_.node(node.index).begun, delay_ns, false});
}

bool Machine::Impl::Matters(const Alarm& alarm) const {
  if (alarm.expired || stage_ != Stage::kRunning) return false;
  const NodeState& state = values_.node(alarm.node);
  if (state.phase != Phase::kRunning || state.begun != alarm.begun) return false;
  if (alarm.what == Alarm::What::kWallTime) return true;
  if (state.pending == 0) return false;
  return alarm.what == Alarm::What::kClose || !state.hedged;
}

void Machine::Impl::OnTimer(uint32_t timer) {
  Alarm& alarm = alarms_[timer];
  const bool matters = Matters(alarm);
  alarm.expired = true;
  if (!matters) return;
  const CompiledNode& node = graph_->node(alarm.node);
  if (alarm.what == Alarm::What::kHedge) return Hedge(node);
  if (alarm.what == Alarm::What::kWallTime) return OnCallWallTime(node);
  Close(node);
  CallsDone(node);
}

std::vector<Timer> Machine::Impl::PendingTimers() const {
  std::vector<Timer> pending;
  for (size_t i = 0; i < alarms_.size(); ++i) {
    if (Matters(alarms_[i])) pending.push_back({static_cast<uint32_t>(i), alarms_[i].delay_ns});
  }
  return pending;
}

void Machine::Impl::LookForStragglers(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  if (node.quorum > 0 && state.done >= node.quorum && !state.closing) {
    state.closing = true;
    if (node.patience_ns == 0) return Close(node);
    SetAlarm(Alarm::What::kClose, node, node.patience_ns);
  }
  if (node.hedge_when_done > 0 && state.done >= node.hedge_when_done && !state.hedged) Hedge(node);
}

void Machine::Impl::Hedge(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  state.hedged = true;
  for (const Call& call : calls_) {
    if (!call.open || call.cancelled || call.node != node.index) continue;
    Slot& slot = state.slots[static_cast<size_t>(call.slot)];
    if (slot.state != Slot::State::kPending || slot.open != 1) continue;
    Call& second = queue_.emplace_back();
    second.node = call.node;
    second.slot = call.slot;
    second.shown = call.shown;
    second.about = call.about;
    second.allowance = call.allowance;
    second.spec = call.spec;
    second.spec.key.set_attempt(slot.attempts++);
    second.spec.beside = call.spec.id;
    second.reserved = call.reserved;
    ++slot.open;
  }
}

// Nobody else is waited for. The caller ends the node.
void Machine::Impl::Close(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  CONCLAVE_CHECK(state.pending > 0);
  state.note = fmt::format("quorum: {} of {} calls were enough", state.done, state.slots.size());
  for (Slot& slot : state.slots) {
    if (slot.state == Slot::State::kPending) slot.state = Slot::State::kDropped;
  }
  state.pending = 0;
  CancelCalls(node.index);
}

}  // namespace conclave::orchestrator
