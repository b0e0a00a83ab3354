// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/status.h"
#include "orchestrator/experiment/stats/estimate.h"
#include "orchestrator/experiment/stats/hypothesis.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

PowerForecast PowerOf(const ContrastSpec& contrast, const Plan& plan) {
  PowerForecast power;
  power.a = contrast.a, power.b = contrast.b, power.primary = contrast.primary, power.margin = contrast.margin;
  power.items = plan.items.size();
  power.replicates = plan.declaration.replicates;
  std::set<std::string> clusters;
  size_t own = 0;
  for (const benchmark::Item& item : plan.items) {
    if (item.cluster.empty()) ++own;
    if (!item.cluster.empty()) clusters.insert(item.cluster);
  }
  power.clusters = own + clusters.size();
  power.discordance = contrast.discordance;
  // One answer each, independent questions: with replicates it is no worse, with clusters no better.
  const double q = contrast.discordance;
  power.mde80 = stats::MinimumDetectable(q, std::max<size_t>(1, power.items));
  power.power_at_margin =
      stats::Power(contrast.margin, std::sqrt(q / static_cast<double>(std::max<size_t>(1, power.items))));
  power.items_for_margin = stats::QuestionsNeeded(q, contrast.margin);
  power.items_for_equivalence = stats::QuestionsForEquivalence(q, contrast.margin);
  return power;
}

void AddWarnings(const PowerForecast& power, std::vector<std::string>* warnings) {
  if (power.mde80 > power.margin) {
    warnings->push_back(fmt::format(
        "{} - {}: this design cannot answer: if they differ on {:.0f} % of questions, {} questions find a true "
        "difference "
        "of {:.1f} points with 80 % power, and one of the margin, {:.1f}, with {:.0f} %; that takes {:.0f} questions, "
        "and "
        "equivalence within the margin {:.0f}",
        power.a, power.b, 100 * power.discordance, power.items, 100 * power.mde80, 100 * power.margin,
        100 * power.power_at_margin, std::ceil(power.items_for_margin), std::ceil(power.items_for_equivalence)));
  }
  if (power.clusters < power.items) {
    warnings->push_back(
        fmt::format("{} - {}: {} questions come in {} clusters, and are worth fewer independent ones{}", power.a,
                    power.b, power.items, power.clusters,
                    power.clusters < stats::kFewClusters ? "; below 10 clusters no interval is to be believed" : ""));
  }
}

ArmForecast ForecastOf(const ArmPlan& arm, const Seating& seating, double runs) {
  ArmForecast forecast;
  forecast.name = arm.name;
  forecast.graph = seating.graph->name();
  forecast.generated = arm.generated;
  forecast.runs = static_cast<int64_t>(runs);
  forecast.calls = runs * static_cast<double>(seating.bound.calls());
  forecast.output_tokens = runs * static_cast<double>(seating.bound.output_tokens());
  forecast.prompt_tokens = runs * static_cast<double>(seating.bound.prompt_tokens());
  if (seating.bound.has_flops()) forecast.flops = runs * seating.bound.flops();
  return forecast;
}

