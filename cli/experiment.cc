// SPDX-License-Identifier: Apache-2.0
// `conclave experiment`: arms x items x replicates, resumable; and `regrade`, the same without inference.
#include "orchestrator/experiment/experiment_file.h"

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/experiment_arms.h"
#include "cli/experiment_fleet.h"
#include "cli/progress.h"
#include "cli/run_directory.h"
#include "cli/session.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/experiment/analyse.h"
#include "orchestrator/experiment/report/report.h"
#include "orchestrator/fleet/run_builder.h"
#include "protos/textproto.h"

namespace conclave::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string file, out;
  std::string manifest;  // directory of the manifest to repeat; instead of a file
  bool resume = false, no_baselines = false, dry_run = false;
  experiment::LoadOptions load;
  SessionFlags session;
  Output output;
};

// SHA-256 of a file, or null where it cannot be read whole (a remote worker's model, say).
Json FileHash(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {  // of a checkpoint: its files by name
    std::map<std::string, std::string> files;
    for (auto it = std::filesystem::directory_iterator(path, error);
         !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
      std::error_code gone;
      if (it->is_regular_file(gone)) files[it->path().filename().string()] = FileHash(it->path().string()).dump();
    }
    return error ? Json() : Json(Sha256Hex(Json(files).dump()));
  }
  const auto hash = HashFile(path);
  return hash.ok() ? Json(*hash) : Json();
}

// By arm: the hash of its graph together with the roles it uses.
absl::StatusOr<Json> GraphHashes(ExperimentArms& arms) {
  Json hashes = Json::object();
  for (const auto& arm : arms.experiment().plan.arms) {
    ASSIGN_OR_RETURN(const auto graph, arms.library().Find(arm.request.graph_name()));
    hashes[arm.name] = Sha256Hex(graph->canonical());
  }
  return hashes;
}

// Half an arm by one graph and half by another is no arm.
absl::Status CheckSameGraphs(const std::string& manifest_path, const Json& hashes) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(manifest_path));
  const Json manifest = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("arms")) return InvalidArgument("{}: is no manifest", manifest_path);
  for (const Json& arm : manifest["arms"]) {
    const std::string name = arm.value("name", "");
    if (!arm.contains("graph_sha256") || !hashes.contains(name) || arm["graph_sha256"] == hashes[name]) continue;
    return FailedPrecondition(
        "{}: arm \"{}\": its graph \"{}\" or one of its roles has changed since; a resumed experiment must be the same "
        "one, so begin again in another --out",
        manifest_path, name, arm.value("graph", ""));
  }
  return absl::OkStatus();
}

// The experiment with every path absolute, so that the run directory can be graded again from anywhere.
std::string AbsoluteCopy(const experiment::LoadedExperiment& loaded) {
  auto copy = loaded.file;
  const auto absolute = [](const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
  };
  if (!loaded.fleet_path.empty()) copy.set_fleet_path(absolute(loaded.fleet_path));
  if (!loaded.benchmark_path.empty()) copy.mutable_benchmark()->set_path(absolute(loaded.benchmark_path));
  if (copy.benchmark().has_examples()) {
    auto* path = copy.mutable_benchmark()->mutable_examples()->mutable_path();
    *path = absolute(experiment::RelativeTo(loaded.directory, *path));
  }
  const auto beside = [&](std::string* path) {
    if (!path->empty() && !path->starts_with("~/")) *path = absolute(experiment::RelativeTo(loaded.directory, *path));
  };
  for (auto& member : *copy.mutable_fleet()->mutable_member()) {
    if (member.has_model()) beside(member.mutable_model()->mutable_path());
    if (member.has_recorded()) beside(member.mutable_recorded()->mutable_path());
    if (member.has_openai()) beside(member.mutable_openai()->mutable_authorities());
    if (member.has_development()) beside(member.mutable_development()->mutable_path());
  }
  if (copy.fleet().has_worker_tls()) {
    auto* tls = copy.mutable_fleet()->mutable_worker_tls();
    for (std::string* path : {tls->mutable_authorities(), tls->mutable_certificate(), tls->mutable_key()}) beside(path);
  }
  if (!loaded.file.has_fleet()) copy.clear_fleet();
  for (auto& choice : *copy.mutable_chosen()) beside(choice.mutable_path());
  for (auto& arm : *copy.mutable_arm()) {
    const bool is_path = arm.graph().find('/') != std::string::npos || arm.graph().ends_with(".textproto");
    if (is_path) arm.set_graph(absolute(experiment::RelativeTo(loaded.directory, arm.graph())));
  }
  std::string text;
  google::protobuf::TextFormat::PrintToString(copy, &text);
  return "# proto-message: Experiment\n" + text;
}

