// SPDX-License-Identifier: Apache-2.0
// From the store to the files of a run directory.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <future>
#include <thread>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/analyse.h"
#include "orchestrator/experiment/runner.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;
using deliberation::v1::CallFinished;
using deliberation::v1::Event;

constexpr size_t kRunsTogether = 32;

// A file written line by line beside its final name, and renamed when complete.
class LineFile {
 public:
  explicit LineFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".tmp") {
    file_ = std::fopen(temporary_.c_str(), "wb");
  }
  ~LineFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void Line(const std::string& line) {
    if (file_ == nullptr) return;
    std::fwrite(line.data(), 1, line.size(), file_);
    std::fputc('\n', file_);
  }

  absl::Status Finish() {
    if (file_ == nullptr) return Internal("{}: cannot be created", temporary_);
    const bool bad = std::ferror(file_) != 0;
    const bool closed = std::fclose(file_) == 0;
    file_ = nullptr;
    if (bad || !closed) return ResourceExhausted("{}: cannot be written, is the disk full?", temporary_);
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return Internal("{}: cannot be put in place", path_);
    return absl::OkStatus();
  }

 private:
  const std::string path_, temporary_;
  std::FILE* file_;
};

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string TranscriptLine(const Outcome& run, const Event& event) {
  const CallFinished& call = event.call_finished();
  Json prompt = Json::array();
  for (const auto& message : call.prompt())
    prompt.push_back({{"role", message.role()}, {"content", message.content()}});
  const auto& usage = call.usage();
  return Dump({{"arm", run.arm},
               {"id", run.id},
               {"replicate", run.replicate},
               {"node", event.node_path()},
               {"role", call.role()},
               {"member", call.key().member()},
               {"sample", call.key().sample()},
               {"subject", call.key().subject() < 0 ? Json() : Json(call.key().subject())},
               {"seed", call.seed()},
               {"text", call.text()},
               {"answer", call.has_answer() ? Json(call.answer()) : Json()},
               {"score", call.has_score() ? Json(call.score()) : Json()},
               {"finish", inference::v1::FinishReason_Name(call.finish_reason())},
               {"prompt", std::move(prompt)},
               {"usage",
                {{"prompt_tokens", usage.prompt_token_count()},
                 {"cached_tokens", usage.cached_prompt_token_count()},
                 {"output_tokens", usage.output_token_count()},
                 {"flops", usage.flop_count()},
                 {"weight_bytes", usage.weight_byte_count()},
                 {"kv_bytes", usage.kv_byte_count()},
                 {"estimated", call.estimated()}}},
               {"instance", call.instance_id()},
               {"model_revision", call.model_revision()}});
}

std::string LostLine(const Outcome& run, const Event& event) {
  const auto& lost = event.call_lost();
  return Dump({{"arm", run.arm},
               {"id", run.id},
               {"replicate", run.replicate},
               {"node", event.node_path()},
               {"member", lost.key().member()},
               {"sample", lost.key().sample()},
               {"attempt", lost.key().attempt()},
               {"lost", lost.message()},
               {"code", lost.code()},
               {"will_retry", lost.will_retry()}});
}

// One run as it goes into the files; empty where it has not finished.
struct Exported {
  size_t arm = 0, item = 0;
  bool finished = false;
  Outcome outcome;
  RunVotes votes;
  std::string outcome_line, votes_line, transcript_lines;  // without the last newline
};

absl::StatusOr<Exported> Prepare(const Plan& plan, Deliberator& deliberator, const RunKey& key) {
  Exported out;
  out.arm = key.arm;
  out.item = key.item;
  const auto record = deliberator.Read(RequestId(plan, key));
  if (absl::IsNotFound(record.status()) || absl::IsFailedPrecondition(record.status())) return out;
  if (!record.ok()) return record.status();
  Graded graded = GradeRun(plan, key, *record);
  out.finished = true;
  out.votes = {graded.outcome.arm,      graded.outcome.id,        key.replicate,
               std::move(graded.votes), std::move(graded.stages), std::move(graded.talk)};
  out.outcome = std::move(graded.outcome);
  out.outcome_line = ToJsonLine(out.outcome);
  if (!out.votes.stages.empty()) out.votes_line = ToJsonLine(out.votes);
  for (const Event& event : record->events) {
    if (!event.has_call_finished() && !event.has_call_lost()) continue;
    if (!out.transcript_lines.empty()) out.transcript_lines += '\n';
    out.transcript_lines +=
        event.has_call_finished() ? TranscriptLine(out.outcome, event) : LostLine(out.outcome, event);
  }
  return out;
}

