// SPDX-License-Identifier: Apache-2.0
// Calls of speak and judge nodes: who is asked, the queue before the budget, and what becomes of the answers.
//
// The queue is strict: a call that does not fit waits for what calls under way give back of their reservations, and
// those behind it wait too. It is refused only when it would not fit even if they gave back everything. So which calls
// are refused depends on what the calls before them used, never on who answered first.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/run/machine_impl.h"
#include "orchestrator/run/seeds.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

// What a model's chat template may add to a prompt, in tokens.
constexpr int64_t kTemplateTokens = 256;

void SetDuration(int64_t nanoseconds, google::protobuf::Duration* duration) {
  duration->set_seconds(nanoseconds / 1'000'000'000);
  duration->set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
}

}  // namespace

void Machine::Impl::StartCalls(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  absl::StatusOr<std::vector<Slot>> slots = SlotsOf(node);
  if (!slots.ok()) return Fail(slots.status());
  state.slots = *std::move(slots);
  state.lanes.clear();
  state.pending = static_cast<int32_t>(state.slots.size());
  state.done = 0;
  ++state.begun;
  state.hedged = state.closing = false;
  const bool ran_out = RanOut(AllowanceAt(node.index));
  PutNodeStarted(node, ran_out ? 0 : state.slots.size());
  if (state.slots.empty()) return CallsDone(node);
  if (ran_out) {
    for (size_t i = 0; i < state.slots.size(); ++i) {
      Resolve(node.index, static_cast<int32_t>(i), Slot::State::kHole, -1);
    }
    return;
  }
  if (node.hedge_after_ns > 0) SetAlarm(Alarm::What::kHedge, node, node.hedge_after_ns);
  const std::vector<int32_t>& seats = seats_[static_cast<size_t>(node.index)];
  PromptBuilder prompts(*graph_, spec_, values_, variables_, question_, node.index, seats);
  return node.wave > 0 ? StartLanes(node, &prompts) : EnqueueAll(node, &prompts);
}

absl::StatusOr<std::vector<Slot>> Machine::Impl::SlotsOf(const CompiledNode& node) {
  if (node.kind == NodeKind::kSpeak) return SpeakSlots(node);
  return node.compares() ? ComparisonSlots(node) : JudgeSlots(node);
}

absl::StatusOr<std::vector<Slot>> Machine::Impl::SpeakSlots(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  if (node.each != kNoNode) state.judged = values_.node(node.each).utterances;
  const auto subjects = node.each == kNoNode ? int32_t{1} : static_cast<int32_t>(state.judged.size());
  const std::vector<int32_t>& all = seats_[static_cast<size_t>(node.index)];
  std::vector<size_t> assigned;
  if (node.assign != pb::Speak::ALL) {
    ASSIGN_OR_RETURN(assigned, Assigned(node, subjects));
  }
  std::vector<Slot> slots;
  for (int32_t i = 0; i < subjects; ++i) {
    const int32_t subject = node.each == kNoNode ? -1 : i;
    const std::vector<int32_t> seats =
        assigned.empty() ? all : std::vector<int32_t>{all[assigned[static_cast<size_t>(i)]]};
    // A vote that may be settled early hears everybody once before it hears anybody twice.
    const auto members = static_cast<int32_t>(seats.size());
    for (int32_t k = 0; k < members * node.samples; ++k) {
      const int32_t member = node.stop.has_value() ? k % members : k / node.samples;
      const int32_t sample = node.stop.has_value() ? k / members : k % node.samples;
      slots.push_back({Slot::State::kPending, seats[static_cast<size_t>(member)], sample, subject, -1, -1, 1});
    }
  }
  return slots;
}

absl::StatusOr<std::vector<Slot>> Machine::Impl::JudgeSlots(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  state.judged = values_.node(node.of).utterances;
  const std::vector<int32_t>& seats = seats_[static_cast<size_t>(node.index)];
  std::vector<Slot> slots;
  int32_t judged_themselves = 0;
  for (size_t i = 0; i < state.judged.size(); ++i) {
    const Utterance& utterance = values_.utterance(state.judged[i]);
    if (utterance.must_answer && !utterance.answer.has_value()) continue;  // it cannot win
    ASSIGN_OR_RETURN(const bool takes_part, variables_.TakesPart(node.index, utterance));
    if (!takes_part) continue;
    const bool others = std::any_of(seats.begin(), seats.end(), [&](int32_t seat) { return seat != utterance.member; });
    for (const int32_t seat : seats) {
      const bool self = node.exclude_self && seat == utterance.member;
      if ((self && others) || (node.only_self && seat != utterance.member)) continue;
      judged_themselves += self ? 1 : 0;
      for (int32_t sample = 0; sample < node.samples; ++sample) {
        slots.push_back({Slot::State::kPending, seat, sample, static_cast<int32_t>(i), -1, -1, 1});
      }
    }
  }
  if (judged_themselves > 0) {
    state.note = fmt::format("exclude_self: {} utterances had no other judge and were judged by their own writer",
                             judged_themselves);
  }
  return slots;
}

