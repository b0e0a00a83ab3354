// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/run_builder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/fleet/abilities.h"
#include "orchestrator/graph/binding.h"
#include "protos/textproto.h"

namespace conclave::orchestrator {
namespace {

bool IsPath(const std::string& name) { return name.find('/') != name.npos || name.ends_with(".textproto"); }

}  // namespace

absl::StatusOr<std::unique_ptr<GraphLibrary>> GraphLibrary::Open(const std::string& directory) {
  std::unique_ptr<GraphLibrary> library(new GraphLibrary(directory));
  RETURN_IF_ERROR(library->roles_.AddDirectory(directory + "/roles"));
  return library;
}

std::vector<std::string> GraphLibrary::ShippedNames() const {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, ignored)) {
    if (entry.path().extension() == ".textproto") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::shared_ptr<const CompiledGraph>> GraphLibrary::Find(const std::string& name) {
  MutexLock lock(&mutex_);
  if (const auto it = compiled_.find(name); it != compiled_.end()) return it->second;
  const std::string path = IsPath(name) ? name : directory_ + "/" + name + ".textproto";
  auto text = ReadFile(path, kTextprotoBytesMax);
  if (absl::IsNotFound(text.status()) && !IsPath(name)) {
    const std::vector<std::string> names = ShippedNames();
    const std::string_view near = Nearest(name, names);
    return NotFound("GRAPH_NOT_FOUND: no shipped graph is called \"{}\"{}; shipped: {}", name,
                    near.empty() ? std::string() : fmt::format(", is \"{}\" meant?", near), fmt::join(names, ", "));
  }
  if (!text.ok()) return text.status();
  RoleLibrary roles = roles_;
  const std::filesystem::path home = std::filesystem::path(path).parent_path();
  const std::string beside = (home / "roles").string();
  if (IsPath(name) && std::filesystem::is_directory(beside)) RETURN_IF_ERROR(roles.AddDirectory(beside));
  std::vector<std::string> called = {directory_};
  if (IsPath(name)) called.insert(called.begin(), home.empty() ? "." : home.string());
  ASSIGN_OR_RETURN(auto graph, CompileGraphText(*text, path, roles, GraphsIn(std::move(called))).ToStatusOr());
  compiled_[name] = graph;
  return graph;
}

absl::StatusOr<std::shared_ptr<const CompiledGraph>> GraphLibrary::Compile(const deliberation::v1::Graph& graph) const {
  return CompileGraph(graph, roles_, Callable()).ToStatusOr();
}

std::vector<MemberFacts> DeclaredMembers(const LoadedFleet& fleet) {
  std::vector<MemberFacts> out;
  for (const deliberation::v1::Member& member : fleet.fleet.member()) {
    MemberFacts& facts = out.emplace_back();
    facts.name = member.name();
    if (member.has_weight()) facts.weight = member.weight();
    if (member.has_card()) facts.card = member.card();
    if (const auto it = fleet.models.find(member.name()); it != fleet.models.end()) facts.model = it->second;
  }
  return out;
}

absl::StatusOr<RunSpec> BuildRunSpec(const CompiledGraph& graph, const deliberation::v1::RunRequest& request,
                                     std::span<const deliberation::v1::Binding> fleet_bindings,
                                     std::span<const MemberFacts> members) {
  RunSpec spec;
  std::vector<std::string> names;
  for (const MemberFacts& facts : members) {
    names.push_back(facts.name);
    spec.members.push_back({facts.name, facts.weight,
                            facts.model  ? CostOf(*facts.model)
                            : facts.card ? CostOf(*facts.card)
                                         : CostModel{}});
  }
  std::vector<deliberation::v1::Binding> bindings;
  if (members.size() == 1) {
    for (const std::string& seat : graph.MemberNames()) {
      bindings.emplace_back().set_name(seat);
      bindings.back().add_members(names[0]);
    }
  }
  bindings.insert(bindings.end(), fleet_bindings.begin(), fleet_bindings.end());
  bindings.insert(bindings.end(), request.bindings().begin(), request.bindings().end());
  ASSIGN_OR_RETURN(spec.binding, ResolveBinding(graph, bindings, names));
  spec.inputs.insert(request.inputs().begin(), request.inputs().end());
  spec.seed = request.seed();
  spec.sampling = request.sampling();
  spec.item_id = request.item_id();
  if (request.has_result_constraint()) {
    spec.result_constraint = std::make_shared<const deliberation::v1::OutputConstraint>(request.result_constraint());
  }
  if (request.has_result_logprob_count()) spec.result_logprobs = request.result_logprob_count();
  RETURN_IF_ERROR(CheckAbilities(graph, spec, members));
  if (request.has_budget()) spec.budgets.push_back({"request", request.budget()});
  return spec;
}

}  // namespace conclave::orchestrator
