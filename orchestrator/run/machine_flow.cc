// SPDX-License-Identifier: Apache-2.0
// Which node runs when. Nothing here recurses on the graph: a node that ends puts its sequence on the work list.
#include <fmt/format.h>

#include <algorithm>

#include "common/check.h"
#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

constexpr size_t kVotesShownMax = 16;

}  // namespace

void Machine::Impl::StartSequence(int32_t sequence, const std::string& prefix) {
  for (const int32_t index : graph_->sequence(sequence).nodes) {
    NodeState& state = values_.node(index);
    state.phase = Phase::kWaiting;
    state.path = prefix + graph_->node(index).name;
  }
  active_[static_cast<size_t>(sequence)] = true;
  work_.push_back(sequence);
}

void Machine::Impl::Advance(int32_t sequence) {
  if (!active_[static_cast<size_t>(sequence)]) return;
  bool done = true;
  for (const int32_t index : graph_->sequence(sequence).nodes) {
    const CompiledNode& node = graph_->node(index);
    if (values_.node(index).phase == Phase::kWaiting) {
      const bool ready = std::all_of(node.after.begin(), node.after.end(),
                                     [&](int32_t before) { return values_.node(before).phase == Phase::kDone; });
      if (ready) StartNode(node);
      if (stage_ != Stage::kRunning) return;
    }
    done = done && values_.node(index).phase == Phase::kDone;
  }
  if (!done) return;
  active_[static_cast<size_t>(sequence)] = false;
  SequenceDone(sequence);
}

void Machine::Impl::SequenceDone(int32_t sequence) {
  const int32_t owner = graph_->sequence(sequence).owner;
  if (owner == kNoNode) return EndSuccessfully();
  const CompiledNode& node = graph_->node(owner);
  if (node.kind == NodeKind::kLoop) return RoundDone(node);
  return node.kind == NodeKind::kCall ? CalledDone(node) : ArmDone(node);
}

void Machine::Impl::StartNode(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  if (node.when.has_value()) {
    const auto wanted = variables_.Test(node.index, "when", *node.when, variables_.RoundAt(node.index), node.votes_of);
    if (!wanted.ok()) return Fail(wanted.status());
    if (!*wanted) {
      state.ClearValue();
      FinishNode(node)->set_note("skipped: when is false");
      return;
    }
  }
  state.ClearValue();
  state.phase = Phase::kRunning;
  switch (node.kind) {
    case NodeKind::kSpeak:
    case NodeKind::kJudge:
      return StartCalls(node);
    case NodeKind::kPick:
      return RunPick(node);
    case NodeKind::kCheck:
      return RunCheck(node);
    case NodeKind::kLoop:
      return StartLoop(node);
    case NodeKind::kBranch:
      return StartBranch(node);
    case NodeKind::kCall:
      return StartCalled(node);
  }
}

void Machine::Impl::PutNodeStarted(const CompiledNode& node, size_t calls) {
  pb::NodeStarted* started = AddEvent(values_.node(node.index).path)->mutable_node_started();
  started->set_kind(std::string(NodeKindName(node.kind)));
  started->set_call_count(static_cast<int32_t>(calls));
}

// Begins the last event of a node; the caller adds what is particular to its kind.
pb::NodeFinished* Machine::Impl::FinishNode(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  state.phase = Phase::kDone;
  work_.push_back(node.sequence);
  const bool answers = std::any_of(state.utterances.begin(), state.utterances.end(),
                                   [&](int32_t id) { return values_.utterance(id).answer.has_value(); });
  if (answers) {
    best_ = state.utterances;
    for (int32_t at = AllowanceAt(node.index); at >= 0; at = allowances_[static_cast<size_t>(at)].outer) {
      allowances_[static_cast<size_t>(at)].best = state.utterances;
    }
  }
  if (node.kind != NodeKind::kLoop) Remember(node, &state);  // a loop remembers its own rounds
  pb::NodeFinished* finished = AddEvent(state.path)->mutable_node_finished();
  finished->set_utterance_count(static_cast<int32_t>(state.utterances.size()));
  finished->set_hole_count(state.holes);
  finished->set_note(state.note);
  return finished;
}

void Machine::Impl::Remember(const CompiledNode& node, NodeState* state) {
  if (node.memory == 0 || state->utterances.empty()) return;
  if (state->history.empty() || state->history.back() != state->utterances) state->history.push_back(state->utterances);
}

void Machine::Impl::PutVotes(std::span<const VoteGroup> groups, pb::NodeFinished* finished) const {
  for (const VoteGroup& group : groups.first(std::min(groups.size(), kVotesShownMax))) {
    pb::VoteCount* count = finished->add_votes();
    count->set_answer(group.answer);
    count->set_count(group.count);
    count->set_weight(group.weight);
  }
}

