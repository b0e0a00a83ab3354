// SPDX-License-Identifier: Apache-2.0
// `conclave report`: writes report.html of a run directory from what is stored.
#include "orchestrator/experiment/report/report.h"

#include <cstdio>
#include <filesystem>

#include "cli/command.h"
#include "common/status.h"
#include "orchestrator/experiment/analyse.h"

namespace conclave::cli {
namespace {

absl::StatusOr<std::string> Write(const std::string& directory, bool anew) {
  if (!anew && std::filesystem::exists(directory + "/summary.json")) return report::WriteReport(directory);
  ASSIGN_OR_RETURN(const auto rows, experiment::AnalyseDirectory(directory));
  return report::WriteReport(directory, rows);
}

}  // namespace

void AddReport(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("report", "Write report.html of a run directory; no inference");
  command->footer(
      "Example: conclave report runs/gsm8k\n"
      "A folder with nothing but outcomes.jsonl, of any harness, is enough: what is missing is computed from it.");
  auto directory = std::make_shared<std::string>();
  auto anew = std::make_shared<bool>(false);
  command->add_option("DIR", *directory, "The run directory")->required();
  command->add_flag("--anew", *anew, "Compute summary.json again from outcomes.jsonl and votes.jsonl");
  command->callback([=] {
    chosen->action = [=]() -> int {
      const auto path = Write(*directory, *anew);
      if (!path.ok()) return Report(path.status());
      std::printf("%s\n", path->c_str());
      return kOk;
    };
  });
}

}  // namespace conclave::cli
