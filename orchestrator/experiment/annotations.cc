// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/annotations.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

bool Has(const Json& row, const char* key) { return row.contains(key); }

absl::StatusOr<std::string> TextAt(const Json& row, const char* key) {
  if (!row.contains(key) || !row[key].is_string() || row[key].get_ref<const std::string&>().empty()) {
    return InvalidArgument("\"{}\" is missing or no text", key);
  }
  return row[key].get<std::string>();
}

absl::Status AddVerdict(const Json& row, const std::string& id, Annotations* out) {
  ASSIGN_OR_RETURN(const std::string arm, TextAt(row, "arm"));
  ASSIGN_OR_RETURN(const std::string name, TextAt(row, "outcome"));
  const auto kind = grade::OutcomeFromName(name);
  if (!kind)
    return InvalidArgument("\"outcome\" is \"{}\"; known: correct wrong no_answer truncated grader_error failed", name);
  int32_t replicate = 0;
  if (Has(row, "replicate")) {
    if (!row["replicate"].is_number_unsigned() || row["replicate"].get<uint64_t>() >= INT32_MAX) {
      return InvalidArgument("\"replicate\" is {}; a number from 0 is needed", row["replicate"].dump());
    }
    replicate = row["replicate"].get<int32_t>();
  }
  if (out->verdicts.try_emplace({arm, id, replicate}, *kind).second) return absl::OkStatus();
  return InvalidArgument("item \"{}\" of arm \"{}\" was annotated before", id, arm);
}

absl::Status AddLine(const Json& row, Annotations* out) {
  static const std::set<std::string> kKnown = {"id", "gold", "exclude", "arm", "replicate", "outcome", "note"};
  for (const auto& [key, value] : row.items()) {
    if (!kKnown.contains(key)) return InvalidArgument("\"{}\" is not known here", key);
  }
  ASSIGN_OR_RETURN(const std::string id, TextAt(row, "id"));
  const int said = (Has(row, "gold") ? 1 : 0) + (Has(row, "exclude") ? 1 : 0) + (Has(row, "outcome") ? 1 : 0);
  if (said != 1) return InvalidArgument("one of \"gold\", \"exclude\" and \"outcome\" (with \"arm\") is needed");
  if (Has(row, "outcome")) return AddVerdict(row, id, out);
  if (Has(row, "gold")) {
    ASSIGN_OR_RETURN(const std::string gold, TextAt(row, "gold"));
    if (out->gold.try_emplace(id, gold).second) return absl::OkStatus();
  } else {
    if (row["exclude"] != true) return InvalidArgument("\"exclude\" can only be true");
    if (std::find(out->excluded.begin(), out->excluded.end(), id) == out->excluded.end()) {
      out->excluded.push_back(id);
      return absl::OkStatus();
    }
  }
  return InvalidArgument("item \"{}\" was annotated before", id);
}

}  // namespace

absl::StatusOr<Annotations> ReadAnnotations(const std::string& path) {
  Annotations out;
  if (!std::filesystem::exists(path)) return out;
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) return out;
    const Json row = ParseJson(reader.line());
    if (!row.is_object()) return reader.Error("is not a JSON object");
    const absl::Status added = AddLine(row, &out);
    if (!added.ok()) return reader.Error(Message(added));
  }
}

absl::StatusOr<Plan> ApplyAnnotations(const Annotations& annotations, Plan plan) {
  std::set<std::string> ids, arms;
  for (const benchmark::Item& item : plan.items) ids.insert(item.id);
  for (const ArmPlan& arm : plan.arms) arms.insert(arm.name);
  const auto known = [&](const std::string& id) -> absl::Status {
    return ids.contains(id) ? absl::OkStatus() : InvalidArgument("there is no item \"{}\"", id);
  };
  for (const auto& [id, gold] : annotations.gold) RETURN_IF_ERROR(known(id));
  for (const std::string& id : annotations.excluded) RETURN_IF_ERROR(known(id));
  for (const auto& [key, kind] : annotations.verdicts) {
    RETURN_IF_ERROR(known(std::get<1>(key)));
    if (!arms.contains(std::get<0>(key))) {
      return InvalidArgument("there is no arm \"{}\"", std::get<0>(key));
    }
  }
  for (benchmark::Item& item : plan.items) {
    if (const auto it = annotations.gold.find(item.id); it != annotations.gold.end()) item.answer = it->second;
  }
  const std::set<std::string> excluded(annotations.excluded.begin(), annotations.excluded.end());
  std::erase_if(plan.items, [&](const benchmark::Item& item) { return excluded.contains(item.id); });
  plan.verdicts = annotations.verdicts;
  if (!annotations.gold.empty() || !excluded.empty() || !annotations.verdicts.empty()) {
    plan.notes.push_back(
        fmt::format("annotations.jsonl changes what is reported: {} gold answers corrected, {} items left out, {} "
                    "verdicts set by hand",
                    annotations.gold.size(), excluded.size(), annotations.verdicts.size()));
  }
  return plan;
}

}  // namespace conclave::experiment
