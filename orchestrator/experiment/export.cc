// SPDX-License-Identifier: Apache-2.0
// From the store to the files of a run directory.
#include <fmt/format.h>

#include <cstdio>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/analyse.h"
#include "orchestrator/experiment/runner.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;
using deliberation::v1::CallFinished;
using deliberation::v1::Event;

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
  for (size_t arm = 0; arm < plan.arms.size(); ++arm) {
    for (size_t item = 0; item < plan.items.size(); ++item) {
      for (int32_t replicate = 0; replicate < plan.declaration.replicates; ++replicate) {
        const RunKey key{arm, item, replicate};
        const auto record = deliberator.Read(RequestId(plan, key));
        if (absl::IsNotFound(record.status()) || absl::IsFailedPrecondition(record.status())) continue;
        if (!record.ok()) return record.status();
        Graded graded = GradeRun(plan, key, *record);
        outcomes.Line(ToJsonLine(graded.outcome));
        const RunVotes run{graded.outcome.arm,      graded.outcome.id,        replicate,
                           std::move(graded.votes), std::move(graded.stages), std::move(graded.talk)};
        if (!run.stages.empty()) votes.Line(ToJsonLine(run));
        for (const Event& event : record->events) {
          if (event.has_call_finished()) transcripts.Line(TranscriptLine(graded.outcome, event));
          if (event.has_call_lost()) transcripts.Line(LostLine(graded.outcome, event));
        }
        gatherer.Add(arm, item, run, graded.outcome.kind);
        rows.push_back(graded.outcome);
      }
    }
  }
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
