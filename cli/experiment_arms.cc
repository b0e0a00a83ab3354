// SPDX-License-Identifier: Apache-2.0
#include "cli/experiment_arms.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "cli/session.h"
#include "common/status.h"
#include "orchestrator/experiment/arms/choices.h"
#include "orchestrator/experiment/arms/forecast.h"

namespace conclave::cli {
namespace {

using deliberation::v1::Baseline;

bool IsCurve(const Baseline& record) {
  return record.kind() == Baseline::BEST_MEMBER_CURVE || record.kind() == Baseline::RIVAL_CURVE;
}

// What one run cost in the unit.
double CostIn(deliberation::v1::CostUnit unit, const experiment::Outcome& run) {
  switch (unit) {
    case deliberation::v1::WEIGHT_BYTES:
      return run.weight_bytes;
    case deliberation::v1::TOKENS:
      return run.prompt_tokens - run.cached_tokens + run.output_tokens;
    case deliberation::v1::CALLS:
      return run.calls;
    default:
      // Seconds side by side and prices do not say how many samples to take; work does.
      return run.flops;
  }
}

// Costs by which curves come to these sizes: of every arm 1, of its member once the part that goes as often into it.
std::map<std::string, double> CostsFor(const ExperimentArms::CurveSizes& sizes,
                                       const experiment::Baselines& baselines) {
  std::map<std::string, double> costs;
  for (const Baseline& record : baselines.records) {
    const bool once = record.kind() == Baseline::BEST_MEMBER || record.kind() == Baseline::RIVAL;
    const auto size = sizes.find(record.subject());
    if (!once || size == sizes.end() || size->second < 1) continue;
    costs[record.of()] = 1;
    costs[record.arm()] = 1.0 / size->second;
  }
  return costs;
}

// Mean cost per run of the arms that curves are measured by.
absl::StatusOr<std::map<std::string, double>> MeanCosts(const experiment::LoadedExperiment& experiment,
                                                        const experiment::Baselines& baselines,
                                                        experiment::Deliberator& deliberator) {
  std::set<std::string> needed;
  for (const Baseline& record : baselines.records) {
    if (record.kind() == Baseline::BEST_MEMBER || record.kind() == Baseline::RIVAL) needed.insert(record.arm());
    needed.insert(record.of());
  }
  const experiment::Plan& plan = experiment.plan;
  std::map<std::string, double> costs;
  for (size_t arm = 0; arm < plan.arms.size(); ++arm) {
    if (!needed.contains(plan.arms[arm].name)) continue;
    double sum = 0;
    double runs = 0;
    for (size_t item = 0; item < plan.items.size(); ++item) {
      const experiment::RunKey key{arm, item, 0};
      const auto record = deliberator.Read(experiment::RequestId(plan, key));
      if (absl::IsNotFound(record.status()) || absl::IsFailedPrecondition(record.status())) continue;
      RETURN_IF_ERROR(record.status());
      sum += CostIn(experiment.file.match(), experiment::OutcomeOf(plan, key, *record));
      runs += 1;
    }
    if (runs > 0) costs[plan.arms[arm].name] = sum / runs;
  }
  return costs;
}

}  // namespace

absl::StatusOr<ExperimentArms> ExperimentArms::Make(experiment::LoadedExperiment declared,
                                                    orchestrator::LoadedFleet fleet, const std::string& graphs,
                                                    const std::string& directory, bool add,
                                                    const std::optional<CurveSizes>& sizes) {
  ExperimentArms arms;
  arms.declared_ = std::move(declared);
  arms.fleet_ = std::move(fleet);
  arms.adds_ = add;
  arms.graphs_ =
      directory.empty() ? "graphs" : (std::filesystem::absolute(directory) / "graphs").lexically_normal().string();
  ASSIGN_OR_RETURN(arms.library_, orchestrator::GraphLibrary::Open(graphs.empty() ? DefaultGraphsDirectory() : graphs));
  RETURN_IF_ERROR(experiment::CheckChoices(arms.declared_, arms.fleet_, *arms.library_));
  arms.experiment_ = arms.declared_;
  if (add) {
    ASSIGN_OR_RETURN(arms.baselines_, experiment::MakeBaselines(arms.declared_, arms.fleet_, *arms.library_));
    if (sizes.has_value()) {
      const std::map<std::string, double> costs = CostsFor(*sizes, arms.baselines_);
      RETURN_IF_ERROR(experiment::AddCurves(arms.declared_, arms.fleet_, *arms.library_, costs, &arms.baselines_));
      arms.curves_done_ = true;
    }
    experiment::AddTo(arms.baselines_, arms.graphs_, &arms.experiment_);
  }
  return arms;
}

absl::Status ExperimentArms::Print(bool whole, bool json) {
  ASSIGN_OR_RETURN(const auto forecast, experiment::MakeForecast(experiment_, baselines_, fleet_, *library_));
  if (!whole) {
    // Of a comparison that somebody declared; the default one is nobody's question.
    if (experiment_.file.contrast().empty()) return absl::OkStatus();
    for (const std::string& warning : forecast.warnings) fmt::print(stderr, "warning: {}\n", warning);
  } else if (json) {
    fmt::print("{}\n", experiment::ToJson(forecast, experiment_).dump(2));
  } else {
    fmt::print("{}", experiment::ToText(forecast, experiment_));
  }
  return absl::OkStatus();
}

absl::Status ExperimentArms::WriteGraphs() const { return experiment::WriteGraphs(baselines_, graphs_); }

absl::Status ExperimentArms::TakeKept(const experiment::LoadedExperiment& kept) {
  bool known = kept.file.baseline_size() > 0;
  for (const Baseline& record : kept.file.baseline()) {
    if (IsCurve(record) && record.arm().empty() && record.why_not().empty()) known = false;
  }
  if (!known) return absl::OkStatus();
  // A larger budget is this sitting's; everything else is as it was.
  auto budget = experiment_.file.budget();
  const bool has_budget = experiment_.file.has_budget();
  experiment_.file = kept.file;
  if (has_budget) *experiment_.file.mutable_budget() = std::move(budget);
  if (!has_budget) experiment_.file.clear_budget();
  experiment_.directory = kept.directory;
  experiment::FillArms({}, &experiment_);
  curves_done_ = true;
  return absl::OkStatus();
}

ExperimentArms::CurveSizes ExperimentArms::Curves() const {
  CurveSizes sizes;
  for (const Baseline& record : baselines_.records) {
    if (!IsCurve(record)) continue;
    for (const experiment::GeneratedArm& arm : baselines_.arms) {
      if (arm.arm.name() == record.arm()) sizes[record.subject()] = static_cast<int32_t>(arm.seating.bound.calls());
    }
  }
  return sizes;
}

absl::StatusOr<bool> ExperimentArms::AddCurves(experiment::Deliberator& deliberator) {
  if (!adds_ || curves_done_ || baselines_.records.empty()) return false;
  curves_done_ = true;
  const size_t before = baselines_.arms.size();
  ASSIGN_OR_RETURN(const auto costs, MeanCosts(experiment_, baselines_, deliberator));
  RETURN_IF_ERROR(experiment::AddCurves(declared_, fleet_, *library_, costs, &baselines_));
  experiment::AddTo(baselines_, graphs_, &experiment_);
  RETURN_IF_ERROR(WriteGraphs());
  return baselines_.arms.size() > before;
}

}  // namespace conclave::cli