// Calls `take` with every run in order, while the next ones are read and graded on all cores.
absl::Status ForEachRun(const Plan& plan, Deliberator& deliberator, const std::function<void(const Exported&)>& take) {
  std::vector<RunKey> keys;
  for (size_t arm = 0; arm < plan.arms.size(); ++arm) {
    for (size_t item = 0; item < plan.items.size(); ++item) {
      for (int32_t replicate = 0; replicate < plan.declaration.replicates; ++replicate) {
        keys.push_back({arm, item, replicate});
      }
    }
  }
  const auto prepare = [&](size_t begin) -> absl::StatusOr<std::vector<Exported>> {
    std::vector<Exported> chunk;
    for (size_t i = begin; i < std::min(begin + kRunsTogether, keys.size()); ++i) {
      ASSIGN_OR_RETURN(Exported run, Prepare(plan, deliberator, keys[i]));
      chunk.push_back(std::move(run));
    }
    return chunk;
  };
  const size_t threads = std::max(1u, std::thread::hardware_concurrency());
  std::deque<std::future<absl::StatusOr<std::vector<Exported>>>> ahead;
  for (size_t next = 0; next < keys.size() || !ahead.empty();) {
    for (; ahead.size() <= threads && next < keys.size(); next += kRunsTogether) {
      ahead.push_back(std::async(std::launch::async, prepare, next));
    }
    auto chunk = ahead.front().get();
    ahead.pop_front();
    if (!chunk.ok()) return chunk.status();
    for (const Exported& run : *chunk) {
      if (run.finished) take(run);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Export(const Plan& plan, Deliberator& deliberator, const std::string& directory) {
  LineFile items(directory + "/items.jsonl"), outcomes(directory + "/outcomes.jsonl"),
      votes(directory + "/votes.jsonl"), transcripts(directory + "/transcripts.jsonl");
  for (const benchmark::Item& item : plan.items) {
    Json json = {{"id", item.id}, {"question", item.question}, {"answer", item.answer}};
    if (!item.choices.empty()) json["choices"] = item.choices;
    if (!item.cluster.empty()) json["cluster"] = item.cluster;
    if (!item.stratum.empty()) json["stratum"] = item.stratum;
    items.Line(Dump(json));
  }

  std::vector<Outcome> rows;
  std::vector<std::string> arms;
  for (const ArmPlan& arm : plan.arms) arms.push_back(arm.name);
  Gatherer gatherer(arms, plan.group);
  RETURN_IF_ERROR(ForEachRun(plan, deliberator, [&](const Exported& run) {
    outcomes.Line(run.outcome_line);
    if (!run.votes_line.empty()) votes.Line(run.votes_line);
    if (!run.transcript_lines.empty()) transcripts.Line(run.transcript_lines);
    gatherer.Add(run.arm, run.item, run.votes, run.outcome.kind);
    rows.push_back(run.outcome);
  }));
  RETURN_IF_ERROR(items.Finish());
  RETURN_IF_ERROR(outcomes.Finish());
  RETURN_IF_ERROR(votes.Finish());
  RETURN_IF_ERROR(transcripts.Finish());
  if (rows.empty()) return FailedPrecondition("{}: no run has finished yet, there is nothing to summarize", directory);
  ASSIGN_OR_RETURN(Json summary, Analyse(plan.declaration, rows, gatherer));
  for (const std::string& note : plan.notes) summary["warnings"].push_back(note);
  return WriteFileAtomically(directory + "/summary.json", summary.dump(2) + "\n");
}

}  // namespace conclave::experiment
