// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/fork.h"

#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/stored_run.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using google::protobuf::util::TimeUtil;

constexpr size_t kShownBytes = 60;

// ---- Changes

// Nodes that ask somebody, wherever they stand, by full name.
std::map<std::string, std::string*> RolesOf(pb::Graph* graph) {
  std::map<std::string, std::string*> roles;
  struct Waiting {
    std::string scope;  // "", or "<call>."
    pb::Node* node;
  };
  std::vector<Waiting> waiting;
  const auto add = [&](const std::string& scope, google::protobuf::RepeatedPtrField<pb::Node>* nodes) {
    for (pb::Node& node : *nodes) waiting.push_back({scope, &node});
  };
  add("", graph->mutable_node());
  while (!waiting.empty()) {
    const auto [scope, node] = waiting.back();
    waiting.pop_back();
    const std::string name = scope + node->name();
    if (node->has_speak()) roles[name] = node->mutable_speak()->mutable_role();
    if (node->has_judge()) roles[name] = node->mutable_judge()->mutable_role();
    if (node->has_loop()) add(scope, node->mutable_loop()->mutable_body());
    if (node->has_branch()) {
      add(scope, node->mutable_branch()->mutable_then());
      add(scope, node->mutable_branch()->mutable_otherwise());
    }
    if (node->has_call()) add(name + ".", node->mutable_call()->mutable_called()->mutable_node());
  }
  return roles;
}

absl::StatusOr<std::shared_ptr<const CompiledGraph>> ChangePrompts(const CompiledGraph& graph,
                                                                   const std::map<std::string, std::string>& prompts) {
  pb::GraphBundle bundle = graph.bundle();
  const std::map<std::string, std::string*> roles = RolesOf(bundle.mutable_graph());
  for (const auto& [node, task] : prompts) {
    const auto found = roles.find(node);
    if (found == roles.end()) {
      return InvalidArgument("graph \"{}\" has no speak or judge \"{}\" whose prompt could be changed", graph.name(),
                             node);
    }
    // A role of its own, so that other nodes in the same role keep their words.
    pb::Role changed;
    for (const pb::Role& role : bundle.role()) {
      if (role.name() == *found->second) changed = role;
    }
    std::string name = fmt::format("{}_{}", changed.name(), node);
    std::replace(name.begin(), name.end(), '.', '_');
    changed.set_name(std::move(name));
    changed.set_task(task);
    *found->second = changed.name();
    *bundle.add_role() = std::move(changed);
  }
  RoleLibrary library;
  for (const pb::Role& role : bundle.role()) RETURN_IF_ERROR(library.Add(role));
  return CompileGraph(bundle.graph(), library).ToStatusOr();
}

// Who sits where, afterwards. A member that takes the seats of another brings its own name, weight and costs.
absl::Status ChangeMembers(const std::map<std::string, RunMember>& members, RunSpec* spec) {
  for (const auto& [from, to] : members) {
    const auto named = [](const std::string& name) { return [&name](const RunMember& m) { return m.name == name; }; };
    const auto old = std::find_if(spec->members.begin(), spec->members.end(), named(from));
    if (old == spec->members.end()) return InvalidArgument("no member \"{}\" sits in this run", from);
    if (std::any_of(spec->members.begin(), spec->members.end(), named(to.name))) {
      return InvalidArgument("member \"{}\" sits in this run already; name one that does not", to.name);
    }
    *old = to;
  }
  return absl::OkStatus();
}

// ---- The part that stands

// The recorded answers, fed to the changed machine in their order.
class Retelling {
 public:
  Retelling(const RunRecord& record, int64_t at_event) : record_(record), at_event_(at_event) {}

