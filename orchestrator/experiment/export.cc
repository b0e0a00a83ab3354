// SPDX-License-Identifier: Apache-2.0
// From the store to the files of a run directory.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <unordered_map>

#include "common/file.h"
#include "common/status.h"
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

// Gathers what summary.json says about the group and the votes.
class Gatherer {
 public:
  explicit Gatherer(const Plan& plan) : plan_(plan), arm_votes_(plan.arms.size()) {
    for (size_t a = 0; a < plan.arms.size(); ++a) arm_votes_[a].arm = plan.arms[a].name;
  }

  void Add(const RunKey& key, const Graded& graded) {
    if (key.replicate != 0 || graded.votes.empty()) return;
    AddVotes(key.arm, graded);
    for (const Graded::Vote& vote : graded.votes) {
      if (vote.sample == 0) own_[vote.member].try_emplace(key.item, vote);
    }
  }

  std::vector<ArmVotes> Votes() {
    std::vector<ArmVotes> out;
    for (size_t a = 0; a < arm_votes_.size(); ++a) {
      ArmVotes& votes = arm_votes_[a];
      if (votes.items.empty() || votes.items[0].total() < 2) continue;
      votes.flops_per_vote = counts_[a] > 0 ? votes.flops_per_vote / counts_[a] : 0;
      out.push_back(std::move(votes));
    }
    return out;
  }

  // Members whose own answer to every item with any answer is known.
  GroupAnswers Group() const {
    GroupAnswers group;
    std::vector<const std::map<size_t, Graded::Vote>*> rows;
    const auto take = [&](const std::string& name) {
      const auto it = own_.find(name);
      if (it == own_.end() || it->second.size() != MostItems()) return;
      group.members.push_back(name);
      rows.push_back(&it->second);
    };
    if (plan_.group.empty()) {
      for (const auto& [name, answers] : own_) take(name);
    } else {
      for (const std::string& name : plan_.group) take(name);
    }
    if (rows.empty()) return group;
    for (const auto& [item, unused] : *rows[0]) {
      std::unordered_map<std::string, int32_t> classes;
      for (const auto* row : rows) {
        const auto it = row->find(item);
        const Graded::Vote vote = it == row->end() ? Graded::Vote{} : it->second;
        group.correct.push_back(vote.kind == OutcomeKind::kCorrect ? 1 : 0);
        group.answers.push_back(
            vote.answer_class.empty()
                ? -1
                : classes.try_emplace(vote.answer_class, static_cast<int32_t>(classes.size())).first->second);
      }
    }
    return group;
  }

 private:
  size_t MostItems() const {
    size_t most = 0;
    for (const auto& [name, answers] : own_) most = std::max(most, answers.size());
    return most;
  }

  void AddVotes(size_t arm, const Graded& graded) {
    stats::VoteCounts counts;
    std::map<std::string, uint32_t> wrong;
    for (const Graded::Vote& vote : graded.votes) {
      if (vote.kind == OutcomeKind::kCorrect) {
        ++counts.correct;
      } else if (vote.answer_class.empty()) {
        ++counts.no_answer;
      } else {
        ++wrong[vote.answer_class];
      }
      arm_votes_[arm].flops_per_vote += vote.flops;
      ++counts_[arm];
    }
    for (const auto& [answer, count] : wrong) counts.wrong.push_back(count);
    arm_votes_[arm].items.push_back(std::move(counts));
  }

  const Plan& plan_;
  std::vector<ArmVotes> arm_votes_;
  std::map<size_t, double> counts_;                            // votes per arm
  std::map<std::string, std::map<size_t, Graded::Vote>> own_;  // member -> item -> first answer
};

bool HasRows(const std::vector<Outcome>& rows, const std::string& arm) {
  return std::any_of(rows.begin(), rows.end(), [&](const Outcome& row) { return row.arm == arm; });
}

}  // namespace

absl::Status Export(const Plan& plan, Deliberator& deliberator, const std::string& directory) {
  LineFile items(directory + "/items.jsonl"), outcomes(directory + "/outcomes.jsonl"),
      transcripts(directory + "/transcripts.jsonl");
  for (const benchmark::Item& item : plan.items) {
    Json json = {{"id", item.id}, {"question", item.question}, {"answer", item.answer}};
    if (!item.choices.empty()) json["choices"] = item.choices;
    if (!item.cluster.empty()) json["cluster"] = item.cluster;
    if (!item.stratum.empty()) json["stratum"] = item.stratum;
    items.Line(Dump(json));
  }

  std::vector<Outcome> rows;
  Gatherer gatherer(plan);
  for (size_t arm = 0; arm < plan.arms.size(); ++arm) {
    for (size_t item = 0; item < plan.items.size(); ++item) {
      for (int32_t replicate = 0; replicate < plan.declaration.replicates; ++replicate) {
        const RunKey key{arm, item, replicate};
        const auto record = deliberator.Read(RequestId(plan, key));
        if (absl::IsNotFound(record.status()) || absl::IsFailedPrecondition(record.status())) continue;
        if (!record.ok()) return record.status();
        const Graded graded = GradeRun(plan, key, *record);
        outcomes.Line(ToJsonLine(graded.outcome));
        for (const Event& event : record->events) {
          if (event.has_call_finished()) transcripts.Line(TranscriptLine(graded.outcome, event));
          if (event.has_call_lost()) transcripts.Line(LostLine(graded.outcome, event));
        }
        gatherer.Add(key, graded);
        rows.push_back(graded.outcome);
      }
    }
  }
  RETURN_IF_ERROR(items.Finish());
  RETURN_IF_ERROR(outcomes.Finish());
  RETURN_IF_ERROR(transcripts.Finish());
  if (rows.empty()) return FailedPrecondition("{}: no run has finished yet, there is nothing to summarize", directory);
  // An experiment that ended early may not have come to every arm.
  Declaration declaration = plan.declaration;
  std::vector<std::string> left_out;
  std::erase_if(declaration.contrasts, [&](const ContrastSpec& contrast) {
    const bool comparable = HasRows(rows, contrast.a) && HasRows(rows, contrast.b);
    if (!comparable)
      left_out.push_back(fmt::format("{} - {}: not compared, an arm has no outcomes", contrast.a, contrast.b));
    return !comparable;
  });
  ASSIGN_OR_RETURN(Json summary, Summarize(declaration, rows, gatherer.Group(), gatherer.Votes()));
  for (std::string& warning : left_out) summary["warnings"].push_back(std::move(warning));
  return WriteFileAtomically(directory + "/summary.json", summary.dump(2) + "\n");
}

}  // namespace conclave::experiment
