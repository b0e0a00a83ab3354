// SPDX-License-Identifier: Apache-2.0
// Calls that are made wave by wave, because what the first ones say may make the others needless: samples of a vote
// that is settled, judgements of an utterance that has failed. What counts is decided in the order of the slots, so
// that it does not depend on who answers first; waves begin when the one before has ended, so that neither does how
// much is asked.
#include <fmt/format.h>

#include <algorithm>

#include "common/check.h"
#include "orchestrator/pick/stopping.h"
#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

Stopping RuleOf(const pb::Stopping& stop) {
  Stopping rule;
  rule.confidence = stop.confidence();
  rule.window = stop.wave();
  rule.rule = stop.rule() == pb::Stopping::BETA        ? StopRule::kBeta
              : stop.rule() == pb::Stopping::DIRICHLET ? StopRule::kDirichlet
                                                       : StopRule::kWindow;
  return rule;
}

}  // namespace

void Machine::Impl::StartLanes(const CompiledNode& node, PromptBuilder* prompts) {
  NodeState& state = values_.node(node.index);
  // Prompts are made now: what they show must be what it is when the node begins.
  state.prompts.clear();
  for (const Slot& slot : state.slots) {
    absl::StatusOr<std::shared_ptr<const Prompt>> prompt = prompts->Build(slot);
    if (!prompt.ok()) return Fail(prompt.status());
    state.prompts.push_back(*std::move(prompt));
  }
  const auto count = static_cast<int32_t>(state.slots.size());
  for (int32_t i = 0; i < count; ++i) {
    const bool next =
        i == 0 || state.slots[static_cast<size_t>(i)].subject != state.slots[static_cast<size_t>(i) - 1].subject;
    if (next) state.lanes.push_back({i, i, i, i, false});
    state.lanes.back().end = i + 1;
  }
  for (Lane& lane : state.lanes) Launch(node, &lane);
}

void Machine::Impl::Launch(const CompiledNode& node, Lane* lane) {
  NodeState& state = values_.node(node.index);
  const int32_t until = std::min(lane->end, lane->launched + node.wave);
  for (; lane->launched < until; ++lane->launched) {
    Enqueue(node, lane->launched, std::move(state.prompts[static_cast<size_t>(lane->launched)]));
  }
}

void Machine::Impl::Commit(const CompiledNode& node, int32_t slot_index) {
  NodeState& state = values_.node(node.index);
  const auto lane = std::find_if(state.lanes.begin(), state.lanes.end(),
                                 [&](const Lane& l) { return slot_index >= l.begin && slot_index < l.end; });
  CONCLAVE_CHECK(lane != state.lanes.end() && !lane->settled);
  while (lane->committed < lane->launched) {
    const Slot& slot = state.slots[static_cast<size_t>(lane->committed)];
    if (slot.state == Slot::State::kPending) return;
    ++lane->committed;
    if (node.stop.has_value()) {
      std::vector<Ballot> ballots;
      for (int32_t i = lane->begin; i < lane->committed; ++i) {
        const Slot& earlier = state.slots[static_cast<size_t>(i)];
        Ballot& ballot = ballots.emplace_back();
        if (earlier.state != Slot::State::kDone) continue;
        const std::optional<std::string>& answer = values_.utterance(earlier.utterance).answer;
        ballot.has_answer = answer.has_value();
        if (answer.has_value()) ballot.answer = *answer;
      }
      if (const std::optional<Settled> settled = SettledBy(RuleOf(*node.stop), ballots)) {
        const auto at = [&](size_t ballot) { return lane->begin + static_cast<int32_t>(ballot); };
        return Settle(node, &*lane, at(settled->begin), at(settled->end));
      }
    } else if (node.strict && Rejects(node, slot)) {
      return Settle(node, &*lane, lane->begin, lane->committed);
    }
  }
  if (lane->committed == lane->launched) Launch(node, &*lane);
}

// Whether the judgement is anything else than an accept.
bool Machine::Impl::Rejects(const CompiledNode& node, const Slot& slot) const {
  CONCLAVE_CHECK(node.kind == NodeKind::kJudge);
  return slot.state != Slot::State::kDone || !values_.utterance(slot.utterance).accept.value_or(false);
}

// Only [begin, end) of the lane counts; the rest is as if it had never been asked for.
void Machine::Impl::Settle(const CompiledNode& node, Lane* lane, int32_t begin, int32_t end) {
  NodeState& state = values_.node(node.index);
  lane->settled = true;
  CancelSlots(node.index, end, lane->end);
  for (int32_t i = lane->begin; i < lane->end; ++i) {
    if (i >= begin && i < end) continue;
    Slot& slot = state.slots[static_cast<size_t>(i)];
    if (slot.state == Slot::State::kPending) --state.pending;
    if (slot.state == Slot::State::kDone) --state.done, values_.utterance(slot.utterance).dropped = true;
    // A hole behind the end would be known or not by who answered first; one before the end happened.
    if (slot.state == Slot::State::kHole && i >= end) --state.holes, --holes_;
    slot.state = Slot::State::kDropped;
  }
}

void Machine::Impl::NoteStop(const CompiledNode& node, NodeState* state) {
  if (!node.stop.has_value()) return;
  for (const Lane& lane : state->lanes) {
    if (!state->note.empty()) state->note += "; ";
    state->note += fmt::format("{} after {} of {} samples", lane.settled ? "settled" : "not settled",
                               lane.committed - lane.begin, lane.end - lane.begin);
  }
}

}  // namespace conclave::orchestrator
