// SPDX-License-Identifier: Apache-2.0
// The members of an experiment, and what they cost.
#pragma once

#include "absl/status/statusor.h"
#include "orchestrator/experiment/experiment_file.h"
#include "orchestrator/fleet/fleet_file.h"

namespace conclave::cli {

// The fleet that an experiment names, or holds.
absl::StatusOr<orchestrator::LoadedFleet> FleetOf(const experiment::LoadedExperiment& loaded);

// Looks into the files of models that have no card, without reading weights, so that they have costs before they are
// served. One that cannot be read is named on stderr and stays unknown.
void LookIntoModels(orchestrator::LoadedFleet* fleet);

// What members cost by the list.
void AddPrices(const orchestrator::LoadedFleet& fleet, experiment::Plan* plan);
// The same, where the fleet is still there: one that is gone took its prices with it, and verdicts do not need them.
void AddKnownPrices(experiment::LoadedExperiment* loaded);

}  // namespace conclave::cli
