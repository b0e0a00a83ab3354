// SPDX-License-Identifier: Apache-2.0
#include "worker/convert.h"

#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"
#include "worker/model_host.h"

namespace conclave::worker {
namespace {

google::protobuf::Duration ToDuration(int64_t ns) {
  google::protobuf::Duration out;
  out.set_seconds(ns / 1'000'000'000);
  out.set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
  return out;
}

void Fill(const engine::TokenLogprob& from, const ModelHost* bytes_of, pb::TokenLogprob* to) {
  to->set_token_id(from.token);
  to->set_logprob(from.logprob);
  if (bytes_of == nullptr) return;
  engine::TokenText text = bytes_of->TextOf(from.token);
  to->set_text(std::move(text.bytes));
  to->set_hidden(text.hidden);
}

engine::Sampling ToEngine(const pb::Sampling& s) {
  engine::Sampling out;
  if (s.has_temperature()) out.temperature = s.temperature();
  if (s.has_top_k()) out.top_k = s.top_k();
  if (s.has_top_p()) out.top_p = s.top_p();
  if (s.has_min_p()) out.min_p = s.min_p();
  if (s.has_repetition_penalty()) out.repetition_penalty = s.repetition_penalty();
  if (s.has_frequency_penalty()) out.frequency_penalty = s.frequency_penalty();
  if (s.has_presence_penalty()) out.presence_penalty = s.presence_penalty();
  for (const pb::LogitBias& bias : s.logit_bias()) out.logit_bias.push_back({bias.token_id(), bias.bias()});
  return out;
}

engine::Stopping ToEngine(const pb::Stopping& s) {
  engine::Stopping out;
  if (s.has_max_output_token_count()) out.output_tokens_max = s.max_output_token_count();
  out.stop_strings.assign(s.stop_texts().begin(), s.stop_texts().end());
  out.stop_tokens.assign(s.stop_token_ids().begin(), s.stop_token_ids().end());
  out.ignore_end_of_sequence = s.ignore_end_of_sequence();
  return out;
}

engine::Constraint ToEngine(const pb::Constraint& c) {
  using Language = engine::Constraint::Language;
  switch (c.constraint_case()) {
    case pb::Constraint::kJsonSchema:
      return {Language::kJsonSchema, c.json_schema()};
    case pb::Constraint::kRegex:
      return {Language::kRegex, c.regex()};
    case pb::Constraint::kGrammar:
      return {Language::kGrammar, c.grammar()};
    case pb::Constraint::CONSTRAINT_NOT_SET:
      break;
  }
  return {};
}

}  // namespace

engine::GenerateRequest ToEngine(const pb::GenerateRequest& request) {
  engine::GenerateRequest out;
  if (request.has_sample_count()) out.samples = request.sample_count();
  out.sampling = ToEngine(request.sampling());
  out.stopping = ToEngine(request.stopping());
  out.constraint = ToEngine(request.constraint());
  if (request.output().has_top_logprob_count()) out.top_logprobs = request.output().top_logprob_count();
  out.priority = request.priority();
  out.cache_salt = request.cache_salt();
  return out;
}

absl::StatusOr<engine::RoutingPolicy> ToEngine(const pb::RoutingPolicy& routing, const engine::ModelInfo& info) {
  engine::RoutingPolicy out;
  if (!routing.has_top_k()) return out;
  if (info.experts == 0) {
    return rpc::WithReason(FailedPrecondition("routing.top_k is {}, but {} is a dense model: leave routing unset",
                                              routing.top_k(), info.name),
                           "CAPABILITY_MISSING");
  }
  if (routing.top_k() > info.experts_per_token) {
    const rpc::FieldViolation violation = {
        "routing.top_k", fmt::format("{} is over the model's own {}", routing.top_k(), info.experts_per_token)};
    return rpc::BadRequest("RoutingPolicy", {&violation, 1});
  }
  out.top_k = routing.top_k();
  return out;
}

std::vector<engine::ChatMessage> ToEngine(const pb::Chat& chat) {
  std::vector<engine::ChatMessage> out;
  out.reserve(static_cast<size_t>(chat.messages_size()));
  for (const pb::ChatMessage& message : chat.messages()) out.push_back({message.role(), message.content()});
  return out;
}

absl::Status FromEngine(const absl::Status& status) {
  return rpc::Reason(status) == "OVERLOADED" ? rpc::WithRetryDelay(status, rpc::kOverloadRetryNs) : status;
}

pb::FinishReason ToProto(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return pb::FINISH_REASON_STOP;
    case engine::FinishReason::kLength:
      return pb::FINISH_REASON_LENGTH;
    case engine::FinishReason::kCancelled:
      return pb::FINISH_REASON_CANCELLED;
    case engine::FinishReason::kFailed:
      return pb::FINISH_REASON_FAILED;
  }
  CONCLAVE_CHECK_MSG(false, "a FinishReason outside the enum");
}

pb::Usage ToProto(const engine::Usage& usage) {
  pb::Usage out;
  out.set_prompt_token_count(usage.prompt_tokens);
  out.set_cached_prompt_token_count(usage.cached_prompt_tokens);
  out.set_output_token_count(usage.output_tokens);
  out.set_flop_count(usage.flops);
  out.set_saved_flop_count(usage.saved_flops);
  out.set_weight_byte_count(usage.weight_bytes);
  out.set_kv_byte_count(usage.kv_bytes);
  out.set_expert_activation_count(usage.experts_activated);
  *out.mutable_queue_time() = ToDuration(usage.queue_ns);
  *out.mutable_prefill_time() = ToDuration(usage.prefill_ns);
  *out.mutable_decode_time() = ToDuration(usage.decode_ns);
  return out;
}

// Names come from the model file, which nobody promised to be UTF-8.
pb::Model ToProto(const engine::ModelInfo& info) {
  pb::Model out;
  out.set_name(rpc::ReplaceInvalidUtf8(info.name));
  out.set_revision(info.revision);
  out.set_family(rpc::ReplaceInvalidUtf8(info.family));
  out.set_quantization(info.quantization);
  out.set_layer_count(info.layers);
  out.set_hidden_size(info.hidden);
  out.set_head_count(info.heads);
  out.set_kv_head_count(info.kv_heads);
  out.set_vocabulary_size(info.vocab);
  out.set_expert_count(info.experts);
  out.set_experts_per_token(info.experts_per_token);
  out.set_total_parameter_count(info.params_total);
  out.set_active_parameter_count(info.params_active);
  out.set_context_token_count(info.context_tokens);
  out.set_weight_bytes_per_token(info.weight_bytes_per_token);
  out.set_kv_bytes_per_token(info.kv_bytes_per_token);
  out.set_flops_per_token(info.flops_per_token);
  out.set_output_head_flops_per_token(info.head_flops_per_token);
  out.set_attention_flops_per_token_and_position(info.attention_flops_per_token_and_position);
  out.set_has_chat_template(!info.chat_template.empty());
  out.set_supports_constraints(true);
  return out;
}

pb::GetLoadResponse ToProto(const engine::EngineLoad& load) {
  pb::GetLoadResponse out;
  out.set_running_count(load.running_sequences);
  out.set_queued_count(load.waiting_requests);
  out.set_queued_token_count(load.waiting_tokens);
  out.set_kv_block_used_count(load.kv_pages_used);
  out.set_kv_block_total_count(load.kv_pages_total);
  out.set_kv_block_token_count(load.kv_page_tokens);
  out.set_draining(load.draining);
  out.set_step_count(load.steps);
  out.set_pinned_kv_block_count(load.kv_pages_pinned);
  return out;
}

pb::Delta ToProto(const engine::SampleDelta& delta, const DeltaFields& fields) {
  pb::Delta out;
  out.set_sample_index(delta.sample);
  out.set_text(rpc::ReplaceInvalidUtf8(delta.text));
  out.set_token_count(static_cast<int32_t>(delta.tokens.size()));
  if (fields.token_ids) out.mutable_token_ids()->Assign(delta.tokens.begin(), delta.tokens.end());
  if (fields.logprobs) {
    for (size_t i = 0; i < delta.logprobs.size(); ++i) {
      pb::Logprobs* const position = out.add_logprobs();
      Fill(delta.logprobs[i], fields.bytes_of, position->mutable_chosen());
      if (i >= delta.top_logprobs.size()) continue;
      for (const engine::TokenLogprob& top : delta.top_logprobs[i]) Fill(top, fields.bytes_of, position->add_top());
    }
  }
  return out;
}

}  // namespace conclave::worker
