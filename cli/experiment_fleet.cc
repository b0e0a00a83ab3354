// SPDX-License-Identifier: Apache-2.0
#include "cli/experiment_fleet.h"

#include <fmt/format.h>

#include <map>
#include <string>

#include "cli/engine_flags.h"
#include "common/status.h"
#include "engine/engine.h"

namespace conclave::cli {
namespace {

std::string Home() { return ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1); }

}  // namespace

absl::StatusOr<orchestrator::LoadedFleet> FleetOf(const experiment::LoadedExperiment& loaded) {
  if (!loaded.fleet_path.empty()) return orchestrator::LoadFleet(loaded.fleet_path, Home());
  return orchestrator::CheckFleet(loaded.file.fleet(), loaded.path, loaded.directory, Home());
}

void LookIntoModels(orchestrator::LoadedFleet* fleet) {
  std::map<std::string, absl::StatusOr<engine::ModelInfo>> seen;  // members share files
  for (const auto& member : fleet->fleet.member()) {
    if (!member.has_model() || member.has_card()) continue;
    const auto [it, fresh] = seen.try_emplace(member.model().path());
    if (fresh) it->second = engine::PlanModel(it->first);
    if (!it->second.ok()) {
      if (fresh) {
        fmt::print(stderr, "note: what member \"{}\" costs is not known: {}\n", member.name(),
                   Message(it->second.status()));
      }
      continue;
    }
    const engine::ModelInfo& info = *it->second;
    inference::v1::Model& model = fleet->models[member.name()];
    model.set_total_parameter_count(info.params_total);
    model.set_active_parameter_count(info.params_active);
    model.set_weight_bytes_per_token(info.weight_bytes_per_token);
    model.set_kv_bytes_per_token(info.kv_bytes_per_token);
    model.set_flops_per_token(info.flops_per_token);
    model.set_output_head_flops_per_token(info.head_flops_per_token);
    model.set_attention_flops_per_token_and_position(info.attention_flops_per_token_and_position);
  }
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
