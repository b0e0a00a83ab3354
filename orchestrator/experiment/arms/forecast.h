// SPDX-License-Identifier: Apache-2.0
// What an experiment will cost at most and what its design can find, before any of it is spent.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/arms/baselines.h"

namespace conclave::experiment {

struct ArmForecast {
  std::string name, graph;
  bool generated = false;
  int64_t runs = 0;  // items x replicates
  // Of all runs: calls and output tokens bounded, prompt tokens estimated, FLOPs bounded where all members' costs are
  // known. As doubles: a plan may be beyond 2^63.
  double calls = 0, output_tokens = 0, prompt_tokens = 0;
  std::optional<double> flops;
};

// What the design of a contrast can tell.
struct PowerForecast {
  std::string a, b;
  bool primary = false;
  double margin = 0;
  size_t items = 0;
  int32_t replicates = 1;
  size_t clusters = 0;
  double discordance = 0;  // assumed
  double mde80 = 0;        // true difference that is found with 80 % power
  double power_at_margin = 0;
  double items_for_margin = 0;       // to find a difference of the margin with 80 % power
  double items_for_equivalence = 0;  // to certify equivalence within the margin with 90 % power, if nothing differs
};

struct Forecast {
  std::vector<ArmForecast> arms;
  std::vector<PowerForecast> power;   // of declared contrasts
  std::vector<std::string> warnings;  // where the design cannot answer
};

// `experiment` with all its arms in the plan; `baselines` gives the seats of those that are in no file yet.
absl::StatusOr<Forecast> MakeForecast(const LoadedExperiment& experiment, const Baselines& baselines,
                                      const orchestrator::LoadedFleet& fleet, orchestrator::GraphLibrary& library);

nlohmann::ordered_json ToJson(const Forecast& forecast, const LoadedExperiment& experiment);
// The same as lines of text.
std::string ToText(const Forecast& forecast, const LoadedExperiment& experiment);

}  // namespace conclave::experiment
