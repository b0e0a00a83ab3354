// SPDX-License-Identifier: Apache-2.0
#include "cli/run_directory.h"

#include <fmt/format.h>

#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/annotations.h"
#include "orchestrator/experiment/arms/baselines.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::cli {

using Json = nlohmann::ordered_json;

void AddShardOption(CLI::App* command, experiment::Shard* shard) {
  command->add_option_function<std::string>(
      "--shard",
      [shard](const std::string& text) {
        const auto parsed = experiment::ParseShard(text);
        if (!parsed.ok()) throw CLI::ValidationError("--shard", std::string(Message(parsed.status())));
        *shard = *parsed;
      },
      "Only the items i, i + n, ..; written i/n. `conclave merge` joins the n run directories. Curves are as long as "
      "their arm makes calls at most: what it costs is known of the whole only");
}

absl::StatusOr<Json> ReadManifest(const std::string& directory) {
  const std::string path = directory + "/manifest.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Json manifest = experiment::ParseJson(text);
  if (!manifest.is_object()) return InvalidArgument("{}: is no manifest", path);
  return manifest;
}

Json OptionsJson(const experiment::LoadOptions& options) {
  return {{"limit", options.limit},
          {"arms", options.arms},
          {"shard", {{"index", options.shard.index}, {"count", options.shard.count}}}};
}

absl::StatusOr<experiment::LoadOptions> OptionsOf(const std::string& directory) {
  ASSIGN_OR_RETURN(const Json manifest, ReadManifest(directory));
  experiment::LoadOptions options;
  if (!manifest.contains("options")) return options;
  try {
    const Json& kept = manifest["options"];
    options.limit = kept.at("limit").get<int32_t>();
    options.arms = kept.at("arms").get<std::vector<std::string>>();
    options.shard = {kept.at("shard").at("index").get<int32_t>(), kept.at("shard").at("count").get<int32_t>()};
  } catch (const Json::exception& e) {
    return InvalidArgument("{}/manifest.json: \"options\": {}", directory, e.what());
  }
  if (options.shard.count < 1 || options.shard.index < 1 || options.shard.index > options.shard.count) {
    return InvalidArgument("{}/manifest.json: shard {}/{} is none", directory, options.shard.index,
                           options.shard.count);
  }
  return options;
}

absl::StatusOr<std::optional<std::map<std::string, int32_t>>> CurvesOf(const std::string& directory) {
  ASSIGN_OR_RETURN(const Json manifest, ReadManifest(directory));
  std::optional<std::map<std::string, int32_t>> sizes;
  if (!manifest.contains("curves") || manifest["curves"].empty()) return sizes;
  sizes.emplace();
  for (const auto& [member, size] : manifest["curves"].items()) {
    if (!size.is_number_integer() || size.get<int64_t>() < 1 || size.get<int64_t>() > experiment::kCurveSamplesMax) {
      return InvalidArgument("{}/manifest.json: \"curves\": of \"{}\" {}; 1 to {} samples are possible", directory,
                             member, size.dump(), experiment::kCurveSamplesMax);
    }
    (*sizes)[member] = size.get<int32_t>();
  }
  return sizes;
}

absl::Status ExportAnnotated(const experiment::Plan& plan, experiment::Deliberator& deliberator,
                             const std::string& directory) {
  const std::string path = directory + "/annotations.jsonl";
  ASSIGN_OR_RETURN(const auto annotations, experiment::ReadAnnotations(path));
  const auto annotated = experiment::ApplyAnnotations(annotations, plan);
  if (!annotated.ok()) return Annotate(annotated.status(), path);
  return experiment::Export(*annotated, deliberator, directory);
}

Json Identity(const Json& manifest) {
  // The fields of each entry of a list that count.
  const auto entries = [&](const char* list, std::initializer_list<const char*> keys) {
    Json out = Json::array();
    if (!manifest.contains(list) || !manifest[list].is_array()) return out;
    for (const Json& entry : manifest[list]) {
      Json kept = Json::object();
      for (const char* key : keys) {
        if (entry.is_object() && entry.contains(key)) kept[key] = entry[key];
      }
      out.push_back(std::move(kept));
    }
    return out;
  };
  Json identity = {{"members", entries("members", {"name", "sha256", "as", "worker"})},
                   {"arms", entries("arms", {"name", "graph_sha256"})}};
  for (const char* key : {"declaration", "options"}) identity[key] = manifest.contains(key) ? manifest[key] : Json();
  const Json benchmark = manifest.contains("benchmark") ? manifest["benchmark"] : Json();
  identity["benchmark"] =
      benchmark.is_object() && benchmark.contains("items_sha256") ? benchmark["items_sha256"] : Json();
  return identity;
}

absl::Status CheckSameExperiment(const Json& a, const Json& b, const std::string& what) {
  const Json first = Identity(a), second = Identity(b);
  for (const auto& [key, value] : first.items()) {
    if (second[key] != value) return InvalidArgument("{}: \"{}\" differs in their manifests", what, key);
  }
  return absl::OkStatus();
}

absl::Status WriteExperimentOf(const std::string& directory, const std::string& path) {
  ASSIGN_OR_RETURN(const Json manifest, ReadManifest(directory));
  if (!manifest.contains("experiment_text") || !manifest["experiment_text"].is_string()) {
    return InvalidArgument("{}/manifest.json: holds no \"experiment_text\"; it is of an older version", directory);
  }
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  if (error) return Internal("{}: its folder cannot be created: {}", path, error.message());
  return WriteFileAtomically(path, manifest["experiment_text"].get<std::string>());
}

void PrintSummary(const std::string& directory, const Output& output) {
  const auto text = ReadFile(directory + "/summary.json");
  if (!text.ok()) return;
  if (output.json) {
    fmt::print("{}", *text);
    return;
  }
  const nlohmann::ordered_json summary = nlohmann::ordered_json::parse(*text, nullptr, false);
  if (!summary.is_object()) return;
  for (const nlohmann::ordered_json& arm : summary["arms"]) {
    const nlohmann::ordered_json& ci = arm["ci95"];
    fmt::print(
        "{:<32} {:>6.2f} %{}  n = {}\n", arm["name"].get<std::string>(), 100 * arm["accuracy"].get<double>(),
        ci.is_array() ? fmt::format("  [{:.2f}, {:.2f}]", 100 * ci[0].get<double>(), 100 * ci[1].get<double>()) : "",
        arm["n"].get<int64_t>());
  }
  for (const nlohmann::ordered_json& c : summary["contrasts"]) {
    const nlohmann::ordered_json& ci = c["ci95"];
    fmt::print(
        "{} - {}: {:+.2f} points{}{}{}\n", c["a"].get<std::string>(), c["b"].get<std::string>(),
        100 * c["difference"].get<double>(),
        ci.is_array() ? fmt::format(" [{:+.2f}, {:+.2f}]", 100 * ci[0].get<double>(), 100 * ci[1].get<double>()) : "",
        c["mcnemar_exact"].is_number() ? fmt::format(", McNemar p = {:.3g}", c["mcnemar_exact"].get<double>()) : "",
        c["primary"].get<bool>() ? "  (primary)" : "");
  }
  for (const nlohmann::ordered_json& warning : summary["warnings"])
    fmt::print("note: {}\n", warning.get<std::string>());
}

}  // namespace conclave::cli
