// SPDX-License-Identifier: Apache-2.0
// Outputs of which a contract could read nothing: their writers are asked once more, where their role says so.
#include <utility>

#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

bool Unread(ContractKind contract, bool json, const Utterance& utterance, const std::vector<PlanItem>& items) {
  switch (contract) {
    case ContractKind::kAnswer:
      return !utterance.answer.has_value();
    case ContractKind::kVerdict:
      return !utterance.accept.has_value() && !utterance.score.has_value();
    case ContractKind::kRanking:
      return utterance.ranking.empty();
    case ContractKind::kLabel:
      return !utterance.label.has_value();
    case ContractKind::kItems:
      return items.empty();
    case ContractKind::kText:
      return json && utterance.fields.IsMissing();
  }
  return false;
}

}  // namespace

bool Machine::Impl::WantsRepair(const Call& call, const Utterance& utterance,
                                const std::vector<PlanItem>& items) const {
  const CompiledRole& role = *graph_->node(call.node).role;
  if (role.proto.repair().empty() || call.cancelled || stage_ != Stage::kRunning) return false;
  if (RanOut(call.allowance)) return false;
  if (call.spec.p_true != nullptr || values_.node(call.node).slots[static_cast<size_t>(call.slot)].repaired) {
    return false;
  }
  return Unread(role.contract, role.proto.has_json(), utterance, items);
}

void Machine::Impl::AskAgain(Call* call, const Utterance& unread) {
  auto prompt = std::make_shared<Prompt>();
  prompt->messages = call->spec.prompt->messages;
  const auto add = [&](const char* role, std::string_view content) {
    pb::PromptMessage& message = prompt->messages.emplace_back();
    message.set_role(role);
    message.set_content(std::string(content));
  };
  // Its reasoning is its own, as everywhere.
  add("assistant", std::string_view(unread.text).substr(unread.shown_begin, unread.shown_size));
  add("user", graph_->node(call->node).role->proto.repair());
  Seal(prompt.get());

  // A second call on another worker has the same seed and would say the same.
  CancelSlots(call->node, call->slot, call->slot + 1);
  Slot& slot = values_.node(call->node).slots[static_cast<size_t>(call->slot)];
  slot.repaired = true;
  slot.open = 1;
  Call again;
  again.node = call->node;
  again.slot = call->slot;
  again.shown = std::move(call->shown);
  again.about = call->about;
  again.allowance = call->allowance;
  again.spec = std::exchange(call->spec, CallSpec{});
  again.spec.prompt = std::move(prompt);
  again.spec.key.set_attempt(slot.attempts++);
  again.spec.partial.reset();
  again.spec.beside.reset();
  again.reserved = Reservation(again.spec);
  queue_.push_back(std::move(again));
}

}  // namespace conclave::orchestrator
