// SPDX-License-Identifier: Apache-2.0
// `conclave regrade`: the stored texts of a run directory are graded again; no inference.
#include <fmt/format.h>

#include <map>
#include <tuple>

#include "cli/command.h"
#include "cli/experiment_fleet.h"
#include "cli/run_directory.h"
#include "cli/session.h"
#include "common/status.h"
#include "orchestrator/experiment/report/report.h"

namespace conclave::cli {
namespace {

// Rows of two outcomes files that differ in their verdict.
void PrintChanges(const std::vector<experiment::Outcome>& before, const std::vector<experiment::Outcome>& after) {
  std::map<std::tuple<std::string, std::string, int32_t>, const experiment::Outcome*> old;
  for (const auto& row : before) old[{row.arm, row.id, row.replicate}] = &row;
  int64_t changed = 0;
  for (const auto& row : after) {
    const auto it = old.find({row.arm, row.id, row.replicate});
    if (it == old.end() || (it->second->kind == row.kind && it->second->answer == row.answer)) continue;
    ++changed;
    fmt::print("{} {} replicate {}: {} ({}) -> {} ({})\n", row.arm, row.id, row.replicate,
               grade::OutcomeName(it->second->kind), it->second->answer, grade::OutcomeName(row.kind), row.answer);
  }
  fmt::print("{} of {} verdicts changed\n", changed, after.size());
}

absl::Status Regrade(const std::string& directory, SessionFlags flags) {
  const auto before = experiment::ReadOutcomes(directory + "/outcomes.jsonl", "");
  ASSIGN_OR_RETURN(const experiment::LoadOptions options, OptionsOf(directory));
  ASSIGN_OR_RETURN(auto loaded, experiment::LoadExperiment(directory + "/experiment.textproto", options));
  AddKnownPrices(&loaded);
  flags.store = directory + "/store.sqlite";
  ASSIGN_OR_RETURN(auto session, Session::OpenStored(flags));
  RETURN_IF_ERROR(ExportAnnotated(loaded.plan, session->deliberator(), directory));
  RETURN_IF_ERROR(report::WriteReport(directory).status());
  ASSIGN_OR_RETURN(const auto after, experiment::ReadOutcomes(directory + "/outcomes.jsonl", ""));
  PrintChanges(before.ok() ? *before : std::vector<experiment::Outcome>(), after);
  return absl::OkStatus();
}

}  // namespace

void AddRegrade(CLI::App* app, Chosen* chosen) {
  auto* command =
      app->add_subcommand("regrade", "Grade the stored texts of a run directory again, and say what changed");
  command->footer("Example: conclave regrade runs/gsm8k");
  auto directory = std::make_shared<std::string>();
  command->add_option("DIR", *directory, "The run directory")->required();
  command->callback([=] { chosen->action = [=] { return Report(Regrade(*directory, {})); }; });
}

}  // namespace conclave::cli