// What must not change between sittings, which is what was declared. Text that does not parse is compared as it is.
std::string WithoutBudget(const std::string& text) {
  deliberation::v1::Experiment file;
  if (!ParseTextproto(text, &file).errors.empty()) return text;
  file.clear_budget();
  file.clear_concurrency();
  file.clear_baseline();
  for (int i = file.arm_size(); i-- > 0;) {
    if (file.arm(i).generated()) file.mutable_arm()->DeleteSubrange(i, 1);
  }
  std::string out;
  google::protobuf::TextFormat::PrintToString(file, &out);
  return out;
}

// The members where they were found, so that nothing but this file is needed to find them again.
experiment::LoadedExperiment WithMembers(experiment::LoadedExperiment loaded, const orchestrator::LoadedFleet& fleet) {
  loaded.file.clear_fleet_path();
  loaded.fleet_path.clear();
  *loaded.file.mutable_fleet() = fleet.fleet;
  const auto absolute = [](std::string* path) {
    if (!path->empty()) *path = std::filesystem::absolute(*path).string();
  };
  if (fleet.fleet.has_worker_tls()) {
    auto* tls = loaded.file.mutable_fleet()->mutable_worker_tls();
    for (std::string* path : {tls->mutable_authorities(), tls->mutable_certificate(), tls->mutable_key()})
      absolute(path);
  }
  for (auto& member : *loaded.file.mutable_fleet()->mutable_member()) {
    if (member.has_model()) absolute(member.mutable_model()->mutable_path());
    if (member.has_recorded()) absolute(member.mutable_recorded()->mutable_path());
    if (member.has_openai()) absolute(member.mutable_openai()->mutable_authorities());
    if (member.has_development()) absolute(member.mutable_development()->mutable_path());
  }
  return loaded;
}

Json ArmsForManifest(const experiment::LoadedExperiment& loaded, const Json& graph_hashes) {
  Json arms = Json::array();
  for (const auto& arm : loaded.plan.arms) {
    Json entry = {{"name", arm.name}, {"graph", arm.request.graph_name()}, {"graph_sha256", graph_hashes.at(arm.name)}};
    if (arm.generated) entry["generated"] = true;
    arms.push_back(std::move(entry));
  }
  return arms;
}

