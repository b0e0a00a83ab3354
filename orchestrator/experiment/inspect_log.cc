// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/inspect_log.h"

#include <fmt/format.h>

#include <algorithm>

#include <set>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/eval_archive.h"
#include "orchestrator/experiment/import_rows.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kAttachment = "attachment://";
// The bulk of an agent's log, of which nothing is read here.
constexpr std::string_view kLeftOut[] = {"events", "events_data", "messages", "store"};

// As ParseJson, without what is left out of objects.
Json ParseLog(std::string_view text) {
  if (PlaceBeyondDepth(text).has_value()) return Json(Json::value_t::discarded);
  const auto keep = [](int, Json::parse_event_t event, Json& parsed) {
    return event != Json::parse_event_t::key || std::find(std::begin(kLeftOut), std::end(kLeftOut),
                                                          parsed.get_ref<const std::string&>()) == std::end(kLeftOut);
  };
  return Json::parse(text, keep, /*allow_exceptions=*/false);
}

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

// Long texts stand apart, under "attachments", and are named where they belong.
std::string Resolved(const Json& sample, std::string text) {
  if (!text.starts_with(kAttachment)) return text;
  const Json& held = At(At(sample, "attachments"), text.c_str() + kAttachment.size());
  return held.is_string() ? held.get<std::string>() : text;
}

// A message's content is a text, or parts of which the texts are shown.
std::string Content(const Json& sample, const Json& content) {
  if (!content.is_array()) return Resolved(sample, Text(content));
  std::string text;
  for (const Json& part : content) {
    if (Text(At(part, "type")) != "text") continue;
    if (!text.empty()) text += "\n";
    text += Resolved(sample, Text(At(part, "text")));
  }
  return text;
}

// A prompt is a text, or messages of which the last of the user is shown. Null where there is none.
Json InspectQuestion(const Json& sample) {
  const Json& input = At(sample, "input");
  if (input.is_string()) return Content(sample, input);
  Json question;
  if (!input.is_array()) return question;
  for (const Json& message : input) {
    if (Text(At(message, "role")) == "user") question = Content(sample, At(message, "content"));
  }
  return question;
}

// What the model said last: newer logs hold it only in the choices.
std::string InspectText(const Json& sample) {
  const Json& output = At(sample, "output");
  const Json& completion = At(output, "completion");
  if (completion.is_string()) return Resolved(sample, Text(completion));
  const Json& choices = At(output, "choices");
  return choices.is_array() && !choices.empty() ? Content(sample, At(At(choices[0], "message"), "content")) : "";
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

absl::Status AddInspectSample(const Json& sample, const std::string& arm, const std::string& cluster, ImportRows* out) {
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
  const Json question = InspectQuestion(sample);
  const std::string text = InspectText(sample);
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
    one.answer = Resolved(sample, Text(At(score, "answer")));
    one.rule = "inspect/" + scorer;
    out->Add(one, question, text);
  }
  return absl::OkStatus();
}

// Reads the samples of one log, whatever holds them.
class LogReader {
 public:
  LogReader(std::string path, std::string arm, std::string cluster)
      : path_(std::move(path)), arm_(std::move(arm)), cluster_(std::move(cluster)) {}

  // The log without its samples.
  absl::Status Header(const Json& log) {
    if (!log.is_object() || !At(log, "eval").is_object()) {
      return InvalidArgument("{}: is no Inspect log with \"eval\" and \"samples\"", path_);
    }
    const std::string status = Text(At(log, "status"));
    if (status != "success") {
      return InvalidArgument("{}: the log's status is \"{}\"; only a finished one is read", path_, status);
    }
    const std::string model = Text(At(At(log, "eval"), "model"));
    if (!model.empty()) arm_ = model;
    return absl::OkStatus();
  }

  absl::Status Sample(const Json& sample) {
    const std::string id = Text(At(sample, "id"));
    const absl::Status added = AddInspectSample(sample, arm_, cluster_, &rows_);
    if (!added.ok()) return Annotate(added, fmt::format("{}: sample {}", path_, id));
    if (!seen_.insert({id, sample["epoch"].get<int64_t>()}).second) {
      return InvalidArgument("{}: sample {}: was given before in this epoch", path_, id);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Imported> End() {
    if (rows_.imported().rows.empty()) return InvalidArgument("{}: holds no samples", path_);
    return std::move(rows_.imported());
  }

 private:
  std::string path_, arm_, cluster_;
  ImportRows rows_;
  std::set<std::pair<std::string, int64_t>> seen_;
};

}  // namespace

absl::StatusOr<Imported> ImportInspectLog(const std::string& path, const std::string& arm,
                                          const std::string& cluster_field) {
  LogReader reader(path, arm, cluster_field);
  if (path.ends_with(".eval")) {
    ASSIGN_OR_RETURN(const std::string header, ReadEvalHeader(path));
    RETURN_IF_ERROR(reader.Header(ParseLog(header)));
    RETURN_IF_ERROR(ForEachEvalSample(path, [&](std::string_view text) -> absl::Status {
      const Json sample = ParseLog(text);
      if (!sample.is_object())
        return InvalidArgument("{}: a sample is no JSON object of at most {} levels", path, kJsonDepthMax);
      return reader.Sample(sample);
    }));
    return reader.End();
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json log = ParseLog(text);
  if (!At(log, "samples").is_array()) {
    return InvalidArgument("{}: is no Inspect log with \"eval\" and \"samples\"", path);
  }
  RETURN_IF_ERROR(reader.Header(log));
  for (const Json& sample : log["samples"]) RETURN_IF_ERROR(reader.Sample(sample));
  return reader.End();
}

}  // namespace conclave::experiment
