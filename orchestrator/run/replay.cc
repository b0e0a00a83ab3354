// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/replay.h"

#include <google/protobuf/util/message_differencer.h>

#include <iterator>
#include <optional>
#include <utility>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

// Follows a record: what the machine puts out must be what was stored, until the record ends; the rest is new.
class Follower {
 public:
  Follower(std::span<const pb::Event> events, Output* rest) : events_(events), rest_(rest) {}

  absl::Status Take(Output out) {
    for (pb::Event& made : out.events) {
      if (at_ == events_.size()) {
        rest_->events.push_back(std::move(made));
        continue;
      }
      pb::Event recorded = events_[at_];
      recorded.clear_sequence_number();
      recorded.clear_time();
      ++at_;
      if (!google::protobuf::util::MessageDifferencer::Equals(recorded, made)) {
        return DataLoss("run {}: event {} is stored as \"{}\", and is \"{}\" when replayed", made.run_id(), at_,
                        recorded.ShortDebugString(), made.ShortDebugString());
      }
    }
    if (out.wall_time_ns.has_value()) rest_->wall_time_ns = out.wall_time_ns;
    return absl::OkStatus();
  }

  size_t at() const { return at_; }  // events reproduced
  bool done() const { return at_ == events_.size(); }
  const pb::Event& next() const { return events_[at_]; }

 private:
  const std::span<const pb::Event> events_;
  Output* const rest_;
  size_t at_ = 0;
};

int64_t Nanoseconds(const google::protobuf::Duration& duration) {
  return duration.seconds() * 1'000'000'000 + duration.nanos();
}

absl::StatusOr<Input> NextInput(const Machine& machine, const pb::Event& event, size_t number) {
  const bool ended = event.has_call_finished() || event.has_call_lost();
  const pb::CallKey& key = event.has_call_finished() ? event.call_finished().key() : event.call_lost().key();
  std::optional<Input> input;
  if (ended) {
    if (const auto call = machine.FindOutstanding(event.node_path(), key)) input = RecordedInput(event, *call);
  }
  if (!input.has_value()) {
    return DataLoss("run {}: event {} is stored as \"{}\", but nothing leads to it when replayed", event.run_id(),
                    number, event.ShortDebugString());
  }
  return *std::move(input);
}

}  // namespace

std::optional<Input> RecordedInput(const pb::Event& event, uint32_t call) {
  if (event.has_call_finished()) {
    const pb::CallFinished& recorded = event.call_finished();
    CallFinished input;
    input.call = call;
    input.text = recorded.text();
    if (recorded.has_answer()) input.answer = recorded.answer();
    if (recorded.has_score()) input.recorded_score = recorded.score();
    if (recorded.has_token_confidence()) {
      const pb::TokenConfidence& from = recorded.token_confidence();
      input.recorded_token_confidence = TokenConfidence{from.token_count(), from.mean_logprob(), from.mean(),
                                                        from.tail(),        from.lowest(),       from.bottom()};
    }
    for (const pb::PlanItem& item : recorded.items()) {
      input.recorded_items.push_back({item.id(), item.text(), {item.needs().begin(), item.needs().end()}});
    }
    if (recorded.has_label()) input.recorded_label = recorded.label();
    if (recorded.has_confidence()) input.recorded_confidence = recorded.confidence();
    input.recorded_ranking.assign(recorded.ranking().begin(), recorded.ranking().end());
    input.finish_reason = recorded.finish_reason();
    input.usage = recorded.usage();
    input.estimated = recorded.estimated();
    input.instance_id = recorded.instance_id();
    input.model_revision = recorded.model_revision();
    input.latency_ns = Nanoseconds(recorded.latency());
    input.recorded_repair = recorded.will_repair();
    input.from_record = true;
    return input;
  }
  if (event.has_call_lost()) {
    const pb::CallLost& recorded = event.call_lost();
    CallLost input;
    input.call = call;
    input.status = MakeStatus(static_cast<absl::StatusCode>(recorded.code()), recorded.message());
    input.usage = recorded.usage();
    input.retryable = recorded.will_retry();
    input.partial = recorded.partial();
    return input;
  }
  return std::nullopt;
}

absl::StatusOr<Resumed> Replay(std::shared_ptr<const CompiledGraph> graph, RunSpec spec,
                               std::span<const pb::Event> events, std::span<const StoredMachineInput> inputs) {
  Resumed resumed;
  ASSIGN_OR_RETURN(resumed.machine, Machine::Create(std::move(graph), std::move(spec)));
  Machine& machine = *resumed.machine;
  Follower follower(events, &resumed.rest);
  ASSIGN_OR_RETURN(Output out, machine.Step(Start{}));
  RETURN_IF_ERROR(follower.Take(std::move(out)));
  size_t next_input = 0;
  while (!machine.finished()) {
    const bool has_input = next_input < inputs.size();
    const auto at = static_cast<int64_t>(follower.at());
    if (has_input && (follower.done() || inputs[next_input].after_sequence_number <= at)) {
      Input input = std::visit([](auto value) { return Input(value); }, inputs[next_input].input);
      ++next_input;
      ASSIGN_OR_RETURN(out, machine.Step(std::move(input)));
    } else if (!follower.done()) {
      ASSIGN_OR_RETURN(Input input, NextInput(machine, follower.next(), follower.at() + 1));
      ASSIGN_OR_RETURN(out, machine.Step(std::move(input)));
    } else {
      break;
    }
    RETURN_IF_ERROR(follower.Take(std::move(out)));
  }
  if (!follower.done()) {
    return DataLoss("run {}: it ends after event {} when replayed, {} are stored", machine.spec().run_id, follower.at(),
                    events.size());
  }
  // Calls that nobody waits for any more were being cancelled when the record ended; whoever worked on them is gone.
  // What they give back of their reservations may let others begin, so those to dispatch are known only when all are
  // gone.
  const auto given_up = [&]() -> std::optional<uint32_t> {
    for (const Machine::Outstanding& outstanding : machine.OutstandingCalls()) {
      if (outstanding.cancelled) return outstanding.call.id;
    }
    return std::nullopt;
  };
  while (const std::optional<uint32_t> call = given_up()) {
    ASSIGN_OR_RETURN(out, machine.Step(CallLost{*call, Cancelled("cancelled before a restart"), {}, false}));
    RETURN_IF_ERROR(follower.Take(std::move(out)));
  }
  resumed.rest.timers = machine.PendingTimers();
  for (Machine::Outstanding& outstanding : machine.OutstandingCalls()) {
    resumed.rest.calls.push_back(std::move(outstanding.call));
  }
  return resumed;
}

}  // namespace conclave::orchestrator