  absl::Status Tell(Machine* machine) {
    RETURN_IF_ERROR(Step(machine, Start{}));
    size_t input = 0;
    for (int64_t number = 1; number <= at_event_; ++number) {
      const pb::Event& event = record_.events[static_cast<size_t>(number) - 1];
      // A timer or the like that was taken before this event. Cancelling was the end of the old run, not of this one.
      for (; input < record_.inputs.size() && record_.inputs[input].after_sequence_number < number; ++input) {
        const StoredKind& taken = record_.inputs[input].input;
        if (std::holds_alternative<CancelRequested>(taken)) continue;
        inputs_.push_back({machine->spec().run_id, static_cast<int64_t>(events_.size()), EncodeInput(taken)});
        RETURN_IF_ERROR(Step(machine, std::visit([](auto value) { return Input(value); }, taken)));
      }
      RETURN_IF_ERROR(Answer(machine, event));
    }
    return absl::OkStatus();
  }
  std::vector<pb::Event>& events() { return events_; }
  std::vector<RecordInput>& inputs() { return inputs_; }

 private:
  absl::Status Step(Machine* machine, Input input) {
    ASSIGN_OR_RETURN(Output out, machine->Step(std::move(input)));
    std::move(out.events.begin(), out.events.end(), std::back_inserter(events_));
    return absl::OkStatus();
  }

  absl::Status Answer(Machine* machine, const pb::Event& event) {
    const pb::CallKey* key = event.has_call_finished() ? &event.call_finished().key()
                             : event.has_call_lost()   ? &event.call_lost().key()
                                                       : nullptr;
    if (key == nullptr) return absl::OkStatus();
    const std::optional<uint32_t> call = machine->FindOutstanding(event.node_path(), *key);
    const bool other_prompt = call.has_value() && event.has_call_finished() &&
                              PromptHash(*machine, *call) != event.call_finished().prompt_sha256();
    if (!call.has_value() || other_prompt) {
      return FailedPrecondition("the change reaches back to event {} (\"{}\", {}), which {}; fork at an earlier event",
                                event.sequence_number(), event.node_path(), key->member(),
                                other_prompt ? "was asked otherwise" : "would not have been");
    }
    return Step(machine, *RecordedInput(event, *call));
  }

  static std::string PromptHash(const Machine& machine, uint32_t id) {
    for (const Machine::Outstanding& outstanding : machine.OutstandingCalls()) {
      if (outstanding.call.id == id) return outstanding.call.prompt->sha256;
    }
    return "";
  }

  const RunRecord& record_;
  const int64_t at_event_;
  std::vector<pb::Event> events_;
  std::vector<RecordInput> inputs_;
};

// ---- Comparison

// A call's place in the run, whatever attempt brought it to an end; what was asked once more because it could not be
// read is a place of its own.
std::string NameOf(const pb::Event& event) {
  pb::CallKey key = event.call_finished().key();
  key.clear_attempt();
  return fmt::format("{}|{}|{}", event.node_path(), event.call_finished().will_repair(), key.SerializeAsString());
}

std::string Shown(const std::string& text, size_t from) {
  return from >= text.size() ? std::string("[end]") : text.substr(from, kShownBytes);
}

void SetTexts(const std::string& recorded, const std::string& now, Divergence* out) {
  const auto [a, b] = std::mismatch(recorded.begin(), recorded.end(), now.begin(), now.end());
  size_t at = static_cast<size_t>(a - recorded.begin());
  out->at_byte = static_cast<int64_t>(at);
  bool inside = false;
  for (size_t i = 0; i < at; ++i) {
    const bool space = recorded[i] == ' ' || recorded[i] == '\n' || recorded[i] == '\t';
    if (!space && !inside) ++out->at_word;
    inside = !space;
  }
  if (!inside) ++out->at_word;
  while (at > 0 && (static_cast<unsigned char>(at < recorded.size() ? recorded[at] : 0) & 0xC0) == 0x80) --at;
  out->recorded = Shown(recorded, at);
  out->now = Shown(now, at);
}

