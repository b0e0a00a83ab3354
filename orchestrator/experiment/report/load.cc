// SPDX-License-Identifier: Apache-2.0
// Reading a run directory for its report.
#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/report/report.h"

namespace conclave::report {
namespace {

constexpr size_t kItemsShown = 40;
constexpr size_t kCallTextMax = 6000;  // bytes of one call's text on the page
constexpr size_t kCallsPerArmMax = 24;

absl::StatusOr<Json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return DataLoss("{}: is not JSON", path);
  return json;
}

// Calls `visit` with each line's JSON; an unparsable line is an error with its number. `wanted` filters raw lines
// first.
absl::Status ForEachLine(const std::string& path, const std::function<bool(const std::string&)>& wanted,
                         const std::function<void(Json)>& visit) {
  std::ifstream in(path);
  if (!in) return NotFound("{}: no such file", path);
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty() || !wanted(line)) continue;
    Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return DataLoss("{}:{}: is not a JSON object", path, number);
    visit(std::move(json));
  }
  return absl::OkStatus();
}

std::string Text(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return "";
  return it->is_string() ? it->get<std::string>() : it->dump();
}

// Which items to show: those where the primary contrast's arms differ first, then those where any arms differ.
struct Item {
  std::map<std::string, Json> arms;   // first replicate's outcome row per arm
  std::vector<std::string> outcomes;  // every row's outcome
};

std::vector<std::string> ChooseItems(const std::map<std::string, Item>& items, const Json& summary, int64_t* total) {
  std::string a, b;
  if (!summary.contains("contrasts") || !summary["contrasts"].is_array()) return {};
  for (const Json& contrast : summary["contrasts"]) {
    if (Text(contrast, "primary") == "true") a = Text(contrast, "a"), b = Text(contrast, "b");
  }
  std::vector<std::string> primary, other;
  for (const auto& [id, item] : items) {
    std::set<bool> verdicts;
    for (const auto& [arm, row] : item.arms) verdicts.insert(Text(row, "outcome") == "correct");
    if (verdicts.size() < 2) continue;
    const auto ia = item.arms.find(a), ib = item.arms.find(b);
    const bool differs = ia != item.arms.end() && ib != item.arms.end() &&
                         (Text(ia->second, "outcome") == "correct") != (Text(ib->second, "outcome") == "correct");
    (differs ? primary : other).push_back(id);
  }
  *total = static_cast<int64_t>(primary.size() + other.size());
  // Spread over the benchmark rather than its first items.
  std::vector<std::string> chosen;
  for (const auto* ids : {&primary, &other}) {
    const size_t room = kItemsShown - chosen.size();
    const size_t take = std::min(room, ids->size());
    for (size_t k = 0; k < take; ++k) chosen.push_back((*ids)[k * ids->size() / take]);
  }
  return chosen;
}

Json CallForPage(const Json& row) {
  Json call;
  for (const char* key : {"node", "member", "sample", "answer", "score"}) {
    if (row.contains(key)) call[key] = row[key];
  }
  std::string text = Text(row, "text");
  if (text.size() > kCallTextMax)
    text = text.substr(0, kCallTextMax) + "\n[… cut here; the whole text is in transcripts.jsonl]";
  call["text"] = std::move(text);
  return call;
}

}  // namespace

absl::StatusOr<ReportInput> Load(const std::string& directory) {
  ReportInput input;
  ASSIGN_OR_RETURN(input.summary, ReadJson(directory + "/summary.json"));
  ASSIGN_OR_RETURN(input.manifest, ReadJson(directory + "/manifest.json"));

  std::map<std::string, Item> items;
  RETURN_IF_ERROR(ForEachLine(
      directory + "/outcomes.jsonl", [](const std::string&) { return true; },
      [&](Json row) { items[Text(row, "id")].arms.try_emplace(Text(row, "arm"), std::move(row)); }));
  const std::vector<std::string> chosen = ChooseItems(items, input.summary, &input.disagreement_count);
  const std::set<std::string> wanted(chosen.begin(), chosen.end());

  std::map<std::string, Json> questions;
  RETURN_IF_ERROR(ForEachLine(
      directory + "/items.jsonl", [](const std::string&) { return true; },
      [&](Json row) {
        const std::string id = Text(row, "id");
        if (wanted.contains(id)) questions[id] = std::move(row);
      }));
  std::map<std::string, std::map<std::string, Json>> calls;  // id -> arm -> array
  std::vector<std::string> needles;
  for (const std::string& id : wanted) needles.push_back(Json(id).dump());
  RETURN_IF_ERROR(ForEachLine(
      directory + "/transcripts.jsonl",
      [&](const std::string& line) {
        // The id is among a line's first fields; look there before parsing.
        const std::string_view head = std::string_view(line).substr(0, 400);
        return std::any_of(needles.begin(), needles.end(), [&](const auto& n) { return head.find(n) != head.npos; });
      },
      [&](Json row) {
        if (Text(row, "replicate") != "0" || !wanted.contains(Text(row, "id"))) return;
        Json& list = calls[Text(row, "id")][Text(row, "arm")];
        if (list.size() < kCallsPerArmMax) list.push_back(CallForPage(row));
      }));

  for (const std::string& id : chosen) {
    Json entry = {{"id", id}, {"question", Text(questions[id], "question")}, {"gold", Text(questions[id], "answer")}};
    for (auto& [arm, row] : items[id].arms) {
      entry["arms"].push_back({{"arm", arm},
                               {"outcome", Text(row, "outcome")},
                               {"answer", Text(row, "answer")},
                               {"calls", std::move(calls[id][arm])}});
    }
    input.disagreements.push_back(std::move(entry));
  }
  return input;
}

absl::StatusOr<std::string> WriteReport(const std::string& directory) {
  ASSIGN_OR_RETURN(ReportInput input, Load(directory));
  const std::string path = directory + "/report.html";
  RETURN_IF_ERROR(WriteFileAtomically(path, Render(input)));
  return path;
}

}  // namespace conclave::report
