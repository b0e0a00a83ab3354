// SPDX-License-Identifier: Apache-2.0
// `conclave merge`: the run directories of an experiment's shards become one.
#include <fmt/format.h>

#include <filesystem>
#include <functional>

#include "absl/strings/str_replace.h"
#include "cli/command.h"
#include "cli/experiment_fleet.h"
#include "cli/run_directory.h"
#include "cli/session.h"
#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/report/report.h"
#include "orchestrator/run/copy_runs.h"
#include "orchestrator/run/stored_run.h"
#include "orchestrator/store/sqlite_store.h"

namespace conclave::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Part {
  std::string directory;
  Json manifest;
  experiment::LoadOptions options;
};

// The manifest, but for which shard it is.
Json WithoutShard(Json manifest) {
  if (manifest.contains("options") && manifest["options"].is_object()) manifest["options"].erase("shard");
  return manifest;
}

absl::StatusOr<std::vector<Part>> ReadParts(const std::vector<std::string>& directories) {
  std::vector<Part> parts;
  std::vector<experiment::Shard> shards;
  for (const std::string& directory : directories) {
    Part& part = parts.emplace_back();
    part.directory = directory;
    ASSIGN_OR_RETURN(part.manifest, ReadManifest(directory));
    ASSIGN_OR_RETURN(part.options, OptionsOf(directory));
    shards.push_back(part.options.shard);
    RETURN_IF_ERROR(
        CheckSameExperiment(WithoutShard(parts[0].manifest), WithoutShard(part.manifest),
                            fmt::format("{} and {} are not shards of one experiment", parts[0].directory, directory)));
  }
  RETURN_IF_ERROR(experiment::CheckComplete(shards, directories));
  return parts;
}

// The finished runs of a part, into the store of the whole.
absl::Status CopyPart(const Part& part, orchestrator::Store* to) {
  ASSIGN_OR_RETURN(const auto loaded,
                   experiment::LoadExperiment(part.directory + "/experiment.textproto", part.options));
  std::vector<orchestrator::AskedRequest> asked;
  for (size_t arm = 0; arm < loaded.plan.arms.size(); ++arm) {
    for (size_t item = 0; item < loaded.plan.items.size(); ++item) {
      for (int32_t replicate = 0; replicate < loaded.plan.declaration.replicates; ++replicate) {
        const auto request = RequestFor(loaded.plan, {arm, item, replicate});
        asked.push_back({request.request_id(), orchestrator::RequestHash(request)});
      }
    }
  }
  const std::string path = part.directory + "/store.sqlite";
  if (!std::filesystem::exists(path)) return NotFound("{}: no such file", path);
  orchestrator::SqliteOptions options;
  options.path = path;
  ASSIGN_OR_RETURN(const auto from, orchestrator::OpenSqliteStore(options));
  absl::Status copied = orchestrator::CopyFinishedRuns(*from, asked, to);
  if (!absl::IsFailedPrecondition(copied)) return copied;
  return FailedPrecondition("{}: is not finished ({}); go on with it by --resume --shard {}/{}", part.directory,
                            Message(copied), part.options.shard.index, part.options.shard.count);
}

// Graphs that were made for the arms lie in the part, which may go. Returns what names them in a text where they are
// now.
absl::StatusOr<std::function<std::string(std::string)>> TakeGraphs(const std::string& part, const std::string& out) {
  namespace fs = std::filesystem;
  const std::string from = (fs::absolute(part) / "graphs").lexically_normal().string();
  const std::string to = (fs::absolute(out) / "graphs").lexically_normal().string();
  std::error_code error;
  if (fs::exists(from)) fs::copy(from, to, fs::copy_options::recursive, error);
  if (error) return Internal("{}: cannot be copied to {}: {}", from, to, error.message());
  return [from, to](std::string text) { return absl::StrReplaceAll(text, {{from + "/", to + "/"}}); };
}

absl::Status Merge(const std::vector<std::string>& directories, const std::string& out) {
  if (std::filesystem::exists(out)) return AlreadyExists("{}: is there already; name another --out", out);
  ASSIGN_OR_RETURN(const std::vector<Part> parts, ReadParts(directories));
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) return Internal("{}: cannot be created: {}", out, error.message());
  {
    orchestrator::SqliteOptions options;
    options.path = out + "/store.sqlite";
    ASSIGN_OR_RETURN(const auto store, orchestrator::OpenSqliteStore(options));
    for (const Part& part : parts) RETURN_IF_ERROR(CopyPart(part, store.get()));
  }
  ASSIGN_OR_RETURN(const auto here, TakeGraphs(parts[0].directory, out));
  ASSIGN_OR_RETURN(const std::string file, ReadFile(parts[0].directory + "/experiment.textproto"));
  RETURN_IF_ERROR(WriteFileAtomically(out + "/experiment.textproto", here(file)));
  Json manifest = parts[0].manifest;
  for (Json& arm : manifest["arms"]) arm["graph"] = here(arm["graph"].get<std::string>());
  experiment::LoadOptions options = parts[0].options;
  options.shard = {};
  manifest["options"] = OptionsJson(options);
  manifest["merged_from"] = parts.size();
  RETURN_IF_ERROR(WriteFileAtomically(out + "/manifest.json", manifest.dump(2) + "\n"));
  ASSIGN_OR_RETURN(auto loaded, experiment::LoadExperiment(out + "/experiment.textproto", options));
  AddKnownPrices(&loaded);
  SessionFlags flags;
  flags.store = out + "/store.sqlite";
  ASSIGN_OR_RETURN(const auto session, Session::OpenStored(flags));
  RETURN_IF_ERROR(ExportAnnotated(loaded.plan, session->deliberator(), out));
  ASSIGN_OR_RETURN(const std::string report, report::WriteReport(out));
  fmt::print("{}\n", report);
  return absl::OkStatus();
}

}  // namespace

void AddMerge(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("merge", "Run directories of all shards of an experiment as one");
  command->footer(
      "Example: conclave merge runs/part-1 runs/part-2 runs/part-3 --out runs/whole\n"
      "The parts are made by `conclave experiment FILE --shard i/n`, one i each. A missing, doubled or unfinished "
      "shard, and\n"
      "manifests that differ, are refused. The result is a run directory like any other.");
  auto directories = std::make_shared<std::vector<std::string>>();
  auto out = std::make_shared<std::string>();
  command->add_option("DIR", *directories, "Run directories, all shards in any order")->required();
  command->add_option("--out", *out, "Run directory of the whole; must not exist")->required();
  command->callback([=] { chosen->action = [=] { return Report(Merge(*directories, *out)); }; });
}

}  // namespace conclave::cli
