// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/ensemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/status.h"
#include "orchestrator/graph/binding.h"

namespace conclave::experiment {
namespace {

using orchestrator::CompiledNode;
using orchestrator::NodeKind;

std::vector<std::string> InOrder(const std::set<int32_t>& seats, const orchestrator::RunSpec& spec) {
  std::vector<std::string> names;
  names.reserve(seats.size());
  for (const int32_t seat : seats) names.push_back(spec.members[static_cast<size_t>(seat)].name);
  return names;
}

bool ReadsWeights(const CompiledNode& node) {
  if (node.kind != NodeKind::kPick) return false;
  if (node.expression) return node.expression->Reads("member");
  return node.by == deliberation::v1::Pick::WEIGHTED_VOTE || node.by == deliberation::v1::Pick::BEST_OF_N;
}

}  // namespace

bool Answers(const CompiledNode& node) {
  return node.kind == NodeKind::kSpeak && node.role != nullptr &&
         node.role->contract == orchestrator::ContractKind::kAnswer;
}

absl::StatusOr<Seating> Seat(const std::string& arm, std::shared_ptr<const orchestrator::CompiledGraph> graph,
                             const deliberation::v1::RunRequest& request, const orchestrator::LoadedFleet& fleet,
                             int64_t input_bytes) {
  Seating seating;
  auto spec = orchestrator::BuildRunSpec(*graph, request, fleet.Bindings(), orchestrator::DeclaredMembers(fleet));
  if (!spec.ok()) return Annotate(spec.status(), fmt::format("arm \"{}\"", arm));
  seating.spec = *std::move(spec);
  seating.graph = std::move(graph);
  std::set<int32_t> members, answerers;
  size_t speaks = 0;
  for (const CompiledNode& node : seating.graph->nodes()) {
    if (ReadsWeights(node)) seating.reads_weights = true;
    const bool seated = node.kind == NodeKind::kSpeak || node.kind == NodeKind::kJudge;
    if (!seated) continue;
    ++speaks;
    for (const int32_t seat : orchestrator::SeatsOf(node, seating.spec.binding)) {
      members.insert(seat);
      if (Answers(node)) answerers.insert(seat);
    }
    const std::string& role = node.role->proto.name();
    if (std::find(seating.roles.begin(), seating.roles.end(), role) == seating.roles.end()) {
      seating.roles.push_back(role);
    }
  }
  seating.talks = speaks > 1;
  // Equal weights are no weights.
  std::set<double> weights;
  for (const int32_t seat : answerers) weights.insert(seating.spec.members[static_cast<size_t>(seat)].weight);
  seating.reads_weights = seating.reads_weights && weights.size() > 1;
  seating.members = InOrder(members, seating.spec);
  seating.answerers = InOrder(answerers, seating.spec);
  orchestrator::CostInputs inputs;
  inputs.binding = seating.spec.binding;
  inputs.input_bytes = input_bytes;
  for (const auto& member : seating.spec.members) inputs.members.push_back(member.cost);
  auto bound = orchestrator::BoundCost(*seating.graph, inputs);
  if (!bound.ok()) return Annotate(bound.status(), fmt::format("arm \"{}\"", arm));
  seating.bound = *std::move(bound);
  return seating;
}

absl::StatusOr<Seating> Seat(const std::string& arm, const deliberation::v1::RunRequest& request,
                             const orchestrator::LoadedFleet& fleet, orchestrator::GraphLibrary& library,
                             int64_t input_bytes) {
  auto graph = library.Find(request.graph_name());
  if (!graph.ok()) return Annotate(graph.status(), fmt::format("arm \"{}\"", arm));
  return Seat(arm, *std::move(graph), request, fleet, input_bytes);
}

int64_t LongestQuestion(const Plan& plan) {
  size_t longest = 0;
  for (size_t item = 0; item < plan.items.size(); ++item) {
    const benchmark::Item& it = plan.items[item];
    size_t bytes = it.question.size();
    for (const std::string& choice : it.choices) bytes += choice.size() + 4;
    longest = std::max(longest, bytes);
  }
  return static_cast<int64_t>(longest);
}

}  // namespace conclave::experiment