Json Manifest(const experiment::LoadedExperiment& loaded, const orchestrator::LoadedFleet& fleet,
              const Json& graph_hashes, const Arguments& a, const std::string& declared, Json curves) {
  std::map<std::string, Json> hashes;  // many members may share one file of recorded answers
  const auto hash = [&](const std::string& path) {
    const auto [it, fresh] = hashes.try_emplace(path);
    if (fresh) it->second = FileHash(path);
    return it->second;
  };
  Json members = Json::array();
  for (const auto& member : fleet.fleet.member()) {
    Json entry = {{"name", member.name()}};
    if (member.has_model()) entry.update({{"model", member.model().path()}, {"sha256", hash(member.model().path())}});
    if (member.has_recorded()) {
      entry.update({{"recorded", member.recorded().path()},
                    {"as", member.recorded().model()},
                    {"sha256", hash(member.recorded().path())}});
    }
    if (member.has_worker_address()) entry["worker"] = member.worker_address();
    if (member.has_openai()) {
      const bool seeds = std::count(member.openai().capability().begin(), member.openai().capability().end(),
                                    deliberation::v1::OpenAi::SEED) > 0;
      entry.update({{"url", member.openai().url()},
                    {"as", member.openai().model().empty() ? member.name() : member.openai().model()},
                    {"reproducible", seeds}});
    }
    members.push_back(std::move(entry));
  }
  Json arms = ArmsForManifest(loaded, graph_hashes);
  const auto& d = loaded.plan.declaration;
  return {{"program", "conclave 0.1.0"},
          {"binary_sha256", FileHash("/proc/self/exe")},
          {"experiment", loaded.path},
          {"experiment_sha256", FileHash(loaded.path)},
          {"experiment_text", declared},
          {"started_unix_seconds", Clock::System().UnixNs() / 1'000'000'000},
          {"benchmark",
           {{"name", d.benchmark},
            {"path", loaded.benchmark_path.empty() ? Json() : Json(loaded.benchmark_path)},
            {"sha256", loaded.benchmark_path.empty() ? Json() : FileHash(loaded.benchmark_path)},
            {"items", loaded.items_total},
            {"items_sha256", loaded.items_sha256},
            {"split", loaded.file.benchmark().split()},
            {"examples", loaded.file.benchmark().examples().path()},
            {"grader", d.grader}}},
          {"replicates", d.replicates},
          {"seed", d.seed},
          {"baselines", d.baselines_added},
          {"declaration", experiment::ToJson(d, loaded.plan.group)},
          {"options", OptionsJson(a.load)},
          {"members", std::move(members)},
          {"curves", std::move(curves)},
          {"arms", std::move(arms)}};
}

// Makes the run directory, or checks that it is this experiment's and takes what it knows of arms.
absl::Status PrepareDirectory(const Arguments& a, const orchestrator::LoadedFleet& fleet, ExperimentArms* arms) {
  std::error_code error;
  std::filesystem::create_directories(a.out, error);
  if (error) return Internal("{}: cannot be created: {}", a.out, error.message());
  const bool begun = std::filesystem::exists(a.out + "/store.sqlite");
  if (begun && !a.resume) {
    return AlreadyExists("{}: holds an experiment already; go on with it by --resume, or name another --out", a.out);
  }
  const std::string kept = a.out + "/experiment.textproto";
  const auto before = ReadFile(kept);
  if (begun && before.ok() && WithoutBudget(*before) != WithoutBudget(AbsoluteCopy(arms->declared()))) {
    return FailedPrecondition("{}: differs from {} in more than its budget; a resumed experiment must be the same one",
                              kept, a.file);
  }
  if (begun && before.ok() && a.load.arms.empty()) {
    ASSIGN_OR_RETURN(const auto as_kept, experiment::LoadExperiment(kept, a.load));
    RETURN_IF_ERROR(arms->TakeKept(as_kept));
  }
  RETURN_IF_ERROR(arms->WriteGraphs());
  ASSIGN_OR_RETURN(const Json graph_hashes, GraphHashes(*arms));
  const std::string copy = AbsoluteCopy(arms->experiment());
  if (begun) {
    RETURN_IF_ERROR(CheckSameGraphs(a.out + "/manifest.json", graph_hashes));
    ASSIGN_OR_RETURN(const experiment::LoadOptions as_begun, OptionsOf(a.out));
    if (as_begun.shard != a.load.shard) {
      return FailedPrecondition("{}: was begun as shard {}/{}; go on with the same one", a.out, as_begun.shard.index,
                                as_begun.shard.count);
    }
    return before.ok() && *before == copy ? absl::OkStatus() : WriteFileAtomically(kept, copy);
  }
  const Json manifest = Manifest(arms->experiment(), fleet, graph_hashes, a,
                                 AbsoluteCopy(WithMembers(arms->declared(), fleet)), arms->Curves());
  if (!a.manifest.empty()) {
    ASSIGN_OR_RETURN(const Json original, ReadManifest(a.manifest));
    RETURN_IF_ERROR(
        CheckSameExperiment(original, manifest, fmt::format("{} cannot be repeated as it was", a.manifest)));
  }
  RETURN_IF_ERROR(WriteFileAtomically(kept, copy));
  return WriteFileAtomically(a.out + "/manifest.json", manifest.dump(2) + "\n");
}

// Arms were added since: the run directory's experiment and manifest say so.
absl::Status KeepAddedArms(const Arguments& a, ExperimentArms* arms) {
  ASSIGN_OR_RETURN(const Json graph_hashes, GraphHashes(*arms));
  ASSIGN_OR_RETURN(const std::string text, ReadFile(a.out + "/manifest.json"));
  Json manifest = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) return InvalidArgument("{}/manifest.json: is no manifest", a.out);
  const experiment::Plan& plan = arms->experiment().plan;
  manifest["arms"] = ArmsForManifest(arms->experiment(), graph_hashes);
  if (const ExperimentArms::CurveSizes curves = arms->Curves(); !curves.empty()) manifest["curves"] = curves;
  manifest["declaration"] = experiment::ToJson(plan.declaration, plan.group);
  RETURN_IF_ERROR(WriteFileAtomically(a.out + "/manifest.json", manifest.dump(2) + "\n"));
  return WriteFileAtomically(a.out + "/experiment.textproto", AbsoluteCopy(arms->experiment()));
}

