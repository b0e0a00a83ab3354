// SPDX-License-Identifier: Apache-2.0
// `conclave import`: results of other harnesses become a run directory with a report.
#include "orchestrator/experiment/import.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "cli/command.h"
#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/analyse.h"
#include "orchestrator/experiment/report/report.h"

namespace conclave::cli {
namespace {

struct Arguments {
  std::vector<std::string> files;
  std::string out, cluster = "cluster";
};

// Each file is an arm, named after it where it names none itself.
absl::Status Import(const Arguments& a) {
  if (std::filesystem::exists(a.out + "/outcomes.jsonl")) {
    return AlreadyExists("{}: holds outcomes already; name another --out", a.out);
  }
  std::string outcomes, items, transcripts;
  std::set<std::string> arms, seen;
  for (const std::string& file : a.files) {
    ASSIGN_OR_RETURN(const auto imported,
                     experiment::ImportOutcomes(file, std::filesystem::path(file).stem().string(), a.cluster));
    std::set<std::string> own;
    for (const auto& row : imported.rows) {
      own.insert(row.arm);
      outcomes += ToJsonLine(row) + "\n";
    }
    for (const std::string& arm : own) {
      if (!arms.insert(arm).second) return InvalidArgument("{}: arm \"{}\" is in a file before, too", file, arm);
    }
    for (const std::string& item : imported.items) {
      if (seen.insert(item).second) items += item + "\n";
    }
    for (const std::string& line : imported.transcripts) transcripts += line + "\n";
  }
  std::error_code error;
  std::filesystem::create_directories(a.out, error);
  if (error) return Internal("{}: cannot be created: {}", a.out, error.message());
  RETURN_IF_ERROR(WriteFileAtomically(a.out + "/outcomes.jsonl", outcomes));
  if (!items.empty()) RETURN_IF_ERROR(WriteFileAtomically(a.out + "/items.jsonl", items));
  if (!transcripts.empty()) RETURN_IF_ERROR(WriteFileAtomically(a.out + "/transcripts.jsonl", transcripts));
  ASSIGN_OR_RETURN(const auto rows, experiment::AnalyseDirectory(a.out));
  ASSIGN_OR_RETURN(const std::string report, report::WriteReport(a.out, rows));
  fmt::print("{}\n", report);
  return absl::OkStatus();
}

}  // namespace

void AddImport(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("import", "Results of other harnesses as a run directory with a report");
  command->footer(
      "Example: conclave import samples_gsm8k_a.jsonl samples_gsm8k_b.jsonl --out runs/compared\n"
      "Reads lm-evaluation-harness samples (--log_samples), Inspect logs (.eval or JSON), and outcome files of any "
      "harness; "
      "every\n"
      "arm is compared with the last one. `compare` reads the same files.");
  auto a = std::make_shared<Arguments>();
  command->add_option("FILE", a->files, "Files, one arm each")->required();
  command->add_option("--out", a->out, "Run directory")->required();
  command->add_option("--cluster", a->cluster, "Field that names an item's cluster")->capture_default_str();
  command->callback([=] { chosen->action = [=] { return Report(Import(*a)); }; });
}

}  // namespace conclave::cli
