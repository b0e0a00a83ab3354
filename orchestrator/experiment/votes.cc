// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/votes.h"

#include <nlohmann/json.hpp>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "orchestrator/experiment/parse_json.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

// Reads a field of the type it must have. `what` names it in the error.
template <typename T>
absl::Status Take(const Json& object, const char* key, T* out) {
  const auto it = object.find(key);
  if constexpr (std::is_same_v<T, std::string>) {
    if (it == object.end() || !it->is_string()) return InvalidArgument("\"{}\" is missing or no string", key);
  } else {
    if (it == object.end() || !it->is_number()) return InvalidArgument("\"{}\" is missing or no number", key);
  }
  *out = it->get<T>();
  return absl::OkStatus();
}

absl::Status TakeKind(const Json& object, OutcomeKind* out) {
  std::string name;
  RETURN_IF_ERROR(Take(object, "outcome", &name));
  const auto kind = grade::OutcomeFromName(name);
  if (!kind) return InvalidArgument("\"outcome\" is \"{}\"", name);
  *out = *kind;
  return absl::OkStatus();
}

// The array at `key`, of objects.
absl::StatusOr<Json> TakeObjects(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array()) return InvalidArgument("\"{}\" is missing or no array", key);
  for (const Json& entry : *it) {
    if (!entry.is_object()) return InvalidArgument("\"{}\" holds {}, an object is needed", key, entry.dump());
  }
  return *it;
}

// true, false or null at a place of an array.
absl::Status TakeFlag(const Json& list, size_t at, std::optional<bool>* out) {
  if (list[at].is_null()) return absl::OkStatus();
  if (!list[at].is_boolean()) return InvalidArgument("{}: true, false or null is needed", list.dump());
  *out = list[at].get<bool>();
  return absl::OkStatus();
}

// "revisions": [[before, after, adopted]], "scores": [[node, score, right]]; a run without has none.
absl::Status TakeTalk(const Json& row, Talk* talk) {
  for (const char* key : {"revisions", "scores"}) {
    const auto it = row.find(key);
    if (it == row.end()) continue;
    if (!it->is_array()) return InvalidArgument("\"{}\" is no array", key);
    for (const Json& entry : *it) {
      if (!entry.is_array() || entry.size() != 3) return InvalidArgument("\"{}\" holds {}", key, entry.dump());
      if (std::string_view(key) == "scores") {
        if (!entry[0].is_string() || !entry[1].is_number()) return InvalidArgument("\"scores\" holds {}", entry.dump());
        Talk::Score& score = talk->scores.emplace_back();
        score.node = entry[0].get<std::string>();
        score.score = entry[1].get<double>();
        RETURN_IF_ERROR(TakeFlag(entry, 2, &score.right));
      } else {
        if (!entry[0].is_boolean() || !entry[1].is_boolean()) {
          return InvalidArgument("\"revisions\" holds {}", entry.dump());
        }
        stats::Revision& revision = talk->revisions.emplace_back();
        revision.right_before = entry[0].get<bool>();
        revision.right_after = entry[1].get<bool>();
        RETURN_IF_ERROR(TakeFlag(entry, 2, &revision.adopted_majority));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RunVotes> ParseRun(std::string_view line) {
  const Json row = ParseJson(line);
  if (!row.is_object()) return InvalidArgument("is not a JSON object");
  RunVotes run;
  RETURN_IF_ERROR(Take(row, "arm", &run.arm));
  RETURN_IF_ERROR(Take(row, "id", &run.id));
  RETURN_IF_ERROR(Take(row, "replicate", &run.replicate));
  ASSIGN_OR_RETURN(const Json votes, TakeObjects(row, "votes"));
  for (const Json& entry : votes) {
    Vote& vote = run.votes.emplace_back();
    RETURN_IF_ERROR(Take(entry, "member", &vote.member));
    RETURN_IF_ERROR(Take(entry, "sample", &vote.sample));
    RETURN_IF_ERROR(Take(entry, "class", &vote.answer_class));
    RETURN_IF_ERROR(Take(entry, "flops", &vote.flops));
    if (entry.contains("seconds")) RETURN_IF_ERROR(Take(entry, "seconds", &vote.seconds));
    RETURN_IF_ERROR(TakeKind(entry, &vote.kind));
  }
  ASSIGN_OR_RETURN(const Json stages, TakeObjects(row, "stages"));
  for (const Json& entry : stages) {
    Stage& stage = run.stages.emplace_back();
    RETURN_IF_ERROR(Take(entry, "node", &stage.node));
    RETURN_IF_ERROR(Take(entry, "calls", &stage.calls));
    RETURN_IF_ERROR(Take(entry, "output_tokens", &stage.output_tokens));
    RETURN_IF_ERROR(TakeKind(entry, &stage.kind));
  }
  RETURN_IF_ERROR(TakeTalk(row, &run.talk));
  return run;
}

}  // namespace

std::string ToJsonLine(const RunVotes& run) {
  Json votes = Json::array(), stages = Json::array();
  for (const Vote& vote : run.votes) {
    votes.push_back({{"member", vote.member},
                     {"sample", vote.sample},
                     {"outcome", grade::OutcomeName(vote.kind)},
                     {"class", vote.answer_class},
                     {"flops", vote.flops}});
    if (vote.seconds > 0) votes.back()["seconds"] = vote.seconds;
  }
  for (const Stage& stage : run.stages) {
    stages.push_back({{"node", stage.node},
                      {"calls", stage.calls},
                      {"outcome", grade::OutcomeName(stage.kind)},
                      {"output_tokens", stage.output_tokens}});
  }
  Json row = {{"arm", run.arm},
              {"id", run.id},
              {"replicate", run.replicate},
              {"votes", std::move(votes)},
              {"stages", std::move(stages)}};
  const auto flag = [](const std::optional<bool>& value) { return value ? Json(*value) : Json(); };
  for (const stats::Revision& r : run.talk.revisions) {
    row["revisions"].push_back(Json::array({r.right_before, r.right_after, flag(r.adopted_majority)}));
  }
  for (const Talk::Score& s : run.talk.scores) row["scores"].push_back(Json::array({s.node, s.score, flag(s.right)}));
  return row.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status ReadVotes(const std::string& path, const std::function<void(RunVotes)>& visit) {
  ASSIGN_OR_RETURN(benchmark::LineReader reader, benchmark::LineReader::Open(path));
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) return absl::OkStatus();
    auto run = ParseRun(reader.line());
    if (!run.ok()) return reader.Error(Message(run.status()));
    visit(*std::move(run));
  }
}

}  // namespace conclave::experiment
