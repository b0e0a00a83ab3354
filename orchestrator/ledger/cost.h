// SPDX-License-Identifier: Apache-2.0
// What a call costs: measured usage where a backend measures, and figures from a model or a card where it does not.
#pragma once

#include <cstdint>

#include "conclave/deliberation/v1/fleet.pb.h"
#include "conclave/inference/v1/inference.pb.h"

namespace conclave::orchestrator {

// Costs of one member's model, per token. Zero means unknown: such a unit is then neither reserved nor estimated.
struct CostModel {
  double flops_per_token = 0;                         // matrices: about 2 x active parameters
  double head_flops_per_token = 0;                    // of these, of the output head: where a next token is wanted
  double attention_flops_per_token_and_position = 0;  // further FLOPs per position attended to
  double weight_bytes_per_token = 0;                  // read by a step that holds one sequence
  double kv_bytes_per_token = 0;                      // kept per token, read by every later one
  double characters_per_token = 4;                    // bytes of text per token, for texts without counts
};

// Costs as a worker states them.
CostModel CostOf(const inference::v1::Model& model);
// Costs as a fleet file declares them: FLOPs per token are 2 x active parameters, attention adds 4 x layers x hidden
// per position (scores and mixing, two FLOPs per multiply-add) unless the card says how much, weight bytes are active
// parameters x bytes_per_weight (default 2).
CostModel CostOf(const deliberation::v1::Card& card);

// What a text of so many bytes comes to in tokens, rounded up; at least 1 for a text that is not empty.
int64_t EstimateTokens(const CostModel& cost, int64_t text_bytes);

// FLOPs of processing `prompt_tokens`, of which `cached_tokens` are not computed again, and then `output_tokens`: every
// computed token costs flops_per_token without the head plus the attention over the positions before it, and the head
// is computed once per token put out, at least once.
double EstimateFlops(const CostModel& cost, int64_t prompt_tokens, int64_t cached_tokens, int64_t output_tokens);

// Usage of a call whose tokens were counted and whose work was not.
inference::v1::Usage UsageOf(const CostModel& cost, int64_t prompt_tokens, int64_t cached_tokens,
                             int64_t output_tokens);
// Usage of a call that nobody measured: token counts from text lengths, work from the cost model.
inference::v1::Usage EstimateUsage(const CostModel& cost, int64_t prompt_bytes, int64_t output_bytes);

}  // namespace conclave::orchestrator
