// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/outcome.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

using simdjson::dom::element;
using simdjson::dom::object;

// A field as text: strings as they are, numbers and booleans as JSON writes them, null and absent as "".
std::string Text(const object& row, std::string_view key) {
  element value;
  if (row.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return "";
  std::string_view text;
  if (value.get_string().get(text) == simdjson::SUCCESS) return std::string(text);
  return simdjson::minify(value);
}

double NumberOr0(const object& row, std::string_view key) {
  double value = 0;
  return row.at_key(key).get_double().get(value) == simdjson::SUCCESS ? value : 0;
}

absl::StatusOr<OutcomeKind> KindNamed(const object& row, std::string_view key) {
  const std::string name = Text(row, key);
  if (const auto kind = grade::OutcomeFromName(name)) return *kind;
  return InvalidArgument("\"{}\" is \"{}\"; known: correct wrong no_answer truncated grader_error failed", key, name);
}

bool Has(const object& row, std::string_view key) { return row.at_key(key).error() == simdjson::SUCCESS; }

absl::StatusOr<OutcomeKind> ReadKind(const object& row) {
  if (Has(row, "outcome")) return KindNamed(row, "outcome");
  for (const std::string_view key : {"correct", "score"}) {
    element value;
    if (row.at_key(key).get(value) != simdjson::SUCCESS) continue;
    bool right = false;
    if (value.get_bool().get(right) == simdjson::SUCCESS) return right ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
    double number = -1;
    if (value.get_double().get(number) == simdjson::SUCCESS && (number == 0 || number == 1)) {
      return number == 1 ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
    }
    return InvalidArgument("\"{}\" is {}; true, false, 1 or 0 is needed", key, Text(row, key));
  }
  return InvalidArgument("has neither \"outcome\" nor \"correct\" nor \"score\"");
}

absl::StatusOr<Outcome> ParseRow(const object& row, const std::string& default_arm, const std::string& cluster_field) {
  Outcome out;
  out.id = Text(row, "id");
  if (out.id.empty()) return InvalidArgument("has no \"id\"");
  ASSIGN_OR_RETURN(out.kind, ReadKind(row));
  if (Has(row, "strict")) {
    ASSIGN_OR_RETURN(out.strict, KindNamed(row, "strict"));
  }
  out.rule = Text(row, "rule");
  out.arm = Has(row, "arm") ? Text(row, "arm") : default_arm;
  out.replicate = static_cast<int32_t>(NumberOr0(row, "replicate"));
  out.answer = Text(row, "answer");
  out.gold = Text(row, "gold");
  out.cluster = cluster_field.empty() ? "" : Text(row, cluster_field);
  out.stratum = Text(row, "stratum");
  out.calls = NumberOr0(row, "calls");
  out.prompt_tokens = NumberOr0(row, "prompt_tokens");
  out.cached_tokens = NumberOr0(row, kFirstMeasured);
  out.output_tokens = NumberOr0(row, "output_tokens");
  out.flops = NumberOr0(row, "flops");
  out.weight_bytes = NumberOr0(row, "weight_bytes");
  out.kv_bytes = NumberOr0(row, "kv_bytes");
  out.lost_calls = NumberOr0(row, "lost_calls");
  out.seconds = NumberOr0(row, "seconds");
  out.usd = NumberOr0(row, "usd");
  bool estimated = false;
  out.estimated = row.at_key("estimated").get_bool().get(estimated) == simdjson::SUCCESS && estimated;
  return out;
}

// Which rows were there: names as numbers, so that a million rows are a set of small keys.
class Seen {
 public:
  // False when the same (arm, id, replicate) was added before.
  bool Add(const Outcome& row) {
    const uint64_t arm = arms_.try_emplace(row.arm, arms_.size()).first->second;
    const uint64_t id = ids_.try_emplace(row.id, ids_.size()).first->second;
    return keys_.insert({arm, id, row.replicate}).second;
  }

 private:
  struct Key {
    uint64_t arm, id;
    int32_t replicate;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const {
      return Mix64(k.arm ^ Mix64(k.id ^ Mix64(static_cast<uint64_t>(static_cast<uint32_t>(k.replicate)))));
    }
  };
  std::unordered_map<std::string, uint64_t> arms_, ids_;
  std::unordered_set<Key, Hash> keys_;
};

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
  if (o.strict) row["strict"] = grade::OutcomeName(*o.strict);
  if (!o.rule.empty()) row["rule"] = o.rule;
  row.update({{"calls", o.calls},
              {"prompt_tokens", o.prompt_tokens},
              {"output_tokens", o.output_tokens},
              {"lost_calls", o.lost_calls},
              {"estimated", o.estimated},
              {kFirstMeasured, o.cached_tokens},
              {"flops", o.flops},
              {"weight_bytes", o.weight_bytes},
              {"kv_bytes", o.kv_bytes},
              {"seconds", o.seconds}});
  if (o.usd > 0) row["usd"] = o.usd;
  return row.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<std::vector<Outcome>> ReadOutcomes(const std::string& path, const std::string& default_arm,
                                                  const std::string& cluster_field) {
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  std::vector<Outcome> rows;
  Seen seen;
  simdjson::dom::parser parser;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) break;
    const std::string_view line = reader.line();
    object object;
    if (parser.parse(line.data(), line.size(), /*realloc_if_needed=*/false).get_object().get(object) !=
        simdjson::SUCCESS) {
      return reader.Error("is not a JSON object");
    }
    auto row = ParseRow(object, default_arm, cluster_field);
    if (!row.ok()) return reader.Error(Message(row.status()));
    if (!seen.Add(*row)) {
      return reader.Error(
          fmt::format("item \"{}\" of arm \"{}\", replicate {}, was given before", row->id, row->arm, row->replicate));
    }
    rows.push_back(*std::move(row));
  }
  if (rows.empty()) return InvalidArgument("{}: holds no outcomes", path);
  return rows;
}

}  // namespace conclave::experiment
