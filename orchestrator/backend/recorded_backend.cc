// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/recorded_backend.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/status.h"
#include "orchestrator/ledger/cost.h"

namespace conclave::orchestrator {
namespace {

class RecordedBackend final : public Backend {
 public:
  explicit RecordedBackend(std::vector<RecordedMember> members) : members_(std::move(members)) {
    for (const RecordedMember& member : members_) by_name_[member.name] = &member;
  }

  void Start(CallRequest request, CallSink* sink) override {
    CallOutcome outcome = Answer(request);
    if (request.stream_tokens && outcome.status.ok()) {
      sink->OnDelta(request.id, {outcome.text, static_cast<int32_t>(outcome.usage.output_token_count())});
    }
    sink->OnDone(request.id, std::move(outcome));
  }

  void Cancel(CallId) override {}  // nothing outlives Start

  std::vector<MemberFacts> Describe() const override {
    std::vector<MemberFacts> out;
    for (const RecordedMember& member : members_) {
      out.push_back({.name = member.name,
                     .backend = "recorded",
                     .location = member.path,
                     .available = true,
                     .weight = member.weight,
                     .card = member.card,
                     .abilities = {.logprobs = false, .json_schema = false, .grammar = false}});
    }
    return out;
  }

 private:
  CallOutcome Answer(const CallRequest& request) const {
    CallOutcome out;
    const auto found = by_name_.find(request.member);
    if (found == by_name_.end()) {
      out.status = NotFound("MEMBER_NOT_FOUND: no member \"{}\" among the recordings", request.member);
      return out;
    }
    const RecordedMember& member = *found->second;
    if (request.p_true.has_value()) {
      out.status = FailedPrecondition("CAPABILITY_MISSING: member \"{}\" is a recording and has no log-probabilities",
                                      member.name);
      return out;
    }
    const benchmark::RecordedAnswer* recorded =
        request.sample < 0 ? nullptr
                           : member.answers->Find(member.model, request.item_id, static_cast<uint32_t>(request.sample));
    if (recorded == nullptr) {
      out.status = NotFound("RECORDING_MISSING: {}: model \"{}\" has no sample {} of item \"{}\"", member.path,
                            member.model, request.sample, request.item_id);
      return out;
    }
    out.text = std::string(recorded->text);
    if (recorded->answer.has_value()) out.answer = std::string(*recorded->answer);
    out.finish_reason = inference::v1::FINISH_REASON_STOP;
    int64_t prompt_bytes = 0;
    for (const auto& message : request.prompt) prompt_bytes += static_cast<int64_t>(message.content().size());
    out.usage = EstimateUsage(CostOf(member.card.value_or(deliberation::v1::Card())), prompt_bytes,
                              static_cast<int64_t>(out.text.size()));
    out.estimated = true;
    out.instance_id = "recorded";
    out.model_revision = member.model;
    return out;
  }

  const std::vector<RecordedMember> members_;
  std::map<std::string, const RecordedMember*> by_name_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewRecordedBackend(std::vector<RecordedMember> members) {
  for (const RecordedMember& member : members) {
    const auto models = member.answers->models();
    if (std::find(models.begin(), models.end(), member.model) != models.end()) continue;
    return InvalidArgument("member \"{}\": {} holds no answers of \"{}\"; it has {} models, e.g. \"{}\"", member.name,
                           member.path, member.model, models.size(), models.empty() ? "" : models.front());
  }
  return std::make_unique<RecordedBackend>(std::move(members));
}

}  // namespace conclave::orchestrator
