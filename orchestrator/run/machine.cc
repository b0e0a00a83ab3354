// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/machine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/graph/limits.h"
#include "orchestrator/run/machine_impl.h"
#include "orchestrator/run/seeds.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

constexpr size_t kInputBytesMax = 1 << 20;  // all inputs of a run together

// What decides the run but is not said in the graph: inputs by name, with defaults filled in.
std::map<std::string, std::string> Complete(const CompiledGraph& graph, std::map<std::string, std::string> inputs) {
  for (const pb::Input& input : graph.proto().input()) {
    if (input.has_default_value()) inputs.emplace(input.name(), input.default_value());
  }
  return inputs;
}

absl::Status CheckInputs(const CompiledGraph& graph, const RunSpec& spec) {
  size_t bytes = 0;
  for (const auto& entry : spec.inputs) {
    const std::string& name = entry.first;
    bytes += name.size() + entry.second.size();
    const auto& declared = graph.proto().input();
    if (std::none_of(declared.begin(), declared.end(), [&](const pb::Input& input) { return input.name() == name; })) {
      return InvalidArgument("graph \"{}\" has no input \"{}\"; leave it out, or declare input {{ name: \"{}\" }}",
                             graph.name(), name, name);
    }
  }
  for (const pb::Input& input : graph.proto().input()) {
    if (!spec.inputs.contains(input.name())) {
      return InvalidArgument("input \"{}\" of graph \"{}\" is missing and has no default", input.name(), graph.name());
    }
  }
  if (bytes > kInputBytesMax) {
    return InvalidArgument("inputs of {} bytes, at most {} allowed", bytes, kInputBytesMax);
  }
  return absl::OkStatus();
}

}  // namespace

Machine::Impl::Impl(std::shared_ptr<const CompiledGraph> graph, RunSpec spec)
    : graph_(std::move(graph)),
      spec_([&] {
        spec.inputs = Complete(*graph_, std::move(spec.inputs));
        return std::move(spec);
      }()),
      question_(QuestionHash(spec_.inputs)),
      variables_(*graph_, spec_, values_) {
  values_.nodes.resize(graph_->nodes().size());
  active_.resize(graph_->sequences().size());
}

absl::Status Machine::Impl::Validate() {
  RETURN_IF_ERROR(CheckInputs(*graph_, spec_));
  for (const std::string& what : CheckSampling(spec_.sampling)) return InvalidArgument("sampling: {}", what);
  CostInputs cost;
  for (const std::string& name : graph_->MemberNames()) {
    const auto bound = spec_.binding.find(name);
    if (bound == spec_.binding.end() || bound->second.empty()) {
      return InvalidArgument("graph \"{}\": members \"{}\" are bound to nobody", graph_->name(), name);
    }
    for (const int32_t member : bound->second) {
      if (member < 0 || static_cast<size_t>(member) >= spec_.members.size()) {
        return InvalidArgument("members \"{}\" are bound to number {} of {} members", name, member,
                               spec_.members.size());
      }
    }
  }
  cost.binding = spec_.binding;
  for (const RunMember& member : spec_.members) cost.members.push_back(member.cost);
  RETURN_IF_ERROR(BoundCost(*graph_, cost).status());

  RETURN_IF_ERROR(account_.AddLimit("graph", graph_->proto().budget()));
  std::vector<NamedBudget> budgets = {{"graph", graph_->proto().budget()}};
  for (const NamedBudget& budget : spec_.budgets) {
    RETURN_IF_ERROR(account_.AddLimit(budget.name, budget.budget));
    budgets.push_back(budget);
  }
  for (NamedBudget& budget : budgets) {
    if (!budget.budget.has_wall_time()) continue;
    const bool shorter =
        !wall_time_.has_value() || Nanoseconds(budget.budget.wall_time()) < Nanoseconds(wall_time_->budget.wall_time());
    if (shorter) wall_time_ = std::move(budget);
  }
  for (const CompiledNode& node : graph_->nodes()) {
    const bool seated = node.kind == NodeKind::kSpeak || node.kind == NodeKind::kJudge;
    seats_.push_back(seated ? SeatsOf(node, spec_.binding) : std::vector<int32_t>());
    auto sampling = std::make_shared<pb::SamplingDefaults>(node.sampling);
    OverrideSampling(spec_.sampling, sampling.get());
    if (!sampling->has_max_output_tokens()) sampling->set_max_output_tokens(kDefaultOutputTokens);
    sampling_.push_back(std::move(sampling));
    p_true_.emplace_back();
    if (node.kind == NodeKind::kJudge && node.method == pb::Judge::P_TRUE) {
      const pb::VerdictContract& verdict = node.role->proto.verdict();
      p_true_.back() = std::make_shared<PTrueSpec>(
          PTrueSpec{verdict.has_yes() ? verdict.yes() : " yes", verdict.has_no() ? verdict.no() : " no"});
    }
  }
  return absl::OkStatus();
}