std::optional<Divergence> Compare(const pb::CallFinished& recorded, const pb::CallFinished& now) {
  Divergence out;
  if (recorded.prompt_sha256() != now.prompt_sha256()) {
    out.what = "prompt";
    SetTexts(recorded.prompt().rbegin()->content(), now.prompt().rbegin()->content(), &out);
  } else if (recorded.text() != now.text()) {
    out.what = "text";
    SetTexts(recorded.text(), now.text(), &out);
  } else if (recorded.answer() != now.answer() || recorded.has_answer() != now.has_answer()) {
    out.what = "answer";
    out.recorded = recorded.answer(), out.now = now.answer();
  } else if (recorded.score() != now.score()) {
    out.what = "score";
    out.recorded = std::to_string(recorded.score()), out.now = std::to_string(now.score());
  } else {
    return std::nullopt;
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<WriteOp>> ForkRun(const RunRecord& record, const ForkChange& change,
                                             const std::string& run_id, int64_t unix_ns) {
  const auto count = static_cast<int64_t>(record.events.size());
  if (change.at_event < 0 || change.at_event >= count) {
    return InvalidArgument("event {} of a run of {}; 0 (from the beginning) to {} can be forked at", change.at_event,
                           count, count - 1);
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const CompiledGraph> graph, ChangePrompts(*record.graph, change.prompts));
  RunSpec spec = record.spec;
  spec.run_id = run_id;
  RETURN_IF_ERROR(ChangeMembers(change.members, &spec));
  CreateRun create;
  create.run_id = run_id;
  create.request = EncodeRun(record.request, spec);
  create.graph_revision = graph->revision();
  create.graph = graph->canonical();
  create.create_unix_ns = unix_ns;
  pb::Run summary;
  summary.set_run_id(run_id);
  summary.set_state(pb::RUN_STATE_RUNNING);
  summary.set_graph(graph->name());
  for (const auto& [name, value] : spec.inputs) (*summary.mutable_inputs())[name] = value;
  *summary.mutable_create_time() = TimeUtil::NanosecondsToTimestamp(unix_ns);
  create.summary = summary.SerializeAsString();

  ASSIGN_OR_RETURN(const std::unique_ptr<Machine> machine, Machine::Create(graph, std::move(spec)));
  Retelling retelling(record, change.at_event);
  RETURN_IF_ERROR(retelling.Tell(machine.get()));
  if (machine->finished())
    return FailedPrecondition("the run has ended by event {}; fork at an earlier event", change.at_event);
  AppendEvents append{run_id, 1, {}};
  int64_t number = 0;
  for (pb::Event& event : retelling.events()) {
    event.set_sequence_number(++number);
    *event.mutable_time() = TimeUtil::NanosecondsToTimestamp(unix_ns);
    append.events.push_back(EncodeEvent(event));
  }
  std::vector<WriteOp> ops;
  ops.emplace_back(std::move(create));
  ops.emplace_back(std::move(append));
  for (RecordInput& input : retelling.inputs()) ops.emplace_back(std::move(input));
  return ops;
}

std::optional<Divergence> FirstDivergence(std::span<const pb::Event> recorded, std::span<const pb::Event> now) {
  std::map<std::string, const pb::CallFinished*> finished;
  for (const pb::Event& event : now) {
    if (event.has_call_finished()) finished[NameOf(event)] = &event.call_finished();
  }
  for (const pb::Event& event : recorded) {
    if (!event.has_call_finished()) continue;
    const auto found = finished.find(NameOf(event));
    std::optional<Divergence> divergence;
    if (found == finished.end()) {
      divergence.emplace().what = "not made";
    } else {
      divergence = Compare(event.call_finished(), *found->second);
    }
    if (!divergence.has_value()) continue;
    divergence->event = event.sequence_number();
    divergence->node_path = event.node_path();
    divergence->key = event.call_finished().key();
    return divergence;
  }
  if (recorded.empty() || now.empty() || !recorded.back().has_run_finished()) return std::nullopt;
  const pb::RunFinished &was = recorded.back().run_finished(), &is = now.back().run_finished();
  if (was.state() == is.state() && was.answer() == is.answer()) return std::nullopt;
  Divergence end;
  end.event = recorded.back().sequence_number();
  end.what = "end";
  end.recorded = fmt::format("{} \"{}\"", pb::RunState_Name(was.state()), was.answer());
  end.now = fmt::format("{} \"{}\"", pb::RunState_Name(is.state()), is.answer());
  return end;
}

}  // namespace conclave::orchestrator
