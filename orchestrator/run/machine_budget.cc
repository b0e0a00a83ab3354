// SPDX-License-Identifier: Apache-2.0
// Budgets within budgets: the run's own, and one for every run of a called graph. A call has to fit into all that it is
// in. Who waits and who is refused depends on what the calls before used, never on who answered first.
#include <fmt/format.h>

#include <limits>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {

namespace pb = deliberation::v1;

namespace {

pb::Budget::OnExhausted RuleOf(const pb::Budget& budget) {
  return budget.on_exhausted() == pb::Budget::RETURN_BEST ? pb::Budget::RETURN_BEST : pb::Budget::FAIL;
}

}  // namespace

int64_t Nanoseconds(const google::protobuf::Duration& duration) {
  constexpr int64_t kPerSecond = 1'000'000'000;
  if (duration.seconds() > std::numeric_limits<int64_t>::max() / kPerSecond - 1) {
    return std::numeric_limits<int64_t>::max();
  }
  return duration.seconds() * kPerSecond + duration.nanos();
}

void Machine::Impl::OpenAllowance(const CompiledNode& call) {
  NodeState& state = values_.node(call.index);
  const int32_t outer = AllowanceAt(call.index);
  state.allowance = static_cast<int32_t>(allowances_.size());
  ++state.begun;
  Allowance& allowance = allowances_.emplace_back();
  allowance.node = call.index;
  allowance.outer = outer;
  CONCLAVE_CHECK(allowance.account.AddLimit(call.full_name, call.called->budget()).ok());
  if (call.called->budget().has_wall_time()) {
    SetAlarm(Alarm::What::kWallTime, call, Nanoseconds(call.called->budget().wall_time()));
  }
}

int32_t Machine::Impl::AllowanceAt(int32_t node) const {
  const int32_t scope = graph_->node(node).scope;
  return scope == kNoNode ? -1 : values_.node(scope).allowance;
}

bool Machine::Impl::IsIn(int32_t allowance, int32_t outer) const {
  while (allowance != outer && allowance >= 0) allowance = allowances_[static_cast<size_t>(allowance)].outer;
  return allowance == outer;
}

bool Machine::Impl::RanOut(int32_t allowance) const {
  for (; allowance >= 0; allowance = allowances_[static_cast<size_t>(allowance)].outer) {
    if (allowances_[static_cast<size_t>(allowance)].exhausted) return true;
  }
  return exhausted_;
}

Machine::Impl::Fit Machine::Impl::Reserve(const Call& call) {
  // From the inside out; the last is the run's own.
  std::vector<std::pair<int32_t, BudgetAccount*>> accounts;
  for (int32_t at = call.allowance; at >= 0; at = allowances_[static_cast<size_t>(at)].outer) {
    accounts.emplace_back(at, &allowances_[static_cast<size_t>(at)].account);
  }
  accounts.emplace_back(-1, &account_);
  for (size_t i = 0; i < accounts.size(); ++i) {
    const std::optional<Exhausted> refused = accounts[i].second->Reserve(call.reserved);
    if (!refused.has_value()) continue;
    for (size_t back = 0; back < i; ++back) accounts[back].second->Settle(call.reserved, {});
    if (call.spec.beside.has_value()) return Fit::kNever;  // made where there is room for it, or not at all
    if (accounts[i].second->FitsWithoutReservations(call.reserved)) return Fit::kLater;
    Exhaust(accounts[i].first, *refused);
    return Fit::kLater;
  }
  return Fit::kYes;
}

void Machine::Impl::Settle(const Call& call, const Amount& used) {
  for (int32_t at = call.allowance; at >= 0; at = allowances_[static_cast<size_t>(at)].outer) {
    allowances_[static_cast<size_t>(at)].account.Settle(call.reserved, used);
  }
  account_.Settle(call.reserved, used);
}

void Machine::Impl::Exhaust(int32_t allowance, const Exhausted& exhausted) {
  bool& ran_out = allowance < 0 ? exhausted_ : allowances_[static_cast<size_t>(allowance)].exhausted;
  if (!ran_out) {
    const std::string path =
        allowance < 0 ? std::string() : values_.node(allowances_[static_cast<size_t>(allowance)].node).path;
    pb::BudgetExhausted* event = AddEvent(path)->mutable_budget_exhausted();
    event->set_unit(exhausted.unit);
    event->set_limit(exhausted.limit);
    event->set_needed(exhausted.needed);
  }
  ran_out = ran_out_ = true;
  if (exhausted.on_exhausted != pb::Budget::RETURN_BEST) {
    Fail(ResourceExhausted(
        "BUDGET: {} of the {}'s budget ran out: {} allowed, {} needed; raise it, or set on_exhausted: "
        "RETURN_BEST",
        exhausted.unit, allowance < 0 ? exhausted.budget : fmt::format("call \"{}\"", exhausted.budget),
        exhausted.limit, exhausted.needed));
  }
}

void Machine::Impl::GiveUp(int32_t allowance) {
  for (Call& call : calls_) {
    if (!call.open || call.cancelled || !IsIn(call.allowance, allowance)) continue;
    call.cancelled = true;
    out_->cancel.push_back(call.spec.id);
    const Slot& slot = values_.node(call.node).slots[static_cast<size_t>(call.slot)];
    // A slot with two calls under way is given up once.
    if (slot.state == Slot::State::kPending) Resolve(call.node, call.slot, Slot::State::kHole, -1);
  }
}

void Machine::Impl::OnWallTime() {
  if (stage_ != Stage::kRunning || !wall_time_.has_value()) return;
  const double seconds = static_cast<double>(Nanoseconds(wall_time_->budget.wall_time())) * 1e-9;
  Exhaust(-1, {wall_time_->name, "wall_time", seconds, seconds, RuleOf(wall_time_->budget)});
  if (stage_ == Stage::kRunning) GiveUp(-1);
}

void Machine::Impl::OnCallWallTime(const CompiledNode& call) {
  const pb::Budget& budget = call.called->budget();
  const double seconds = static_cast<double>(Nanoseconds(budget.wall_time())) * 1e-9;
  const int32_t allowance = values_.node(call.index).allowance;
  Exhaust(allowance, {call.full_name, "wall_time", seconds, seconds, RuleOf(budget)});
  if (stage_ == Stage::kRunning) GiveUp(allowance);
}

}  // namespace conclave::orchestrator