pb::RunState Machine::Impl::state() const {
  if (stage_ == Stage::kNew) return pb::RUN_STATE_PENDING;
  return stage_ == Stage::kFinished ? ending_.state : pb::RUN_STATE_RUNNING;
}

pb::Event* Machine::Impl::AddEvent(const std::string& node_path) {
  pb::Event& event = out_->events.emplace_back();
  event.set_run_id(spec_.run_id);
  event.set_node_path(node_path);
  return &event;
}

absl::Status Machine::Impl::Check(const Input& input) const {
  if (stage_ == Stage::kFinished) return FailedPrecondition("run {} has ended", spec_.run_id);
  if ((stage_ == Stage::kNew) != std::holds_alternative<Start>(input)) {
    return FailedPrecondition("run {}: {}", spec_.run_id,
                              stage_ == Stage::kNew ? "the first input is Start" : "it has begun already");
  }
  const uint32_t* call = nullptr;
  if (const auto* finished = std::get_if<CallFinished>(&input)) call = &finished->call;
  if (const auto* lost = std::get_if<CallLost>(&input)) call = &lost->call;
  if (call != nullptr && (*call >= calls_.size() || !calls_[*call].open)) {
    return FailedPrecondition("run {}: call {} is not outstanding", spec_.run_id, *call);
  }
  if (const auto* timer = std::get_if<TimerExpired>(&input); timer != nullptr) {
    if (timer->timer >= alarms_.size() || alarms_[timer->timer].expired) {
      return FailedPrecondition("run {}: timer {} does not run", spec_.run_id, timer->timer);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Output> Machine::Impl::Step(Input input) {
  RETURN_IF_ERROR(Check(input));
  Output out;
  out_ = &out;
  if (std::holds_alternative<Start>(input)) {
    Begin();
  } else if (auto* finished = std::get_if<CallFinished>(&input)) {
    OnFinished(*finished);
  } else if (auto* lost = std::get_if<CallLost>(&input)) {
    OnLost(*lost);
  } else if (std::holds_alternative<WallTimeExpired>(input)) {
    OnWallTime();
  } else if (const auto* timer = std::get_if<TimerExpired>(&input)) {
    OnTimer(timer->timer);
  } else if (stage_ == Stage::kRunning) {
    End(pb::RUN_STATE_CANCELLED, Cancelled("the run was cancelled"));
  }
  SettleStep();
  out_ = nullptr;
  return out;
}

void Machine::Impl::Begin() {
  stage_ = Stage::kRunning;
  pb::RunStarted* started = AddEvent("")->mutable_run_started();
  started->set_graph(graph_->name());
  started->set_graph_revision(graph_->revision());
  started->set_seed(spec_.seed);
  for (const auto& [name, value] : spec_.inputs) (*started->mutable_inputs())[name] = value;
  std::vector<bool> bound(spec_.members.size());
  for (const std::string& name : graph_->MemberNames()) {
    pb::Binding* binding = started->add_bindings();
    binding->set_name(name);
    for (const int32_t member : spec_.binding.at(name)) {
      binding->add_members(spec_.members[static_cast<size_t>(member)].name);
      bound[static_cast<size_t>(member)] = true;
    }
  }
  for (size_t i = 0; i < bound.size(); ++i) {
    if (bound[i]) started->add_members(spec_.members[i].name);
  }
  if (wall_time_.has_value()) out_->wall_time_ns = Nanoseconds(wall_time_->budget.wall_time());
  StartSequence(0, "");
}

// Lets everything happen that this input made possible.
void Machine::Impl::SettleStep() {
  while (stage_ == Stage::kRunning) {
    if (!work_.empty()) {
      const int32_t sequence = work_.front();
      work_.pop_front();
      Advance(sequence);
      continue;
    }
    Dispatch();
    if (work_.empty()) break;
  }
  if (stage_ == Stage::kEnding && in_flight_ == 0) PutRunFinished();
}

void Machine::Impl::EndSuccessfully() {
  const CompiledNode& result = graph_->node(graph_->result());
  std::vector<int32_t> ids = values_.node(result.index).utterances;
  if (ids.empty() && exhausted_) ids = best_;
  if (ids.empty() && holes_ > 0) {
    return Fail(ran_out_ ? ResourceExhausted("the budget ran out before there was any answer")
                         : Unavailable("no utterance reached the result \"{}\": {} calls were lost, the last with: {}",
                                       result.name, holes_, Message(last_loss_)));
  }
  ending_.state = pb::RUN_STATE_SUCCEEDED;
  ending_.best_effort = exhausted_;
  if (const Picked picked = Pick(PickRule::kMajority, BallotsOf(values_, ids)); picked.winner >= 0) {
    const Utterance& winner = values_.utterance(ids[static_cast<size_t>(picked.winner)]);
    answer_ = winner.answer;
    ending_.text = winner.text;
  }
  stage_ = Stage::kEnding;
}

void Machine::Impl::End(pb::RunState state, absl::Status status) {
  if (stage_ != Stage::kRunning) return;
  stage_ = Stage::kEnding;
  ending_.state = state;
  ending_.status = std::move(status);
  work_.clear();
  queue_.clear();
  CancelCalls(std::nullopt);
}

void Machine::Impl::PutRunFinished() {
  stage_ = Stage::kFinished;
  pb::RunFinished* finished = AddEvent("")->mutable_run_finished();
  finished->set_state(ending_.state);
  if (answer_.has_value()) finished->set_answer(*answer_);
  finished->set_text(ending_.text);
  finished->set_code(static_cast<int32_t>(ending_.status.code()));
  finished->set_message(std::string(Message(ending_.status)));
  *finished->mutable_ledger() = ledger_;
  finished->set_best_effort(ending_.best_effort);
  finished->set_hole_count(holes_);
}

std::vector<Machine::Outstanding> Machine::Impl::OutstandingCalls() const {
  std::vector<Outstanding> outstanding;
  for (const Call& call : calls_) {
    if (call.open) outstanding.push_back({call.spec, call.cancelled});
  }
  return outstanding;
}

std::optional<uint32_t> Machine::Impl::FindOutstanding(std::string_view node_path, const pb::CallKey& key) const {
  for (const Call& call : calls_) {
    const pb::CallKey& own = call.spec.key;
    if (call.open && call.spec.node_path == node_path && own.member() == key.member() && own.sample() == key.sample() &&
        own.subject() == key.subject() && own.attempt() == key.attempt()) {
      return call.spec.id;
    }
  }
  return std::nullopt;
}

// ---- The public face.

Machine::Machine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Machine::~Machine() = default;

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(std::shared_ptr<const CompiledGraph> graph, RunSpec spec) {
  CONCLAVE_CHECK(graph != nullptr);
  auto impl = std::make_unique<Impl>(std::move(graph), std::move(spec));
  RETURN_IF_ERROR(impl->Validate());
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

absl::StatusOr<Output> Machine::Step(Input input) { return impl_->Step(std::move(input)); }
bool Machine::finished() const { return impl_->finished(); }
pb::RunState Machine::state() const { return impl_->state(); }
const pb::Ledger& Machine::ledger() const { return impl_->ledger(); }
const std::optional<std::string>& Machine::answer() const { return impl_->answer(); }
const RunSpec& Machine::spec() const { return impl_->spec(); }
const CompiledGraph& Machine::graph() const { return impl_->graph(); }
std::vector<Machine::Outstanding> Machine::OutstandingCalls() const { return impl_->OutstandingCalls(); }
std::vector<Timer> Machine::PendingTimers() const { return impl_->PendingTimers(); }
std::optional<uint32_t> Machine::FindOutstanding(std::string_view node_path, const pb::CallKey& key) const {
  return impl_->FindOutstanding(node_path, key);
}

}  // namespace conclave::orchestrator
