// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/ledger/cost.h"

#include <algorithm>
#include <cmath>

namespace conclave::orchestrator {
namespace {

// Converts a non-negative figure to a counter; beyond 2^62 (no real work is) it saturates instead of overflowing.
int64_t ToCount(double value) {
  constexpr double kMax = 4611686018427387904.0;
  if (!(value > 0)) return 0;
  return value >= kMax ? static_cast<int64_t>(1) << 62 : static_cast<int64_t>(std::llround(value));
}

// Of the tokens at positions [begin, end), without the head: token p attends to p + 1 positions.
double LayerFlops(const CostModel& cost, double begin, double end) {
  const double attended = (end * (end + 1) - begin * (begin + 1)) / 2;
  return (end - begin) * (cost.flops_per_token - cost.head_flops_per_token) +
         attended * cost.attention_flops_per_token_and_position;
}

}  // namespace

CostModel CostOf(const inference::v1::Model& model) {
  CostModel cost;
  cost.flops_per_token = static_cast<double>(std::max<int64_t>(0, model.flops_per_token()));
  if (cost.flops_per_token == 0) {
    cost.flops_per_token = 2.0 * static_cast<double>(std::max<int64_t>(0, model.active_parameter_count()));
  }
  const auto head = static_cast<double>(std::max<int64_t>(0, model.output_head_flops_per_token()));
  cost.head_flops_per_token = std::min(cost.flops_per_token, head);
  cost.attention_flops_per_token_and_position =
      static_cast<double>(std::max<int64_t>(0, model.attention_flops_per_token_and_position()));
  cost.weight_bytes_per_token = static_cast<double>(std::max<int64_t>(0, model.weight_bytes_per_token()));
  cost.kv_bytes_per_token = static_cast<double>(std::max<int64_t>(0, model.kv_bytes_per_token()));
  return cost;
}

CostModel CostOf(const deliberation::v1::Card& card) {
  CostModel cost;
  const int64_t active = card.has_active_parameters() ? card.active_parameters() : card.total_parameters();
  cost.flops_per_token = 2.0 * static_cast<double>(std::max<int64_t>(0, active));
  const auto head = static_cast<double>(std::max<int64_t>(0, card.output_head_parameters()));
  cost.head_flops_per_token = std::min(cost.flops_per_token, 2.0 * head);
  cost.attention_flops_per_token_and_position =
      card.has_attention_flops_per_position()
          ? std::max(0.0, card.attention_flops_per_position())
          : 4.0 * static_cast<double>(std::max(0, card.layers())) * static_cast<double>(std::max(0, card.hidden()));
  const double bytes_per_weight = card.has_bytes_per_weight() ? card.bytes_per_weight() : 2.0;
  cost.weight_bytes_per_token = static_cast<double>(std::max<int64_t>(0, active)) * bytes_per_weight;
  cost.kv_bytes_per_token = static_cast<double>(std::max<int64_t>(0, card.kv_bytes_per_token()));
  if (card.has_characters_per_token() && card.characters_per_token() > 0) {
    cost.characters_per_token = card.characters_per_token();
  }
  return cost;
}

int64_t EstimateTokens(const CostModel& cost, int64_t text_bytes) {
  if (text_bytes <= 0) return 0;
  return std::max<int64_t>(1, ToCount(std::ceil(static_cast<double>(text_bytes) / cost.characters_per_token)));
}

double EstimateFlops(const CostModel& cost, int64_t prompt_tokens, int64_t cached_tokens, int64_t output_tokens) {
  const double begin = static_cast<double>(std::min(cached_tokens, prompt_tokens));
  // The last token put out is not processed: nothing follows it.
  const double end = static_cast<double>(prompt_tokens + std::max<int64_t>(0, output_tokens - 1));
  const double heads = static_cast<double>(std::max<int64_t>(1, output_tokens));
  return LayerFlops(cost, begin, end) + heads * cost.head_flops_per_token;
}

inference::v1::Usage UsageOf(const CostModel& cost, int64_t prompt_tokens, int64_t cached_tokens,
                             int64_t output_tokens) {
  inference::v1::Usage usage;
  usage.set_prompt_token_count(prompt_tokens);
  usage.set_cached_prompt_token_count(cached_tokens);
  usage.set_output_token_count(output_tokens);
  usage.set_flop_count(ToCount(EstimateFlops(cost, prompt_tokens, cached_tokens, output_tokens)));
  usage.set_saved_flop_count(ToCount(LayerFlops(cost, 0, static_cast<double>(std::min(cached_tokens, prompt_tokens)))));
  // Alone in its batch: the weights are read once for the prompt and once per further token; every such step reads the
  // keys and values so far.
  const double steps = static_cast<double>(std::max<int64_t>(1, output_tokens));
  usage.set_weight_byte_count(ToCount(steps * cost.weight_bytes_per_token));
  const double positions = steps * static_cast<double>(prompt_tokens) + steps * (steps - 1) / 2;
  usage.set_kv_byte_count(ToCount(positions * cost.kv_bytes_per_token));
  return usage;
}

inference::v1::Usage EstimateUsage(const CostModel& cost, int64_t prompt_bytes, int64_t output_bytes) {
  return UsageOf(cost, EstimateTokens(cost, prompt_bytes), 0, EstimateTokens(cost, output_bytes));
}

}  // namespace conclave::orchestrator