// The command that goes on with this one.
std::string GoOn(const Arguments& a) {
  std::string words = fmt::format("conclave experiment {} --out {} --resume", Quoted(a.file), Quoted(a.out));
  if (a.no_baselines) words += " --no-baselines";
  if (a.load.limit > 0) words += fmt::format(" --limit {}", a.load.limit);
  if (a.load.shard.count > 1) words += fmt::format(" --shard {}/{}", a.load.shard.index, a.load.shard.count);
  for (const std::string& arm : a.load.arms) words += " --arm " + Quoted(arm);
  if (!a.session.graphs.empty()) words += " --graphs " + Quoted(a.session.graphs);
  if (!a.session.worker_binary.empty()) words += " --worker-binary " + Quoted(a.session.worker_binary);
  return words;
}

absl::StatusOr<std::string> RunArms(const Arguments& a, const experiment::Plan& plan, Session& session) {
  std::vector<std::string> names;
  for (const auto& arm : plan.arms) names.push_back(arm.name);
  ProgressView view(stderr, a.output.live(), names, Clock::System());
  auto used_up = experiment::RunAll(plan, session.deliberator(), StopFlag(), Clock::System(),
                                    [&](const experiment::Progress& progress) { view.Show(progress); });
  view.Finish();
  if (absl::IsCancelled(used_up.status())) return Cancelled("stopped; go on with: {}", GoOn(a));
  return used_up;
}

// With --from-manifest, what is in the manifest takes the place of file and options.
absl::Status TakeManifest(Arguments* a) {
  if (a->manifest.empty() == a->file.empty()) return UsageError("an experiment FILE or --from-manifest DIR is needed");
  if (a->manifest.empty()) return absl::OkStatus();
  if (a->out.empty()) return UsageError("--from-manifest: a run directory is needed as --out");
  a->file = a->out + "/repeated.textproto";
  ASSIGN_OR_RETURN(a->load, OptionsOf(a->manifest));
  return WriteExperimentOf(a->manifest, a->file);
}

// Curves whose size is not a matter of what this run measures: of a repeated experiment they are its own, of a shard
// those of all others, which measure something else.
absl::StatusOr<std::optional<ExperimentArms::CurveSizes>> KnownCurves(const Arguments& a) {
  std::optional<ExperimentArms::CurveSizes> sizes;
  if (a.dry_run || a.load.shard.count > 1) sizes.emplace();
  if (a.manifest.empty() || sizes.has_value()) return sizes;
  return CurvesOf(a.manifest);
}