// Values of an earlier time that the container ran are nobody's "round before".
void Machine::Impl::ClearContents(int32_t container) {
  for (int32_t i = container + 1; i < static_cast<int32_t>(graph_->nodes().size()); ++i) {
    if (!graph_->IsInside(i, container)) break;
    values_.node(i).ClearValue();
    values_.node(i).previous.clear();
    values_.node(i).passes = values_.node(i).fails = 0;
    values_.node(i).history.clear();
    values_.node(i).phase = Phase::kIdle;
  }
}

void Machine::Impl::StartLoop(const CompiledNode& node) {
  PutNodeStarted(node, 0);
  ClearContents(node.index);
  NodeState& state = values_.node(node.index);
  if (node.over != kNoNode) state.utterances = values_.node(node.over).utterances;
  state.history.clear();
  Remember(node, &state);
  if (node.counts_unchanged) CountUnchanged(&state);
  NextRound(node);
}

// After a round, or before the first: is the most frequent answer what it was?
void Machine::Impl::CountUnchanged(NodeState* state) const {
  const std::vector<VoteGroup> groups = GroupVotes(BallotsOf(values_, state->utterances));
  std::string top = groups.empty() ? std::string() : groups.front().answer;
  state->unchanged = !groups.empty() && top == state->top ? state->unchanged + 1 : 0;
  state->top = std::move(top);
}

void Machine::Impl::NextRound(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  ++state.round;
  StartSequence(node.body, fmt::format("{}[{}].", state.path, state.round));
}

void Machine::Impl::RoundDone(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  if (node.yields != kNoNode && !values_.node(node.yields).utterances.empty()) {
    state.utterances = values_.node(node.yields).utterances;
  }
  Remember(node, &state);
  if (node.counts_unchanged) CountUnchanged(&state);
  bool until = false;
  if (node.expression.has_value()) {
    const auto met = variables_.Test(node.index, "until", *node.expression, state.round, node.index);
    if (!met.ok()) return Fail(met.status());
    until = *met;
  }
  const bool ran_out = RanOut(AllowanceAt(node.index));
  if (!until && !ran_out && state.round < node.max_rounds) return NextRound(node);
  if (until) {
    state.note = "until: " + node.expression->source();
  } else {
    state.note = ran_out ? "the budget ran out" : fmt::format("max_rounds: {}", node.max_rounds);
  }
  const std::vector<VoteGroup> groups = GroupVotes(BallotsOf(values_, state.utterances));
  pb::NodeFinished* finished = FinishNode(node);
  finished->set_rounds(state.round);
  PutVotes(groups, finished);
}

void Machine::Impl::StartBranch(const CompiledNode& node) {
  PutNodeStarted(node, 0);
  ClearContents(node.index);
  const auto taken =
      variables_.Test(node.index, "condition", *node.expression, variables_.RoundAt(node.index), node.votes_of);
  if (!taken.ok()) return Fail(taken.status());
  NodeState& state = values_.node(node.index);
  state.arm = *taken ? node.then : node.otherwise;
  state.note = *taken ? "then" : "otherwise";
  if (state.arm >= 0) return StartSequence(state.arm, state.path + ".");
  ArmDone(node);
}

void Machine::Impl::ArmDone(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  int32_t last = node.otherwise_value;
  if (state.arm >= 0) {
    for (const int32_t index : graph_->sequence(state.arm).nodes) {
      const NodeKind kind = graph_->node(index).kind;
      if (kind != NodeKind::kJudge && kind != NodeKind::kCheck) last = index;
    }
  }
  if (last != kNoNode) state.utterances = values_.node(last).utterances;
  const std::vector<VoteGroup> groups = GroupVotes(BallotsOf(values_, state.utterances));
  PutVotes(groups, FinishNode(node));
}

void Machine::Impl::StartCalled(const CompiledNode& node) {
  PutNodeStarted(node, 0);
  ClearContents(node.index);
  auto inputs = variables_.Arguments(node);
  if (!inputs.ok()) return Fail(inputs.status());
  NodeState& state = values_.node(node.index);
  state.inputs = *std::move(inputs);
  state.note = "graph " + node.called->name();
  OpenAllowance(node);
  StartSequence(node.body, state.path + ".");
}

void Machine::Impl::CalledDone(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  const Allowance& allowance = allowances_[static_cast<size_t>(state.allowance)];
  state.utterances = values_.node(node.yields).utterances;
  if (allowance.exhausted) {
    state.note += ": the budget ran out";
    // Of what there is the most frequent answer, as at the end of a run.
    const Picked picked = Pick(PickRule::kMajority, BallotsOf(values_, allowance.best));
    if (state.utterances.empty() && picked.winner >= 0) {
      state.utterances = {allowance.best[static_cast<size_t>(picked.winner)]};
    }
  }
  const std::vector<VoteGroup> groups = GroupVotes(BallotsOf(values_, state.utterances));
  PutVotes(groups, FinishNode(node));
}

}  // namespace conclave::orchestrator
