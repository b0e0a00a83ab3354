// SPDX-License-Identifier: Apache-2.0
// `conclave graph check|draw|cost`: look at a graph before it spends anything.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/experiment_fleet.h"
#include "cli/session.h"
#include "common/status.h"
#include "engine/engine.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/graph/draw.h"

namespace conclave::cli {
namespace {

struct Arguments {
  std::string graph, graphs, format = "svg", fleet;
  std::vector<std::string> binds;
  Output output;
};

absl::StatusOr<std::shared_ptr<const orchestrator::CompiledGraph>> Load(const Arguments& a) {
  ASSIGN_OR_RETURN(auto library,
                   orchestrator::GraphLibrary::Open(a.graphs.empty() ? DefaultGraphsDirectory() : a.graphs));
  return library->Find(a.graph);
}

// What roles want of outputs, which only the engine can read.
absl::Status CheckConstraints(const orchestrator::CompiledGraph& graph) {
  using Language = engine::Constraint::Language;
  for (const orchestrator::CompiledNode& node : graph.nodes()) {
    if (node.role == nullptr || node.role->constraint == nullptr) continue;
    const auto& constraint = *node.role->constraint;
    const absl::Status status =
        constraint.has_json_schema() ? engine::CheckConstraint({Language::kJsonSchema, constraint.json_schema()})
        : constraint.has_regex()     ? engine::CheckConstraint({Language::kRegex, constraint.regex()})
                                     : engine::CheckConstraint({Language::kGrammar, constraint.grammar()});
    if (!status.ok()) {
      return Annotate(status, fmt::format("{}: role \"{}\"", node.role->file, node.role->proto.name()));
    }
  }
  return absl::OkStatus();
}

absl::Status Check(const Arguments& a) {
  ASSIGN_OR_RETURN(const auto graph, Load(a));
  RETURN_IF_ERROR(CheckConstraints(*graph));
  const auto seats = graph->MemberNames();
  if (a.output.json) {
    const nlohmann::ordered_json json = {
        {"name", graph->name()}, {"revision", graph->revision()}, {"nodes", graph->nodes().size()}, {"seats", seats}};
    fmt::print("{}\n", json.dump(2));
    return absl::OkStatus();
  }
  std::string names;
  for (const std::string& seat : seats) names += (names.empty() ? "" : ", ") + seat;
  fmt::print("{}: ok, {} nodes, seats to bind: {}\n", graph->name(), graph->nodes().size(), names);
  return absl::OkStatus();
}

absl::Status Draw(const Arguments& a) {
  ASSIGN_OR_RETURN(const auto graph, Load(a));
  if (a.format == "dot") {
    fmt::print("{}", orchestrator::DrawDot(*graph));
  } else if (a.format == "mermaid") {
    fmt::print("{}", orchestrator::DrawMermaid(*graph));
  } else {
    fmt::print("{}", orchestrator::DrawSvg(*graph));
  }
  return absl::OkStatus();
}

// Costs of fleet members as their cards say, or the files of their models; weights are not read for this.
absl::Status Cost(const Arguments& a) {
  ASSIGN_OR_RETURN(const auto graph, Load(a));
  std::vector<orchestrator::MemberFacts> members;
  std::vector<deliberation::v1::Binding> bindings;
  if (a.fleet.empty()) {
    members.emplace_back().name = "member";
  } else {
    const std::string home = ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1);
    ASSIGN_OR_RETURN(auto fleet, orchestrator::LoadFleet(a.fleet, home));
    LookIntoModels(&fleet);
    bindings = fleet.Bindings();
    members = orchestrator::DeclaredMembers(fleet);
  }
  deliberation::v1::RunRequest request;
  for (const std::string& bind : a.binds) {
    ASSIGN_OR_RETURN(*request.add_bindings(), ParseBinding(bind));
  }
  ASSIGN_OR_RETURN(const auto spec, orchestrator::BuildRunSpec(*graph, request, bindings, members));
  orchestrator::CostInputs inputs;
  inputs.binding = spec.binding;
  for (const auto& member : spec.members) inputs.members.push_back(member.cost);
  ASSIGN_OR_RETURN(const auto bound, orchestrator::BoundCost(*graph, inputs));
  if (a.output.json) {
    const nlohmann::ordered_json json = {
        {"calls", bound.calls()},
        {"output_tokens", bound.output_tokens()},
        {"prompt_tokens", bound.prompt_tokens()},
        {"flops", bound.has_flops() ? nlohmann::ordered_json(bound.flops()) : nlohmann::ordered_json()}};
    fmt::print("{}\n", json.dump(2));
    return absl::OkStatus();
  }
  fmt::print("at most {} calls, {} output tokens; about {} prompt tokens", bound.calls(), bound.output_tokens(),
             bound.prompt_tokens());
  if (bound.has_flops()) fmt::print("; at most {:.3g} FLOP", bound.flops());
  fmt::print("\n");
  return absl::OkStatus();
}

}  // namespace

void AddGraph(CLI::App* app, Chosen* chosen) {
  auto* graph = app->add_subcommand("graph", "Check, draw or cost a graph");
  graph->footer("Example: conclave graph check my_graph.textproto");
  graph->require_subcommand(1);
  auto a = std::make_shared<Arguments>();
  auto add = [&](const char* name, const char* help, const char* example, absl::Status (*run)(const Arguments&)) {
    auto* command = graph->add_subcommand(name, help);
    command->footer(std::string("Example: conclave graph ") + name + " " + example);
    command->add_option("FILE", a->graph, "A file, or a shipped graph's name")->required();
    command->add_option("--graphs", a->graphs, "Directory of graphs and roles; default: the shipped ones");
    command->callback([=] { chosen->action = [=] { return Report(run(*a)); }; });
    return command;
  };
  AddOutputFlags(add("check", "Every error at once: file:line, node, fix", "council.textproto", Check), &a->output);
  auto* draw = add("draw", "A picture of it", "council --format svg > council.svg", Draw);
  draw->add_option("--format", a->format, "dot, mermaid or svg")
      ->capture_default_str()
      ->check(CLI::IsMember({"dot", "mermaid", "svg"}));
  auto* cost = add("cost", "Worst-case calls, tokens and FLOPs for a binding", "council --fleet fleet.textproto", Cost);
  cost->add_option("--fleet", a->fleet, "Fleet file; default: one member in every seat");
  cost->add_option("--bind", a->binds, "ROLE=MEMBER,.. (repeatable)");
  AddOutputFlags(cost, &a->output);
}

}  // namespace conclave::cli
