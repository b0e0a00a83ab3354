// SPDX-License-Identifier: Apache-2.0
// What a run directory keeps of the command that made it.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "cli/command.h"
#include "orchestrator/experiment/experiment_file.h"

namespace conclave::cli {

// --shard i/n.
void AddShardOption(CLI::App* command, experiment::Shard* shard);

// manifest.json, an object. Errors name the file.
absl::StatusOr<nlohmann::ordered_json> ReadManifest(const std::string& directory);

// --limit, --arm and --shard, as manifest.json keeps them under "options".
nlohmann::ordered_json OptionsJson(const experiment::LoadOptions& options);
// Those that the run directory was begun with; none where its manifest is older than they are.
absl::StatusOr<experiment::LoadOptions> OptionsOf(const std::string& directory);

// How long the curves are that were added to the run directory's arms, by member; nullopt where none were yet, or its
// manifest is older than that.
absl::StatusOr<std::optional<std::map<std::string, int32_t>>> CurvesOf(const std::string& directory);

// experiment::Export with the annotations that lie in the directory.
absl::Status ExportAnnotated(const experiment::Plan& plan, experiment::Deliberator& deliberator,
                             const std::string& directory);

// What makes two experiments the same, by name and hash, whatever their files are called: declaration, options, items,
// members, arms' graphs.
nlohmann::ordered_json Identity(const nlohmann::ordered_json& manifest);
// INVALID_ARGUMENT "A and B ..: "members" differs": the first field in which they differ.
absl::Status CheckSameExperiment(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b,
                                 const std::string& what);

// Accuracies and differences of summary.json on stdout, or all of it with --json. Nothing where there is none.
void PrintSummary(const std::string& directory, const Output& output);

// Writes the experiment that `directory`'s manifest holds to `path`.
absl::Status WriteExperimentOf(const std::string& directory, const std::string& path);

}  // namespace conclave::cli
