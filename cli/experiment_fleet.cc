// SPDX-License-Identifier: Apache-2.0
#include "cli/experiment_fleet.h"

#include <string>

#include "cli/engine_flags.h"

namespace conclave::cli {
namespace {

std::string Home() { return ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1); }

}  // namespace

absl::StatusOr<orchestrator::LoadedFleet> FleetOf(const experiment::LoadedExperiment& loaded) {
  if (!loaded.fleet_path.empty()) return orchestrator::LoadFleet(loaded.fleet_path, Home());
  return orchestrator::CheckFleet(loaded.file.fleet(), loaded.path, loaded.directory, Home());
}

void AddPrices(const orchestrator::LoadedFleet& fleet, experiment::Plan* plan) {
  for (const auto& member : fleet.fleet.member()) {
    if (member.card().has_price()) plan->prices[member.name()] = member.card().price();
  }
}

void AddKnownPrices(experiment::LoadedExperiment* loaded) {
  if (const auto fleet = FleetOf(*loaded); fleet.ok()) AddPrices(*fleet, &loaded->plan);
}

}  // namespace conclave::cli
