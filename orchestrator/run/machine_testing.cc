// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/machine_testing.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/graph/binding.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

constexpr std::string_view kRoles[] = {
    R"(name: "say" system: "Answer." task: "{{ question }} r{{ round }}{% for s in seen %}\n{{ s.node }}:{% for u in s.utterances %} [{{ u.member }}|{{ u.text }}]{% endfor %}{% endfor %}" answer {} sampling { max_output_tokens: 50 })",
    R"(name: "note" task: "{{ question }}{% for s in seen %}\n{{ s.node }}:{% for u in s.utterances %} [{{ u.text }}]{% endfor %}{% endfor %}" text {} sampling { max_output_tokens: 50 })",
    R"(name: "check" task: "{{ question }} / {{ candidate.text }}" verdict { accept: "VERDICT: accept" reject: "VERDICT: reject" } sampling { max_output_tokens: 20 })",
    R"(name: "mend" task: "{{ question }} r{{ round }}{% for s in seen %}\n{{ s.node }}:{% for u in s.utterances %} [{{ u.text }}]{% endfor %}{% endfor %}" answer {} repair: "Which number?" sampling { max_output_tokens: 50 })",
    R"role(name: "rule" task: "{{ question }} / {{ candidate.text }}" verdict { accept: "VERDICT: accept" reject: "VERDICT: reject" } repair: "Accept or reject?" constraint { regex: "VERDICT: (accept|reject)" } sampling { max_output_tokens: 20 })role",
    R"(name: "order" task: "{{ question }}{% for c in candidates %}\nSolution {{ c.number }}:\n{{ c.text }}\n{% endfor %}" ranking { after: "BEST:" } sampling { max_output_tokens: 20 })",
};

inference::v1::Usage UsageOf(const CallSpec& call, int64_t output_tokens) {
  inference::v1::Usage usage;
  usage.set_prompt_token_count(call.prompt->bytes / 4 + 1);
  usage.set_output_token_count(output_tokens);
  usage.set_flop_count(1000 * output_tokens);
  return usage;
}

}  // namespace

const RoleLibrary& TestRoles() {
  static const RoleLibrary* const roles = [] {
    auto* library = new RoleLibrary;
    for (const std::string_view text : kRoles) {
      pb::Role role;
      CONCLAVE_CHECK(google::protobuf::TextFormat::ParseFromString(std::string(text), &role));
      const absl::Status added = library->Add(role);
      CONCLAVE_CHECK_MSG(added.ok(), std::string(Message(added)).c_str());
    }
    return library;
  }();
  return *roles;
}

std::shared_ptr<const CompiledGraph> MustCompile(std::string_view text) {
  CompileResult result = CompileGraphText(text, "test.textproto", TestRoles());
  std::string all;
  for (const std::string& error : result.errors) all += error + "\n";
  CONCLAVE_CHECK_MSG(result.graph != nullptr, all.c_str());
  return result.graph;
}

RunSpec SpecFor(const CompiledGraph& graph, const std::vector<std::string>& members, uint64_t seed) {
  RunSpec spec;
  spec.run_id = "run";
  spec.seed = seed;
  spec.inputs["question"] = "What is 6 times 7?";
  for (const std::string& name : members) spec.members.push_back({name, 1.0, {}});
  auto binding = ResolveBinding(graph, {}, members);
  CONCLAVE_CHECK_MSG(binding.ok(), std::string(Message(binding.status())).c_str());
  spec.binding = *std::move(binding);
  return spec;
}

const pb::RunFinished& RunLog::finished() const {
  CONCLAVE_CHECK(!events.empty() && events.back().has_run_finished());
  return events.back().run_finished();
}

const pb::NodeFinished& RunLog::node(std::string_view path) const {
  for (const pb::Event& event : events) {
    if (event.has_node_finished() && event.node_path() == path) return event.node_finished();
  }
  CONCLAVE_CHECK_MSG(false, std::string(path).c_str());
  return pb::NodeFinished::default_instance();
}

