// SPDX-License-Identifier: Apache-2.0
// What a computed step cost its requests, and what its tokens were routed to.
#include <algorithm>
#include <cmath>

#include "common/status.h"
#include "engine/step_loop.h"

namespace conclave::engine {

void StepLoop::AccountStep() {
  AccountExperts();
  const int64_t step_bytes = costs_.StepWeightBytes(batch_.num_logit_rows());
  const auto sharers = static_cast<int64_t>(work_.size());
  for (int64_t i = 0; i < sharers; ++i) {
    const Work& work = work_[i];
    const int64_t end = work.sequence->table.tokens();
    Usage& usage = work.sequence->request->usage;
    usage.flops += costs_.Flops(work.tokens, end, work.logit_rows);
    usage.kv_bytes += costs_.KvBytes(work.tokens, end);
    // Equal shares whose sum is exact.
    usage.weight_bytes += step_bytes * (i + 1) / sharers - step_bytes * i / sharers;
  }
}

absl::Status StepLoop::TakeRouting() {
  if (expert_counters_.layers() == 0) return absl::OkStatus();
  const bool traced = std::any_of(work_.begin(), work_.end(),
                                  [](const Work& work) { return work.sequence->request->routing != nullptr; });
  RETURN_IF_ERROR(model_->LastRouting(&expert_ids_, traced ? &expert_weights_ : nullptr));
  expert_counters_.CountStep(expert_ids_);
  return absl::OkStatus();
}

// Weights of chosen experts, shared in proportion to the choices.
void StepLoop::AccountExperts() {
  const int64_t layers = expert_counters_.layers();
  if (layers == 0) return;
  int64_t bytes = 0, total = 0, before = 0;
  for (int32_t layer = 0; layer < layers; ++layer) {
    bytes += expert_counters_.distinct(layer) * costs_.expert_bytes[static_cast<size_t>(layer)];
  }
  for (const Work& work : work_) total += int64_t{work.tokens} * work.sequence->request->experts_per_token;
  const double share = static_cast<double>(bytes) / static_cast<double>(total);
  for (const Work& work : work_) {
    const int64_t choices = int64_t{work.tokens} * work.sequence->request->experts_per_token;
    Usage& usage = work.sequence->request->usage;
    usage.experts_activated += choices * layers;
    usage.flops += costs_.ExpertFlops(choices * layers);
    usage.weight_bytes +=
        std::llround(share * static_cast<double>(before + choices)) - std::llround(share * static_cast<double>(before));
    before += choices;
  }
}

void StepLoop::TraceRouting(const Work& work, int32_t first_token) {
  const ModelSpec& spec = model_->spec();
  const int64_t slots = spec.experts->router.top_k, step_tokens = batch_.num_tokens();
  const int64_t first_position = work.sequence->table.tokens() - work.tokens;
  int64_t expert_layer = 0;
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    if (!spec.IsExpertLayer(layer)) continue;
    for (int64_t i = 0; i < work.tokens; ++i) {
      ExpertChoice& choice = (*work.sequence->request->routing)[layer][first_position + i];
      const int64_t from = (expert_layer * step_tokens + first_token + i) * slots;
      const int64_t live = work.sequence->request->experts_per_token;
      choice.experts.assign(expert_ids_.begin() + from, expert_ids_.begin() + from + live);
      choice.weights.assign(expert_weights_.begin() + from, expert_weights_.begin() + from + live);
    }
    ++expert_layer;
  }
}

}  // namespace conclave::engine
