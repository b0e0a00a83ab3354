// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/votes.h"

#include <nlohmann/json.hpp>

#include "common/status.h"
#include "orchestrator/experiment/benchmark/line_reader.h"

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

absl::StatusOr<RunVotes> ParseRun(std::string_view line) {
  const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
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
  }
  for (const Stage& stage : run.stages) {
    stages.push_back({{"node", stage.node},
                      {"calls", stage.calls},
                      {"outcome", grade::OutcomeName(stage.kind)},
                      {"output_tokens", stage.output_tokens}});
  }
  const Json row = {{"arm", run.arm},
                    {"id", run.id},
                    {"replicate", run.replicate},
                    {"votes", std::move(votes)},
                    {"stages", std::move(stages)}};
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
