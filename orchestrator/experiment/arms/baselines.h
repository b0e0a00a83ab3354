// SPDX-License-Identifier: Apache-2.0
// The arms that belong beside every arm of several members, added without being asked for: specs/evaluation.md §3
// ("Arms that must exist").
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/arms/ensemble.h"
#include "orchestrator/experiment/experiment_file.h"

namespace conclave::experiment {

// A self-consistency curve has this many samples at most (the most that a node of a graph may ask for).
inline constexpr int32_t kCurveSamplesMax = 64;
// Arms that may be added.
inline constexpr size_t kGeneratedArmsMax = 512;

// An arm to add.
struct GeneratedArm {
  deliberation::v1::Arm arm;  // `graph` is a shipped graph's name, or the folder under the run directory's graphs/
  std::shared_ptr<const orchestrator::CompiledGraph> graph;  // set where it is in no file yet
  Seating seating;
};

struct Baselines {
  std::vector<deliberation::v1::Baseline> records;  // per ensemble arm, in its kinds' order
  std::vector<GeneratedArm> arms;
};

// What can be said before anything runs: all but the two curves, which `curves` then holds as records without an arm.
// An arm that is declared already, or was generated for another, is not added again: the record names it. What cannot
// be made has a record that says why. `experiment` has its declared arms only. Deterministic.
absl::StatusOr<Baselines> MakeBaselines(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet,
                                        orchestrator::GraphLibrary& library);

// The curves, once it is known what arms cost per question: of the best member and of each rival as many samples as the
// dearest arm that needs the curve costs, rounded up, from 2 to kCurveSamplesMax, and no more than a recording has. One
// curve per member serves all arms; a declared arm of self_consistency with as many samples serves, too. `cost` has the
// mean cost of arms by name, in the unit of the experiment's match; where it is 0 or not known the arm's bound of calls
// decides. Extends `baselines`, which MakeBaselines made of the same experiment.
absl::Status AddCurves(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet,
                       orchestrator::GraphLibrary& library, const std::map<std::string, double>& cost,
                       Baselines* baselines);

// Puts generated arms, their contrasts and all records into the experiment, file and plan. `graphs` is the directory
// whose folders hold the graphs that are in no other file (WriteGraphs).
void AddTo(const Baselines& baselines, const std::string& graphs, LoadedExperiment* experiment);

// Writes the graphs that are in no file, each with its roles: graphs/NAME/NAME.textproto and graphs/NAME/roles.
absl::Status WriteGraphs(const Baselines& baselines, const std::string& graphs);

}  // namespace conclave::experiment