void Machine::Impl::EnqueueAll(const CompiledNode& node, PromptBuilder* prompts) {
  const NodeState& state = values_.node(node.index);
  for (size_t i = 0; i < state.slots.size(); ++i) {
    absl::StatusOr<std::shared_ptr<const Prompt>> prompt = prompts->Build(state.slots[i]);
    if (!prompt.ok()) return Fail(prompt.status());
    Enqueue(node, static_cast<int32_t>(i), *std::move(prompt));
  }
}

void Machine::Impl::Enqueue(const CompiledNode& node, int32_t slot_index, std::shared_ptr<const Prompt> prompt) {
  NodeState& state = values_.node(node.index);
  Slot& slot = state.slots[static_cast<size_t>(slot_index)];
  const auto index = static_cast<size_t>(node.index);
  const std::string& member = spec_.members[static_cast<size_t>(slot.member)].name;
  Call& call = queue_.emplace_back();
  call.node = node.index;
  call.slot = slot_index;
  call.allowance = AllowanceAt(node.index);
  call.spec.node_path = state.path;
  call.spec.key.set_member(member);
  call.spec.key.set_sample(slot.sample);
  call.spec.key.set_subject(slot.subject);
  call.spec.key.set_attempt(slot.attempts++);
  ++slot.open;
  call.spec.member_index = slot.member;
  call.spec.role = node.role->proto.name();
  call.spec.prompt = std::move(prompt);
  call.spec.sampling = sampling_[index];
  call.spec.seed = DeriveSeed({spec_.seed, question_, state.path, member, slot.sample, slot.subject});
  call.spec.p_true = p_true_[index];
  call.spec.token_trace = node.confidence_window > 0;
  if (IsResultSpoken(node)) call.spec.logprobs = spec_.result_logprobs;
  if (call.spec.p_true == nullptr) call.spec.constraint = ConstraintOf(node);
  if (slot.compared >= 0) {
    call.shown = state.compared[static_cast<size_t>(slot.compared)];
  } else if (slot.subject >= 0) {
    call.about = state.judged[static_cast<size_t>(slot.subject)];
  }
  call.reserved = Reservation(call.spec);
}

bool Machine::Impl::IsResultSpoken(const CompiledNode& node) const {
  return node.index == graph_->result() && node.kind == NodeKind::kSpeak;
}

std::shared_ptr<const pb::OutputConstraint> Machine::Impl::ConstraintOf(const CompiledNode& node) const {
  return IsResultSpoken(node) && spec_.result_constraint != nullptr ? spec_.result_constraint : node.role->constraint;
}

Amount Machine::Impl::Reservation(const CallSpec& call) const {
  Amount amount;
  amount.calls = 1;
  // A token stands for at least one byte of its text, so this is never too little.
  const int64_t continued = call.partial == nullptr ? 0 : call.partial->token_ids_size();
  amount.prompt_tokens = call.prompt->bytes + kTemplateTokens + continued;
  amount.output_tokens = call.p_true != nullptr ? 0 : call.sampling->max_output_tokens() - continued;
  amount.flops = EstimateFlops(spec_.members[static_cast<size_t>(call.member_index)].cost, amount.prompt_tokens, 0,
                               amount.output_tokens);
  return amount;
}

void Machine::Impl::Dispatch() {
  while (!queue_.empty() && stage_ == Stage::kRunning) {
    Call& next = queue_.front();
    Fit fit = RanOut(next.allowance) ? Fit::kNever : Reserve(next);
    if (fit == Fit::kLater) {
      if (stage_ != Stage::kRunning) return;
      if (!RanOut(next.allowance)) return;  // when a call under way has ended
      fit = Fit::kNever;
    }
    if (fit == Fit::kNever) {
      const Call dropped = std::move(next);
      queue_.pop_front();
      DropWaiting(dropped);
      continue;
    }
    next.spec.id = static_cast<uint32_t>(calls_.size());
    next.open = true;
    ++in_flight_;
    pb::CallStarted* started = AddEvent(next.spec.node_path)->mutable_call_started();
    *started->mutable_key() = next.spec.key;
    started->set_role(next.spec.role);
    started->set_seed(next.spec.seed);
    started->set_reserved_tokens(next.reserved.prompt_tokens + next.reserved.output_tokens);
    started->set_hedge(next.spec.beside.has_value());
    if (next.spec.partial != nullptr) {
      started->set_continued_token_count(next.spec.partial->token_ids_size());
    }
    out_->calls.push_back(next.spec);
    calls_.push_back(std::move(next));
    queue_.pop_front();
  }
}

// Cancels calls of one node, or of all, that are under way; those that wait are dropped.
void Machine::Impl::CancelCalls(std::optional<int32_t> of_node) {
  for (Call& call : calls_) {
    if (!call.open || call.cancelled || (of_node.has_value() && call.node != *of_node)) continue;
    call.cancelled = true;
    out_->cancel.push_back(call.spec.id);
  }
  std::erase_if(queue_, [&](const Call& call) { return !of_node.has_value() || call.node == *of_node; });
}

