// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/analyse.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <unordered_map>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/detail.h"
#include "orchestrator/experiment/matched.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

struct Declared {
  Declaration declaration;
  std::vector<std::string> group;
};

std::vector<std::string> ArmNames(std::span<const Outcome> rows) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const Outcome& row : rows) {
    if (seen.insert(row.arm).second) names.push_back(row.arm);
  }
  return names;
}

// What to say of rows whose declaration is not known.
Declared Undeclared(const std::string& directory, std::span<const Outcome> rows) {
  Declared out;
  Declaration& d = out.declaration;
  d.name = std::filesystem::path(directory).lexically_normal().filename().string();
  d.benchmark = "outcomes.jsonl", d.grader = "its own";
  for (const Outcome& row : rows) d.replicates = std::max(d.replicates, row.replicate + 1);
  const std::vector<std::string> arms = ArmNames(rows);
  for (size_t i = 0; i + 1 < arms.size(); ++i) d.contrasts.push_back({arms[i], arms.back(), i == 0});
  return out;
}

absl::StatusOr<Declared> FromJson(const Json& json) {
  Declared out;
  Declaration& d = out.declaration;
  try {
    d.name = json.at("name").get<std::string>();
    d.question = json.at("question").get<std::string>();
    d.selection_rule = json.at("selection_rule").get<std::string>();
    d.benchmark = json.at("benchmark").get<std::string>();
    d.grader = json.at("grader").get<std::string>();
    d.replicates = json.at("replicates").get<int32_t>();
    d.seed = json.at("seed").get<uint64_t>();
    for (const Json& c : json.at("contrasts")) {
      d.contrasts.push_back({c.at("a").get<std::string>(), c.at("b").get<std::string>(), c.at("primary").get<bool>(),
                             c.at("margin").get<double>(), c.value("generated", false)});
    }
    d.match = json.value("match", d.match);
    d.baselines_added = json.value("baselines_added", true);
    d.generated_arms = json.value("generated_arms", d.generated_arms);
    for (const Json& b : json.value("baselines", Json::array())) {
      d.baselines.push_back({b.at("of").get<std::string>(), b.at("kind").get<std::string>(),
                             b.at("subject").get<std::string>(), b.at("arm").get<std::string>(),
                             b.at("why_not").get<std::string>()});
    }
    out.group = json.at("group").get<std::vector<std::string>>();
  } catch (const Json::exception& e) {
    return InvalidArgument("\"declaration\": {}", e.what());
  }
  return out;
}

absl::StatusOr<Declared> DeclaredIn(const std::string& directory, std::span<const Outcome> rows) {
  const std::string path = directory + "/manifest.json";
  if (!std::filesystem::exists(path)) return Undeclared(directory, rows);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json manifest = ParseJson(text);
  if (!manifest.is_object()) return DataLoss("{}: is not a JSON object", path);
  if (!manifest.contains("declaration")) return Undeclared(directory, rows);
  auto declared = FromJson(manifest["declaration"]);
  if (!declared.ok()) return Annotate(declared.status(), path);
  return declared;
}

}  // namespace

absl::StatusOr<Json> Analyse(Declaration declaration, std::span<const Outcome> rows, const Gatherer& gatherer) {
  const std::vector<std::string> names = ArmNames(rows);
  const std::set<std::string> arms(names.begin(), names.end());
  std::vector<std::string> left_out;
  std::erase_if(declaration.contrasts, [&](const ContrastSpec& contrast) {
    const bool comparable = arms.contains(contrast.a) && arms.contains(contrast.b);
    if (!comparable)
      left_out.push_back(fmt::format("{} - {}: not compared, an arm has no outcomes", contrast.a, contrast.b));
    return !comparable;
  });
  const std::vector<ArmVotes> votes = gatherer.Votes();
  ASSIGN_OR_RETURN(Json summary, Summarize(declaration, rows, gatherer.Group(), votes));
  AddDetail(rows, gatherer, &summary);
  AddMatched(declaration, rows, votes, &summary);
  gatherer.talk().AddTo(&summary);
  for (std::string& warning : left_out) summary["warnings"].push_back(std::move(warning));
  return summary;
}

Json ToJson(const Declaration& d, const std::vector<std::string>& group) {
  Json contrasts = Json::array();
  for (const ContrastSpec& c : d.contrasts) {
    contrasts.push_back(
        {{"a", c.a}, {"b", c.b}, {"primary", c.primary}, {"margin", c.margin}, {"generated", c.generated}});
  }
  Json baselines = Json::array();
  for (const BaselineSpec& b : d.baselines) {
    baselines.push_back(
        {{"of", b.of}, {"kind", b.kind}, {"subject", b.subject}, {"arm", b.arm}, {"why_not", b.why_not}});
  }
  return {{"name", d.name},
          {"question", d.question},
          {"selection_rule", d.selection_rule},
          {"benchmark", d.benchmark},
          {"grader", d.grader},
          {"replicates", d.replicates},
          {"seed", d.seed},
          {"group", group},
          {"contrasts", std::move(contrasts)},
          {"match", d.match},
          {"baselines_added", d.baselines_added},
          {"generated_arms", d.generated_arms},
          {"baselines", std::move(baselines)}};
}

absl::StatusOr<std::vector<Outcome>> AnalyseDirectory(const std::string& directory) {
  ASSIGN_OR_RETURN(std::vector<Outcome> rows, ReadOutcomes(directory + "/outcomes.jsonl", "answers"));
  ASSIGN_OR_RETURN(const Declared declared, DeclaredIn(directory, rows));
  const std::vector<std::string> arms = ArmNames(rows);
  Gatherer gatherer(arms, declared.group);
  const std::string votes = directory + "/votes.jsonl";
  if (std::filesystem::exists(votes)) {
    std::unordered_map<std::string, size_t> arm_index, item_index;
    std::vector<std::unordered_map<size_t, OutcomeKind>> verdicts(arms.size());
    for (size_t a = 0; a < arms.size(); ++a) arm_index.emplace(arms[a], a);
    for (const Outcome& row : rows) {
      const size_t item = item_index.try_emplace(row.id, item_index.size()).first->second;
      if (row.replicate == 0) verdicts[arm_index.at(row.arm)].emplace(item, row.kind);
    }
    RETURN_IF_ERROR(ReadVotes(votes, [&](RunVotes run) {
      const auto arm = arm_index.find(run.arm);
      const auto item = item_index.find(run.id);
      if (arm == arm_index.end() || item == item_index.end()) return;  // its outcome was taken out of the file
      const auto verdict = verdicts[arm->second].find(item->second);
      if (verdict != verdicts[arm->second].end()) gatherer.Add(arm->second, item->second, run, verdict->second);
    }));
  }
  ASSIGN_OR_RETURN(const Json summary, Analyse(declared.declaration, rows, gatherer));
  RETURN_IF_ERROR(WriteFileAtomically(directory + "/summary.json", summary.dump(2) + "\n"));
  return rows;
}

}  // namespace conclave::experiment
