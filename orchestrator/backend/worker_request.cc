// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_request.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "orchestrator/ledger/cost.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;

pb::Prompt ToPrompt(const CallRequest& request, const pb::Model& model) {
  pb::Prompt prompt;
  if (model.has_chat_template() && !request.plain) {
    if (request.now_unix_seconds.has_value()) {
      prompt.mutable_chat()->set_now_unix_seconds(*request.now_unix_seconds);
    }
    for (const deliberation::v1::PromptMessage& message : request.prompt) {
      pb::ChatMessage* chat = prompt.mutable_chat()->add_messages();
      chat->set_role(message.role());
      chat->set_content(message.content());
    }
    return prompt;
  }
  for (const deliberation::v1::PromptMessage& message : request.prompt) {
    if (!prompt.text().empty()) prompt.mutable_text()->append("\n\n");
    prompt.mutable_text()->append(message.content());
  }
  return prompt;
}

pb::Constraint ToConstraint(const deliberation::v1::OutputConstraint& from) {
  pb::Constraint to;
  switch (from.constraint_case()) {
    case deliberation::v1::OutputConstraint::kJsonSchema:
      to.set_json_schema(from.json_schema());
      break;
    case deliberation::v1::OutputConstraint::kRegex:
      to.set_regex(from.regex());
      break;
    case deliberation::v1::OutputConstraint::kGrammar:
      to.set_grammar(from.grammar());
      break;
    case deliberation::v1::OutputConstraint::CONSTRAINT_NOT_SET:
      break;
  }
  return to;
}

// A product of counts as the wire's integer; saturates instead of overflowing.
int64_t ToCount(double value) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max() / 2;
  return value >= static_cast<double>(kMax) ? kMax : static_cast<int64_t>(value);
}

}  // namespace

pb::GenerateRequest ToGenerate(const CallRequest& request, const pb::Model& model, std::string_view request_id) {
  pb::GenerateRequest out;
  out.set_request_id(std::string(request_id));
  *out.mutable_prompt() = ToPrompt(request, model);
  out.set_sample_count(1);
  // The wire's seed is signed; both sides take all 64 bits.
  out.set_seed(static_cast<int64_t>(request.seed));
  const deliberation::v1::SamplingDefaults& from = request.sampling;
  pb::Sampling* to = out.mutable_sampling();
  if (from.has_temperature()) to->set_temperature(from.temperature());
  if (from.has_top_k()) to->set_top_k(from.top_k());
  if (from.has_top_p()) to->set_top_p(from.top_p());
  if (from.has_min_p()) to->set_min_p(from.min_p());
  if (from.has_repetition_penalty()) to->set_repetition_penalty(from.repetition_penalty());
  if (from.has_max_output_tokens()) out.mutable_stopping()->set_max_output_token_count(from.max_output_tokens());
  const bool traced = request.token_trace || request.logprobs.has_value();
  if (traced) {
    const int32_t top = std::max(request.token_trace ? kConfidenceTokens : 0, request.logprobs.value_or(0));
    out.mutable_output()->set_top_logprob_count(top);
  }
  if (request.logprobs.has_value()) out.mutable_output()->set_token_bytes(true);
  if (request.constraint != nullptr && model.supports_constraints()) {
    *out.mutable_constraint() = ToConstraint(*request.constraint);
  }
  if (request.ignore_eos) out.mutable_stopping()->set_ignore_end_of_sequence(true);
  // What a call may go on from after a loss. Traces would have a hole there, so that such calls begin anew.
  if (!traced) out.mutable_output()->set_token_ids(true);
  if (request.partial != nullptr && request.partial->model_revision() == model.revision() && !traced) {
    *out.mutable_continuation()->mutable_generated_token_ids() = request.partial->token_ids();
  }
  for (const std::string& stop : from.stop()) out.mutable_stopping()->add_stop_texts(stop);
  if (from.has_experts_per_token()) out.mutable_routing()->set_top_k(from.experts_per_token());
  return out;
}

pb::ScoreRequest ToScore(const CallRequest& request, const pb::Model& model) {
  pb::ScoreRequest out;
  *out.mutable_prompt() = ToPrompt(request, model);
  const PTrueContinuations continuations = request.p_true.value_or(PTrueContinuations());
  out.add_continuations()->set_text(continuations.yes);
  out.add_continuations()->set_text(continuations.no);
  if (request.sampling.has_experts_per_token()) {
    out.mutable_routing()->set_top_k(request.sampling.experts_per_token());
  }
  return out;
}

pb::PinPrefixRequest ToPin(const CallRequest& trunk, const pb::Model& model) {
  pb::PinPrefixRequest out;
  *out.mutable_prompt() = ToPrompt(trunk, model);
  if (out.prompt().has_chat()) out.mutable_prompt()->mutable_chat()->set_generation_prompt(false);
  if (trunk.sampling.has_experts_per_token()) out.mutable_routing()->set_top_k(trunk.sampling.experts_per_token());
  return out;
}

std::optional<double> PTrue(const pb::ScoreResponse& response) {
  if (response.continuations_size() != 2) return std::nullopt;
  const double yes = response.continuations(0).logprob();
  const double no = response.continuations(1).logprob();
  if (!std::isfinite(yes) || !std::isfinite(no)) return std::nullopt;
  return 1.0 / (1.0 + std::exp(no - yes));  // the ratio without forming either probability
}

pb::Usage EstimateLostWork(const pb::Model& model, int64_t prompt_tokens, int64_t cached_tokens,
                           int64_t output_tokens) {
  const double context = static_cast<double>(prompt_tokens + output_tokens);
  pb::Usage usage;
  usage.set_prompt_token_count(prompt_tokens);
  usage.set_cached_prompt_token_count(cached_tokens);
  usage.set_output_token_count(output_tokens);
  usage.set_flop_count(ToCount(EstimateFlops(CostOf(model), prompt_tokens, cached_tokens, output_tokens)));
  usage.set_weight_byte_count(
      ToCount(static_cast<double>(output_tokens) * static_cast<double>(model.weight_bytes_per_token())));
  usage.set_kv_byte_count(ToCount(context * static_cast<double>(model.kv_bytes_per_token())));
  return usage;
}

}  // namespace conclave::orchestrator