void Machine::Impl::CancelSlots(int32_t of_node, int32_t begin, int32_t end) {
  const auto inside = [&](const Call& call) { return call.node == of_node && call.slot >= begin && call.slot < end; };
  for (Call& call : calls_) {
    if (!call.open || call.cancelled || !inside(call)) continue;
    call.cancelled = true;
    out_->cancel.push_back(call.spec.id);
  }
  std::erase_if(queue_, inside);
}

void Machine::Impl::Charge(Call* call, const inference::v1::Usage& usage, bool discarded, bool estimated) {
  Settle(*call, AmountOf(usage));
  AddToLedger(usage, discarded, estimated, &ledger_);
  call->open = false;
  --in_flight_;
}

void Machine::Impl::OnFinished(CallFinished& input) {
  Call& call = calls_[input.call];
  Charge(&call, input.usage, call.cancelled, input.estimated);
  Utterance utterance = MakeUtterance(call, input);

  pb::CallFinished* event = AddEvent(call.spec.node_path)->mutable_call_finished();
  *event->mutable_key() = call.spec.key;
  event->set_role(call.spec.role);
  for (const pb::PromptMessage& message : call.spec.prompt->messages) *event->add_prompt() = message;
  event->set_text(utterance.text);
  if (utterance.answer.has_value()) event->set_answer(*utterance.answer);
  if (utterance.score.has_value()) event->set_score(*utterance.score);
  if (utterance.confidence.has_value()) event->set_confidence(*utterance.confidence);
  if (const auto& from = utterance.token_confidence; from.has_value()) {
    pb::TokenConfidence* to = event->mutable_token_confidence();
    to->set_token_count(from->token_count);
    to->set_mean_logprob(from->mean_logprob);
    to->set_mean(from->mean);
    to->set_tail(from->tail);
    to->set_lowest(from->lowest);
    to->set_bottom(from->bottom);
  }
  if (utterance.label.has_value()) event->set_label(*utterance.label);
  std::vector<PlanItem> items;
  if (graph_->node(call.node).role->contract == ContractKind::kItems) {
    const pb::ItemsContract& contract = graph_->node(call.node).role->proto.items();
    items = input.from_record ? std::move(input.recorded_items) : ReadItems(contract, utterance.text);
  }
  for (const PlanItem& item : items) {
    pb::PlanItem* to = event->add_items();
    to->set_id(item.id);
    to->set_text(item.text);
    to->mutable_needs()->Add(item.needs.begin(), item.needs.end());
  }
  event->mutable_shown()->Add(call.shown.begin(), call.shown.end());
  event->mutable_ranking()->Add(utterance.ranking.begin(), utterance.ranking.end());
  event->set_finish_reason(input.finish_reason);
  *event->mutable_usage() = std::move(input.usage);
  event->set_instance_id(std::move(input.instance_id));
  event->set_model_revision(std::move(input.model_revision));
  event->set_seed(call.spec.seed);
  event->set_prompt_sha256(call.spec.prompt->sha256);
  SetDuration(input.latency_ns, event->mutable_latency());
  event->set_estimated(input.estimated);

  const bool repair = input.from_record ? input.recorded_repair : WantsRepair(call, utterance, items);
  event->set_will_repair(repair);
  if (repair) return AskAgain(&call, utterance);

  const int32_t node = call.node, slot = call.slot;
  call.spec = CallSpec{};
  if (call.cancelled || stage_ != Stage::kRunning) return;
  if (graph_->node(node).role->contract == ContractKind::kItems) {
    const auto first = static_cast<int32_t>(values_.utterances.size());
    return Resolve(node, slot, Slot::State::kDone, first, AddItems(utterance, items));
  }
  Resolve(node, slot, Slot::State::kDone, values_.Add(std::move(utterance)));
}

// A slot's call has come to an end, one way or another.
void Machine::Impl::Resolve(int32_t node_index, int32_t slot_index, Slot::State slot_state, int32_t utterance,
                            int32_t count) {
  const CompiledNode& node = graph_->node(node_index);
  NodeState& state = values_.node(node_index);
  Slot& slot = state.slots[static_cast<size_t>(slot_index)];
  CONCLAVE_CHECK(slot.state == Slot::State::kPending && state.phase == Phase::kRunning);
  slot.state = slot_state;
  slot.utterance = utterance;
  slot.count = count;
  --state.pending;
  if (slot_state == Slot::State::kDone) ++state.done;
  if (slot_state == Slot::State::kHole) ++state.holes, ++holes_;
  // Whoever else was asked the same is not needed any more.
  if (std::exchange(slot.open, 0) > 1) CancelSlots(node_index, slot_index, slot_index + 1);
  if (slot_state == Slot::State::kDone && state.pending > 0) LookForStragglers(node);
  if (!state.lanes.empty()) Commit(node, slot_index);
  if (state.pending == 0) CallsDone(node);
}

void Machine::Impl::CallsDone(const CompiledNode& node) {
  return node.kind == NodeKind::kSpeak ? FinishSpeak(node) : FinishJudge(node);
}

}  // namespace conclave::orchestrator
