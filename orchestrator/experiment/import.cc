// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/import.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kInvalidAnswer[] = "[invalid]";  // lm-evaluation-harness's fallback of a filter that found nothing

Json At(const Json& object, const char* key) {
  if (!object.is_object()) return Json();
  const auto it = object.find(key);
  return it == object.end() ? Json() : *it;
}

// Strings as they are, numbers and booleans as JSON writes them; "" for anything else, whose depth nobody bounds.
std::string Text(const Json& value) {
  if (value.is_null() || value.is_structured()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// 0 or 1, however it is written.
absl::StatusOr<bool> ZeroOrOne(const Json& value, std::string_view what) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number() && (value.get<double>() == 0 || value.get<double>() == 1)) return value.get<double>() == 1;
  return InvalidArgument("{} is {}; 0 or 1 is needed, partial credit cannot be compared item by item here", what,
                         value.is_structured() ? "a list or an object" : value.dump());
}

// Collects rows with what belongs to them; items once each.
class Collector {
 public:
  void Add(const Outcome& row, const Json& question, const std::string& text) {
    imported_.rows.push_back(row);
    if (!question.is_null() && items_.insert(row.id).second) {
      imported_.items.push_back(Dump({{"id", row.id}, {"question", Text(question)}, {"answer", row.gold}}));
    }
    if (text.empty()) return;
    imported_.transcripts.push_back(Dump({{"arm", row.arm},
                                          {"id", row.id},
                                          {"replicate", row.replicate},
                                          {"node", "answer"},
                                          {"member", row.arm},
                                          {"sample", 0},
                                          {"text", text},
                                          {"answer", row.answer.empty() ? Json() : Json(row.answer)}}));
  }
  Imported& imported() { return imported_; }

 private:
  Imported imported_;
  std::set<std::string> items_;
};

// ---- lm-evaluation-harness

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
                           Collector* out) {
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
  Collector collector;
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

// ---- Inspect

absl::StatusOr<OutcomeKind> InspectKind(const Json& value) {
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    if (text == "C") return OutcomeKind::kCorrect;
    if (text == "I") return OutcomeKind::kWrong;
    if (text == "N") return OutcomeKind::kNoAnswer;
    return InvalidArgument("the score is \"{}\"; C, I, N, true, false, 1 or 0 is needed", text);
  }
  ASSIGN_OR_RETURN(const bool right, ZeroOrOne(value, "the score"));
  return right ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
}

// A prompt is a text, or messages of which the last of the user is shown.
Json InspectQuestion(const Json& input) {
  if (!input.is_array()) return input;
  Json question;
  for (const Json& message : input) {
    if (Text(At(message, "role")) == "user") question = At(message, "content");
  }
  return question;
}

void AddUsage(const Json& sample, Outcome* row) {
  const Json usage = At(sample, "model_usage");
  if (usage.is_object()) {
    for (const Json& model : usage) {
      const Json in = At(model, "input_tokens"), out = At(model, "output_tokens"),
                 cached = At(model, "input_tokens_cache_read");
      row->prompt_tokens += in.is_number() ? in.get<double>() : 0;
      row->output_tokens += out.is_number() ? out.get<double>() : 0;
      row->cached_tokens += cached.is_number() ? cached.get<double>() : 0;
    }
  }
  const Json seconds = At(sample, "total_time");
  row->seconds = seconds.is_number() ? seconds.get<double>() : 0;
}

absl::Status AddInspectSample(const Json& sample, const std::string& arm, const std::string& cluster, Collector* out) {
  Outcome row;
  row.arm = arm;
  row.id = Text(At(sample, "id"));
  if (row.id.empty()) return InvalidArgument("has no \"id\"");
  const Json epoch = At(sample, "epoch");
  if (!epoch.is_number_integer() || epoch.get<int64_t>() < 1) return InvalidArgument("has no \"epoch\" from 1");
  row.replicate = static_cast<int32_t>(epoch.get<int64_t>() - 1);
  const Json target = At(sample, "target");
  row.gold = target.is_array() && target.size() == 1 ? Text(target[0]) : Text(target);
  row.cluster = cluster.empty() ? "" : Text(At(At(sample, "metadata"), cluster.c_str()));
  AddUsage(sample, &row);
  const Json question = InspectQuestion(At(sample, "input"));
  const std::string text = Text(At(At(sample, "output"), "completion"));
  const Json scores = At(sample, "scores");
  if (!At(sample, "error").is_null()) {
    row.kind = OutcomeKind::kFailed;
    out->Add(row, question, text);
    return absl::OkStatus();
  }
  if (!scores.is_object() || scores.empty()) return InvalidArgument("has no \"scores\"; score the log first");
  for (const auto& [scorer, score] : scores.items()) {
    Outcome one = row;
    if (scores.size() > 1) one.arm = fmt::format("{} ({})", arm, scorer);
    ASSIGN_OR_RETURN(one.kind, InspectKind(At(score, "value")));
    one.answer = Text(At(score, "answer"));
    one.rule = "inspect/" + scorer;
    out->Add(one, question, text);
  }
  return absl::OkStatus();
}

absl::StatusOr<Imported> ImportInspect(const std::string& path, const Json& log, const std::string& arm,
                                       const std::string& cluster) {
  const std::string status = Text(At(log, "status"));
  if (status != "success")
    return InvalidArgument("{}: the log's status is \"{}\"; only a finished one is read", path, status);
  const std::string model = Text(At(At(log, "eval"), "model"));
  Collector collector;
  std::set<std::pair<std::string, int64_t>> seen;
  for (const Json& sample : log["samples"]) {
    const std::string id = Text(At(sample, "id"));
    const absl::Status added = AddInspectSample(sample, model.empty() ? arm : model, cluster, &collector);
    if (!added.ok()) return Annotate(added, fmt::format("{}: sample {}", path, id));
    if (!seen.insert({id, sample["epoch"].get<int64_t>()}).second) {
      return InvalidArgument("{}: sample {}: was given before in this epoch", path, id);
    }
  }
  if (collector.imported().rows.empty()) return InvalidArgument("{}: holds no samples", path);
  return std::move(collector.imported());
}

}  // namespace

absl::StatusOr<Imported> ImportOutcomes(const std::string& path, const std::string& arm,
                                        const std::string& cluster_field) {
  if (path.ends_with(".eval")) {
    return InvalidArgument("{}: is an Inspect log in its packed form; write it as JSON: inspect log convert --to json",
                           path);
  }
  if (path.ends_with(".json")) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    const Json log = ParseJson(text);
    if (log.is_object() && At(log, "eval").is_object() && At(log, "samples").is_array()) {
      return ImportInspect(path, log, arm, cluster_field);
    }
    return InvalidArgument("{}: is no Inspect log with \"eval\" and \"samples\"", path);
  }
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  ASSIGN_OR_RETURN(const bool any, reader.Next());
  const Json first = any ? ParseJson(reader.line()) : Json();
  if (first.is_object() && IsHarnessRow(first)) return ImportHarness(path, arm, cluster_field);
  Imported own;
  ASSIGN_OR_RETURN(own.rows, ReadOutcomes(path, arm, cluster_field));
  return own;
}

}  // namespace conclave::experiment
