// SPDX-License-Identifier: Apache-2.0
// An arm as it will run: its graph compiled, its seats filled, its cost bounded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/experiment_file.h"
#include "orchestrator/fleet/fleet_file.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/graph/cost_bound.h"

namespace conclave::experiment {

// What an arm comes to with a fleet.
struct Seating {
  std::shared_ptr<const orchestrator::CompiledGraph> graph;
  orchestrator::RunSpec spec;          // binding, costs as cards say
  std::vector<std::string> members;    // who speaks or judges anywhere, in the fleet's order
  std::vector<std::string> answerers;  // who speaks where answers are read
  std::vector<std::string> roles;      // in the order of the graph's nodes, each once
  bool reads_weights = false;         // some weight is member.weight, or the default, and those who answer differ in it
  bool talks = false;                 // more happens than answering side by side and counting
  deliberation::v1::CostBound bound;  // of one run with questions of `input_bytes`
  bool IsEnsemble() const { return members.size() > 1; }
};

// Whether the node's members give answers that can be graded.
bool Answers(const orchestrator::CompiledNode& node);

// INVALID_ARGUMENT, NOT_FOUND: as GraphLibrary::Find and BuildRunSpec, with the arm's name.
absl::StatusOr<Seating> Seat(const std::string& arm, const deliberation::v1::RunRequest& request,
                             const orchestrator::LoadedFleet& fleet, orchestrator::GraphLibrary& library,
                             int64_t input_bytes);
// The same for a graph that is in no file yet.
absl::StatusOr<Seating> Seat(const std::string& arm, std::shared_ptr<const orchestrator::CompiledGraph> graph,
                             const deliberation::v1::RunRequest& request, const orchestrator::LoadedFleet& fleet,
                             int64_t input_bytes);

// Bytes of the longest question as members see it.
int64_t LongestQuestion(const Plan& plan);

}  // namespace conclave::experiment