std::string ForWhat(const Declaration& declaration, const std::string& arm) {
  std::string out;
  for (const BaselineSpec& baseline : declaration.baselines) {
    if (baseline.arm == arm && baseline.of != arm) {
      out += fmt::format("{}{} of {}", out.empty() ? "" : "; ", baseline.kind, baseline.of);
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<Forecast> MakeForecast(const LoadedExperiment& experiment, const Baselines& baselines,
                                      const orchestrator::LoadedFleet& fleet, orchestrator::GraphLibrary& library) {
  Forecast forecast;
  const Plan& plan = experiment.plan;
  const double runs = static_cast<double>(plan.items.size()) * plan.declaration.replicates;
  const int64_t bytes = LongestQuestion(plan);
  for (const ArmPlan& arm : plan.arms) {
    const auto made = std::find_if(baselines.arms.begin(), baselines.arms.end(),
                                   [&](const GeneratedArm& generated) { return generated.arm.name() == arm.name; });
    if (made != baselines.arms.end()) {
      forecast.arms.push_back(ForecastOf(arm, made->seating, runs));
      continue;
    }
    ASSIGN_OR_RETURN(const Seating seating, Seat(arm.name, arm.request, fleet, library, bytes));
    forecast.arms.push_back(ForecastOf(arm, seating, runs));
  }
  for (const ContrastSpec& contrast : plan.declaration.contrasts) {
    if (contrast.generated) continue;
    forecast.power.push_back(PowerOf(contrast, plan));
    if (contrast.primary) AddWarnings(forecast.power.back(), &forecast.warnings);
  }
  return forecast;
}

Json ToJson(const Forecast& forecast, const LoadedExperiment& experiment) {
  const Declaration& d = experiment.plan.declaration;
  Json json = {{"items", experiment.plan.items.size()},
               {"replicates", d.replicates},
               {"baselines", d.baselines_added},
               {"arms", Json::array()},
               {"not_added", Json::array()},
               {"contrasts", Json::array()},
               {"warnings", forecast.warnings}};
  for (const ArmForecast& arm : forecast.arms) {
    json["arms"].push_back({{"name", arm.name},
                            {"graph", arm.graph},
                            {"generated", arm.generated},
                            {"for", ForWhat(d, arm.name)},
                            {"runs", arm.runs},
                            {"calls", arm.calls},
                            {"output_tokens", arm.output_tokens},
                            {"prompt_tokens", arm.prompt_tokens},
                            {"flops", arm.flops ? Json(*arm.flops) : Json()}});
  }
  for (const BaselineSpec& baseline : d.baselines) {
    if (baseline.why_not.empty()) continue;
    json["not_added"].push_back(
        {{"of", baseline.of}, {"kind", baseline.kind}, {"subject", baseline.subject}, {"why_not", baseline.why_not}});
  }
  for (const PowerForecast& p : forecast.power) {
    json["contrasts"].push_back({{"a", p.a},
                                 {"b", p.b},
                                 {"primary", p.primary},
                                 {"margin", p.margin},
                                 {"items", p.items},
                                 {"clusters", p.clusters},
                                 {"discordance", p.discordance},
                                 {"mde80", p.mde80},
                                 {"power_at_margin", p.power_at_margin},
                                 {"items_for_margin", p.items_for_margin},
                                 {"items_for_equivalence", p.items_for_equivalence}});
  }
  return json;
}

std::string ToText(const Forecast& forecast, const LoadedExperiment& experiment) {
  const Declaration& d = experiment.plan.declaration;
  std::string out = fmt::format("{}: {} questions x {} replicates\n\n{:<40} {:>9} {:>12} {:>13} {:>14} {:>11}\n",
                                d.name, experiment.plan.items.size(), d.replicates, "arm (+: added)", "runs",
                                "calls <=", "output <=", "prompt, about", "FLOP <=");
  double calls = 0, output = 0, prompt = 0, flops = 0;
  bool all_known = true;
  for (const ArmForecast& arm : forecast.arms) {
    out += fmt::format("{:<40} {:>9} {:>12.0f} {:>13.0f} {:>14.0f} {:>11}\n", (arm.generated ? "+ " : "  ") + arm.name,
                       arm.runs, arm.calls, arm.output_tokens, arm.prompt_tokens,
                       arm.flops ? fmt::format("{:.3g}", *arm.flops) : "unknown");
    calls += arm.calls, output += arm.output_tokens, prompt += arm.prompt_tokens, flops += arm.flops.value_or(0);
    all_known = all_known && arm.flops;
  }
  out += fmt::format("{:<40} {:>9} {:>12.0f} {:>13.0f} {:>14.0f} {:>11}\n", "  all", "", calls, output, prompt,
                     all_known ? fmt::format("{:.3g}", flops) : "unknown");
  if (!d.baselines_added) out += "\nno baselines are added, as asked for\n";
  for (const BaselineSpec& baseline : d.baselines) {
    if (baseline.why_not.empty()) continue;
    out += fmt::format("not added: {} of {}{}: {}\n", baseline.kind, baseline.of,
                       baseline.subject.empty() ? "" : " (" + baseline.subject + ")", baseline.why_not);
  }
  out += "\n";
  for (const PowerForecast& p : forecast.power) {
    out += fmt::format("{}{} - {}: finds {:.1f} points with 80 % power, if they differ on {:.0f} % of questions\n",
                       p.primary ? "primary: " : "", p.a, p.b, 100 * p.mde80, 100 * p.discordance);
  }
  for (const std::string& warning : forecast.warnings) out += fmt::format("warning: {}\n", warning);
  return out;
}

}  // namespace conclave::experiment
