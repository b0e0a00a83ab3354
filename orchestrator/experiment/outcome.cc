// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/outcome.h"

#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "common/file.h"
#include "common/status.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

// A field as text: strings as they are, numbers and booleans as JSON writes them, null and absent as "".
std::string Text(const Json& row, const std::string& key) {
  const auto it = row.find(key);
  if (it == row.end() || it->is_null()) return "";
  return it->is_string() ? it->get<std::string>() : it->dump();
}

double NumberOr0(const Json& row, const char* key) {
  const auto it = row.find(key);
  return it != row.end() && it->is_number() ? it->get<double>() : 0;
}

absl::StatusOr<OutcomeKind> ReadKind(const Json& row) {
  if (row.contains("outcome")) {
    const std::string name = Text(row, "outcome");
    if (const auto kind = grade::OutcomeFromName(name)) return *kind;
    return InvalidArgument("\"outcome\" is \"{}\"; known: correct wrong no_answer truncated grader_error failed", name);
  }
  for (const char* key : {"correct", "score"}) {
    const auto it = row.find(key);
    if (it == row.end()) continue;
    if (it->is_boolean()) return it->get<bool>() ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
    if (it->is_number() && (it->get<double>() == 0 || it->get<double>() == 1)) {
      return it->get<double>() == 1 ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
    }
    return InvalidArgument("\"{}\" is {}; true, false, 1 or 0 is needed", key, it->dump());
  }
  return InvalidArgument("has neither \"outcome\" nor \"correct\" nor \"score\"");
}

absl::StatusOr<Outcome> ParseRow(const std::string& line, const std::string& default_arm,
                                 const std::string& cluster_field) {
  const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return InvalidArgument("is not a JSON object");
  Outcome out;
  out.id = Text(row, "id");
  if (out.id.empty()) return InvalidArgument("has no \"id\"");
  ASSIGN_OR_RETURN(out.kind, ReadKind(row));
  out.arm = row.contains("arm") ? Text(row, "arm") : default_arm;
  out.replicate = static_cast<int32_t>(NumberOr0(row, "replicate"));
  out.answer = Text(row, "answer");
  out.gold = Text(row, "gold");
  out.cluster = cluster_field.empty() ? "" : Text(row, cluster_field);
  out.stratum = Text(row, "stratum");
  out.calls = NumberOr0(row, "calls");
  out.prompt_tokens = NumberOr0(row, "prompt_tokens");
  out.cached_tokens = NumberOr0(row, "cached_tokens");
  out.output_tokens = NumberOr0(row, "output_tokens");
  out.flops = NumberOr0(row, "flops");
  out.weight_bytes = NumberOr0(row, "weight_bytes");
  out.kv_bytes = NumberOr0(row, "kv_bytes");
  out.lost_calls = NumberOr0(row, "lost_calls");
  out.seconds = NumberOr0(row, "seconds");
  out.estimated = row.contains("estimated") && row["estimated"].is_boolean() && row["estimated"].get<bool>();
  return out;
}

}  // namespace

std::string ToJsonLine(const Outcome& o) {
  Json row = {{"arm", o.arm},
              {"id", o.id},
              {"replicate", o.replicate},
              {"outcome", grade::OutcomeName(o.kind)},
              {"answer", o.answer.empty() ? Json() : Json(o.answer)},
              {"gold", o.gold},
              {"cluster", o.cluster.empty() ? Json() : Json(o.cluster)}};
  if (!o.stratum.empty()) row["stratum"] = o.stratum;
  row.update({{"calls", o.calls},
              {"prompt_tokens", o.prompt_tokens},
              {"cached_tokens", o.cached_tokens},
              {"output_tokens", o.output_tokens},
              {"flops", o.flops},
              {"weight_bytes", o.weight_bytes},
              {"kv_bytes", o.kv_bytes},
              {"lost_calls", o.lost_calls},
              {"seconds", o.seconds},
              {"estimated", o.estimated}});
  return row.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<std::vector<Outcome>> ReadOutcomes(const std::string& path, const std::string& default_arm,
                                                  const std::string& cluster_field) {
  ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(path));
  std::vector<Outcome> rows;
  std::set<std::tuple<std::string, std::string, int32_t>> seen;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    auto row = ParseRow(line, default_arm, cluster_field);
    if (!row.ok()) return Annotate(row.status(), fmt::format("{}:{}", path, number));
    if (!seen.insert({row->arm, row->id, row->replicate}).second) {
      return InvalidArgument("{}:{}: item \"{}\" of arm \"{}\", replicate {}, was given before", path, number, row->id,
                             row->arm, row->replicate);
    }
    rows.push_back(*std::move(row));
  }
  if (rows.empty()) return InvalidArgument("{}: holds no outcomes", path);
  return rows;
}

}  // namespace conclave::experiment
