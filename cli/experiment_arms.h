// SPDX-License-Identifier: Apache-2.0
// The arms of `conclave experiment`: what is added to those declared, before the run and once costs are known.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/arms/baselines.h"
#include "orchestrator/experiment/experiment_file.h"

namespace conclave::cli {

// The arms of one run directory.
class ExperimentArms {
 public:
  // How long self-consistency curves are, by member; members that are not named make as many calls as the arm at most.
  using CurveSizes = std::map<std::string, int32_t>;

  // Checks what was chosen (CheckChoices) and makes baselines, unless `add` is false; nothing is written. `directory`
  // is the run directory, or "" for a dry run. With `sizes` the curves are there from the beginning, else after
  // AddCurves.
  static absl::StatusOr<ExperimentArms> Make(experiment::LoadedExperiment declared, orchestrator::LoadedFleet fleet,
                                             const std::string& graphs, const std::string& directory, bool add,
                                             const std::optional<CurveSizes>& sizes);

  // All arms so far.
  const experiment::LoadedExperiment& experiment() const { return experiment_; }
  // Without those that were added.
  const experiment::LoadedExperiment& declared() const { return declared_; }
  orchestrator::GraphLibrary& library() { return *library_; }

  // Prints bounds and power, `curves` also those that the bounds suggest. On stdout; warnings of the design alone on
  // stderr where `whole` is false.
  absl::Status Print(bool whole, bool json);

  // Writes graphs of added arms to the run directory.
  absl::Status WriteGraphs() const;
  // Takes arms and records that an earlier sitting has kept in the run directory's experiment, if their curves are
  // known.
  absl::Status TakeKept(const experiment::LoadedExperiment& kept);
  // Adds the self-consistency curves for what the finished runs cost, and writes their graphs. False: nothing was
  // added.
  absl::StatusOr<bool> AddCurves(experiment::Deliberator& deliberator);
  // Of the curves that were added so far.
  CurveSizes Curves() const;

 private:
  ExperimentArms() = default;
  experiment::LoadedExperiment declared_, experiment_;
  orchestrator::LoadedFleet fleet_;
  std::unique_ptr<orchestrator::GraphLibrary> library_;
  experiment::Baselines baselines_;
  std::string graphs_;  // of the run directory
  bool adds_ = false, curves_done_ = false;
};

}  // namespace conclave::cli
