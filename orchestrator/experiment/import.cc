// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/import.h"

#include <fmt/format.h>

#include <set>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "orchestrator/experiment/import_rows.h"
#include "orchestrator/experiment/inspect_log.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kInvalidAnswer[] = "[invalid]";  // lm-evaluation-harness's fallback of a filter that found nothing

bool IsHarnessRow(const Json& row) { return row.contains("doc_id") && row.contains("filtered_resps"); }

// The metric that a row is judged by: the first that it lists, else the first of those every task of ours could have.
absl::StatusOr<std::string> MetricOf(const Json& row) {
  const Json metrics = At(row, "metrics");
  if (metrics.is_array() && !metrics.empty() && metrics[0].is_string()) return metrics[0].get<std::string>();
  for (const char* name : {"exact_match", "acc", "em", "pass@1"}) {
    if (row.contains(name)) return std::string(name);
  }
  return InvalidArgument("has no \"metrics\" and none of exact_match, acc, em, pass@1");
}

absl::Status AddHarnessRow(const Json& row, const std::string& arm, bool by_filter, const std::string& cluster_field,
                           ImportRows* out) {
  Outcome outcome;
  outcome.arm = by_filter ? fmt::format("{} ({})", arm, Text(At(row, "filter"))) : arm;
  outcome.id = Text(At(row, "doc_id"));
  outcome.gold = Text(At(row, "target"));
  const Json doc = At(row, "doc");
  outcome.cluster = cluster_field.empty() ? "" : Text(At(doc, cluster_field.c_str()));
  const Json filtered = At(row, "filtered_resps");
  const Json first = filtered.is_array() && !filtered.empty() ? filtered[0] : filtered;
  if (first.is_string()) outcome.answer = first.get<std::string>();
  ASSIGN_OR_RETURN(const std::string metric, MetricOf(row));
  ASSIGN_OR_RETURN(const bool right, ZeroOrOne(At(row, metric.c_str()), fmt::format("\"{}\"", metric)));
  const bool none = outcome.answer == kInvalidAnswer;
  if (none) outcome.answer.clear();
  outcome.kind = right ? OutcomeKind::kCorrect : none ? OutcomeKind::kNoAnswer : OutcomeKind::kWrong;
  outcome.rule = fmt::format("lm-evaluation-harness/{}", metric);
  Json question;
  for (const char* key : {"question", "problem", "query", "prompt", "input"}) {
    if (question.is_null()) question = At(doc, key);
  }
  const Json responses = At(row, "resps");
  const bool generated = responses.is_array() && !responses.empty() && responses[0].is_array() &&
                         !responses[0].empty() && responses[0][0].is_string();
  out->Add(outcome, question, generated ? responses[0][0].get<std::string>() : "");
  return absl::OkStatus();
}

absl::StatusOr<Imported> ImportHarness(const std::string& path, const std::string& arm, const std::string& cluster) {
  // First which filters there are: with more than one each is an arm.
  std::set<std::string> filters;
  ImportRows collector;
  for (const bool counting : {true, false}) {
    ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
    std::set<std::pair<std::string, std::string>> seen;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, reader.Next());
      if (!more) break;
      const Json row = ParseJson(reader.line());
      if (!row.is_object() || !IsHarnessRow(row)) return reader.Error("has no \"doc_id\" and \"filtered_resps\"");
      const std::string filter = Text(At(row, "filter"));
      filters.insert(filter);
      if (counting) continue;
      if (!seen.insert({filter, Text(row["doc_id"])}).second) {
        return reader.Error(fmt::format("doc_id {} was given before; files of several tasks are compared one by one",
                                        Text(row["doc_id"])));
      }
      const absl::Status added = AddHarnessRow(row, arm, filters.size() > 1, cluster, &collector);
      if (!added.ok()) return reader.Error(Message(added));
    }
  }
  return std::move(collector.imported());
}

}  // namespace

absl::StatusOr<Imported> ImportOutcomes(const std::string& path, const std::string& arm,
                                        const std::string& cluster_field) {
  if (path.ends_with(".eval") || path.ends_with(".json")) return ImportInspectLog(path, arm, cluster_field);
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  ASSIGN_OR_RETURN(const bool any, reader.Next());
  const Json first = any ? ParseJson(reader.line()) : Json();
  if (first.is_object() && IsHarnessRow(first)) return ImportHarness(path, arm, cluster_field);
  Imported own;
  ASSIGN_OR_RETURN(own.rows, ReadOutcomes(path, arm, cluster_field));
  return own;
}

}  // namespace conclave::experiment
