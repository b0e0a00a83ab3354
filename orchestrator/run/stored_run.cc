// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/stored_run.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "conclave/deliberation/v1/stored_run.pb.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

// Maps in the order of their keys, so that equal messages have equal bytes.
std::string SerializeDeterministically(const google::protobuf::Message& message) {
  std::string out;
  google::protobuf::io::StringOutputStream stream(&out);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return out;
}

absl::Status Unreadable(std::string_view run_id, std::string_view what) {
  return DataLoss("STORE_CORRUPT: run {}: its {} cannot be read", run_id, what);
}

}  // namespace

std::string EncodeRun(const pb::RunRequest& request, const RunSpec& spec) {
  pb::StoredRun out;
  *out.mutable_request() = request;
  out.mutable_request()->clear_graph_source();
  if (request.has_graph_name()) out.mutable_request()->set_graph_name(request.graph_name());
  *out.mutable_request()->mutable_sampling() = spec.sampling;
  out.mutable_request()->set_seed(spec.seed);
  out.mutable_request()->set_item_id(spec.item_id);
  out.mutable_request()->clear_result_constraint();
  if (spec.result_constraint != nullptr) *out.mutable_request()->mutable_result_constraint() = *spec.result_constraint;
  out.mutable_request()->clear_result_logprob_count();
  if (spec.result_logprobs.has_value()) out.mutable_request()->set_result_logprob_count(*spec.result_logprobs);
  out.mutable_request()->clear_inputs();
  for (const auto& [name, value] : spec.inputs) (*out.mutable_request()->mutable_inputs())[name] = value;
  for (const RunMember& member : spec.members) {
    pb::StoredRun::Member* to = out.add_members();
    to->set_name(member.name);
    to->set_weight(member.weight);
    to->set_flops_per_token(member.cost.flops_per_token);
    to->set_head_flops_per_token(member.cost.head_flops_per_token);
    to->set_attention_flops_per_token_and_position(member.cost.attention_flops_per_token_and_position);
    to->set_weight_bytes_per_token(member.cost.weight_bytes_per_token);
    to->set_kv_bytes_per_token(member.cost.kv_bytes_per_token);
    to->set_characters_per_token(member.cost.characters_per_token);
  }
  for (const auto& [name, members] : spec.binding) {
    pb::Binding* to = out.add_bindings();
    to->set_name(name);
    for (const int32_t member : members) to->add_members(spec.members[static_cast<size_t>(member)].name);
  }
  for (const NamedBudget& budget : spec.budgets) {
    pb::StoredRun::NamedBudget* to = out.add_budgets();
    to->set_name(budget.name);
    *to->mutable_budget() = budget.budget;
  }
  return out.SerializeAsString();
}

absl::StatusOr<DecodedRun> DecodeRun(std::string_view run_id, std::string_view bytes) {
  pb::StoredRun stored;
  if (!stored.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return Unreadable(run_id, "request");
  DecodedRun out;
  RunSpec& spec = out.spec;
  spec.run_id = std::string(run_id);
  spec.seed = stored.request().seed();
  spec.sampling = stored.request().sampling();
  spec.item_id = stored.request().item_id();
  if (stored.request().has_result_constraint()) {
    spec.result_constraint = std::make_shared<const pb::OutputConstraint>(stored.request().result_constraint());
  }
  if (stored.request().has_result_logprob_count()) spec.result_logprobs = stored.request().result_logprob_count();
  for (const auto& [name, value] : stored.request().inputs()) spec.inputs[name] = value;
  std::map<std::string, int32_t> index;
  for (const pb::StoredRun::Member& from : stored.members()) {
    RunMember member;
    member.name = from.name();
    member.weight = from.weight();
    member.cost.flops_per_token = from.flops_per_token();
    member.cost.head_flops_per_token = from.head_flops_per_token();
    member.cost.attention_flops_per_token_and_position = from.attention_flops_per_token_and_position();
    member.cost.weight_bytes_per_token = from.weight_bytes_per_token();
    member.cost.kv_bytes_per_token = from.kv_bytes_per_token();
    member.cost.characters_per_token = from.characters_per_token();
    index[member.name] = static_cast<int32_t>(spec.members.size());
    spec.members.push_back(std::move(member));
  }
  for (const pb::Binding& binding : stored.bindings()) {
    for (const std::string& name : binding.members()) {
      const auto found = index.find(name);
      if (found == index.end()) return Unreadable(run_id, "binding");
      spec.binding[binding.name()].push_back(found->second);
    }
  }
  for (const pb::StoredRun::NamedBudget& budget : stored.budgets()) {
    spec.budgets.push_back({budget.name(), budget.budget()});
  }
  out.request = std::move(*stored.mutable_request());
  return out;
}

std::string RequestHash(const pb::RunRequest& request) {
  pb::RunRequest payload = request;
  payload.clear_request_id();
  return Sha256Hex(SerializeDeterministically(payload));
}

std::string EncodeEvent(const pb::Event& event) { return event.SerializeAsString(); }

absl::StatusOr<pb::Event> DecodeEvent(std::string_view run_id, int64_t sequence_number, std::string_view bytes) {
  pb::Event event;
  if (!event.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      event.event_case() == pb::Event::EVENT_NOT_SET) {
    return Unreadable(run_id, fmt::format("event {}", sequence_number));
  }
  if (event.sequence_number() != sequence_number || event.run_id() != run_id) {
    return DataLoss("STORE_CORRUPT: run {}: where event {} should be is event {} of run {}", run_id, sequence_number,
                    event.sequence_number(), event.run_id());
  }
  return event;
}

std::string EncodeInput(const StoredKind& input) {
  pb::StoredInput out;
  if (std::holds_alternative<CancelRequested>(input)) {
    out.set_cancel_requested(true);
  } else if (const auto* timer = std::get_if<TimerExpired>(&input)) {
    out.set_timer_expired(timer->timer);
  } else {
    out.set_wall_time_expired(true);
  }
  return out.SerializeAsString();
}

absl::StatusOr<StoredMachineInput> DecodeInput(std::string_view run_id, int64_t after_sequence_number,
                                               std::string_view bytes) {
  pb::StoredInput stored;
  if (!stored.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return Unreadable(run_id, "input");
  switch (stored.input_case()) {
    case pb::StoredInput::kWallTimeExpired:
      return StoredMachineInput{after_sequence_number, WallTimeExpired{}};
    case pb::StoredInput::kCancelRequested:
      return StoredMachineInput{after_sequence_number, CancelRequested{}};
    case pb::StoredInput::kTimerExpired:
      return StoredMachineInput{after_sequence_number, TimerExpired{stored.timer_expired()}};
    case pb::StoredInput::INPUT_NOT_SET:
      break;
  }
  return Unreadable(run_id, "input");
}

}  // namespace conclave::orchestrator