absl::Status RunExperiment(Arguments a) {
  StopFlag();
  RETURN_IF_ERROR(TakeManifest(&a));
  if (a.out.empty() && !a.dry_run) return UsageError("--out: a run directory is needed, or --dry-run");
  if (!a.session.OrchestratorAddress().empty()) {
    fmt::print(stderr, "note: {} is not used by an experiment, see its --help\n", kOrchestratorVariable);
  }
  ASSIGN_OR_RETURN(experiment::LoadedExperiment declared, experiment::LoadExperiment(a.file, a.load));
  if (a.no_baselines) {
    declared.file.set_baselines(false);
    declared.plan.declaration.baselines_added = false;
  }
  ASSIGN_OR_RETURN(auto fleet, FleetOf(declared));
  AddPrices(fleet, &declared.plan);
  if (a.dry_run) LookIntoModels(&fleet);
  const bool add = declared.plan.declaration.baselines_added && a.load.arms.empty();
  ASSIGN_OR_RETURN(const auto curves, KnownCurves(a));
  ASSIGN_OR_RETURN(ExperimentArms arms, ExperimentArms::Make(std::move(declared), fleet, a.session.graphs,
                                                             a.dry_run ? "" : a.out, add, curves));
  if (a.dry_run) return arms.Print(/*whole=*/true, a.output.json);
  RETURN_IF_ERROR(PrepareDirectory(a, fleet, &arms));
  RETURN_IF_ERROR(arms.Print(/*whole=*/false, a.output.json));
  SessionFlags flags = a.session;
  flags.store = a.out + "/store.sqlite";
  for (const auto& arm : arms.experiment().plan.arms) flags.requests_needed.push_back(arm.request);
  ASSIGN_OR_RETURN(auto session, Session::Open(flags, std::move(fleet)));
  ASSIGN_OR_RETURN(std::string used_up, RunArms(a, arms.experiment().plan, *session));
  if (used_up.empty()) {
    ASSIGN_OR_RETURN(const bool added, arms.AddCurves(session->deliberator()));
    RETURN_IF_ERROR(KeepAddedArms(a, &arms));
    if (added) {
      ASSIGN_OR_RETURN(used_up, RunArms(a, arms.experiment().plan, *session));
    }
  }
  const absl::Status exported = ExportAnnotated(arms.experiment().plan, session->deliberator(), a.out);
  const bool nothing = absl::IsFailedPrecondition(exported) && !used_up.empty();
  if (!nothing) {
    RETURN_IF_ERROR(exported);
    ASSIGN_OR_RETURN(const std::string report, report::WriteReport(a.out));
    PrintSummary(a.out, a.output);
    fmt::print(stderr, "report: {}\n", report);
  }
  if (used_up.empty()) return absl::OkStatus();
  return ResourceExhausted("{}: budget: {}; what is done is kept: raise it there and go on with {}", a.file, used_up,
                           GoOn(a));
}

}  // namespace

void AddExperiment(CLI::App* app, Chosen* chosen) {
  auto* command =
      app->add_subcommand("experiment", "Arms x benchmark x replicates, with paired statistics and a report");
  command->footer(
      "Example: conclave experiment gsm8k.textproto --out runs/gsm8k\n"
      "Stopped or killed, it goes on with --resume; no finished call is repeated.\n"
      "Every arm of several members gets its baselines: the best member and each rival, once and as often as the arm\n"
      "costs, the rival in every seat, the plain vote, the graph without each role. --dry-run lists them.\n"
      "An experiment declares its members and keeps every run in DIR/store.sqlite, so that DIR alone can be resumed,\n"
      "graded again and audited. So it starts its own orchestrator and there is no --orchestrator here, whose members\n"
      "and store are not the experiment's; workers that already serve take part as members with a worker_address.");
  auto a = std::make_shared<Arguments>();
  command->add_option("FILE", a->file, "Experiment file");
  command->add_option("--from-manifest", a->manifest,
                      "Repeat what this directory's manifest.json holds; models, data and graphs must have its hashes");
  command->add_option("--out", a->out, "Run directory");
  command->add_flag("--resume", a->resume, "Go on with the experiment in --out");
  command->add_option("--limit", a->load.limit, "First items only; 0: all")->check(CLI::NonNegativeNumber);
  AddShardOption(command, &a->load.shard);
  command->add_option("--arm", a->load.arms, "This arm only, without baselines (repeatable)");
  command->add_flag("--no-baselines", a->no_baselines, "Add no arms to those declared; the report says so");
  command->add_flag("--dry-run", a->dry_run,
                    "Say which arms there would be, what they cost at most and what can be found");
  command->add_option("--graphs", a->session.graphs, "Directory of graphs and roles; default: the shipped ones");
  command->add_option("--worker-binary", a->session.worker_binary, "conclave-worker; default: beside this program");
  AddOutputFlags(command, &a->output);
  command->callback([=] { chosen->action = [=] { return Report(RunExperiment(*a)); }; });
}

}  // namespace conclave::cli