std::vector<const pb::CallFinished*> RunLog::calls_of(std::string_view path) const {
  std::vector<const pb::CallFinished*> found;
  for (const pb::Event& event : events) {
    if (event.has_call_finished() && event.node_path() == path) found.push_back(&event.call_finished());
  }
  return found;
}

void DriveOn(RunLog* log, Output out, const Answerer& answer, const DriveOptions& options) {
  std::vector<CallSpec> open;
  std::vector<CallSpec> hanging;
  uint64_t fed = 0;
  const auto take = [&](Output more) {
    for (pb::Event& event : more.events) {
      event.set_sequence_number(static_cast<int64_t>(log->events.size()) + 1);
      log->events.push_back(std::move(event));
    }
    for (CallSpec& call : more.calls) open.push_back(std::move(call));
    for (const uint32_t id : more.cancel) {
      // A hanging call ends when it is cancelled.
      const auto hung = std::find_if(hanging.begin(), hanging.end(), [&](const CallSpec& c) { return c.id == id; });
      if (hung != hanging.end()) open.push_back(std::move(*hung)), hanging.erase(hung);
    }
  };
  take(std::move(out));
  while (!log->machine->finished()) {
    ++fed;
    const auto count = static_cast<int64_t>(fed) - 1;
    Input input = CancelRequested{};
    if (count == options.cancel_after) {
      log->stored.push_back({static_cast<int64_t>(log->events.size()), CancelRequested{}});
    } else if (count == options.expire_after) {
      log->stored.push_back({static_cast<int64_t>(log->events.size()), WallTimeExpired{}});
      input = WallTimeExpired{};
    } else {
      if (open.empty()) return;
      size_t next = 0;
      if (options.arrival_seed != 0) {
        next = static_cast<size_t>(PhiloxUniform(options.arrival_seed, 1, fed) * static_cast<double>(open.size()));
      }
      CallSpec call = std::move(open[next]);
      open.erase(open.begin() + static_cast<ptrdiff_t>(next));
      bool gone = false;
      for (const auto& outstanding : log->machine->OutstandingCalls()) {
        if (outstanding.call.id == call.id) gone = outstanding.cancelled;
      }
      Reply reply = answer(call);
      if (reply.kind == Reply::Kind::kHang && !gone) {
        hanging.push_back(std::move(call));
        continue;
      }
      inference::v1::Usage usage = UsageOf(call, reply.output_tokens);
      log->calls += 1;
      log->prompt_tokens += usage.prompt_token_count();
      log->output_tokens += usage.output_token_count();
      if (gone) {
        input = CallLost{call.id, Cancelled("cancelled"), usage, false};
      } else if (reply.kind == Reply::Kind::kText) {
        CallFinished finished;
        finished.call = call.id;
        finished.text = std::move(reply.text);
        finished.usage = usage;
        finished.latency_ns = static_cast<int64_t>(fed) * 1'000'000;
        if (call.p_true != nullptr) finished.p_true = reply.p_true;
        if (call.token_trace) finished.trace = std::move(reply.trace);
        input = std::move(finished);
      } else {
        input = CallLost{call.id, Unavailable("worker gone"), usage, reply.kind == Reply::Kind::kLose};
      }
    }
    log->inputs.push_back(input);
    auto stepped = log->machine->Step(std::move(input));
    CONCLAVE_CHECK_MSG(stepped.ok(), std::string(Message(stepped.status())).c_str());
    take(*std::move(stepped));
  }
}

RunLog Drive(std::shared_ptr<const CompiledGraph> graph, RunSpec spec, const Answerer& answer,
             const DriveOptions& options) {
  RunLog log;
  auto machine = Machine::Create(std::move(graph), std::move(spec));
  CONCLAVE_CHECK_MSG(machine.ok(), std::string(Message(machine.status())).c_str());
  log.machine = *std::move(machine);
  auto out = log.machine->Step(Start{});
  CONCLAVE_CHECK(out.ok());
  log.inputs.emplace_back(std::in_place_type<Start>);
  DriveOn(&log, *std::move(out), answer, options);
  return log;
}

}  // namespace conclave::orchestrator
