// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: what a piece of a step costs, by the formulas of specs/kernels.md 2.1.
#pragma once

#include <cstdint>

#include "engine/model/model_spec.h"
#include "engine/model/weights.h"

namespace conclave::engine {

struct CostModel {
  int64_t flops_per_token = 0;               // 2 x parameters of the layers' matrices
  int64_t flops_per_logit_row = 0;           // 2 x parameters of the output head
  int64_t flops_per_token_and_position = 0;  // q.k and p.v: 4 * L * H * Dk
  int64_t weight_bytes_per_step = 0;         // of the layers
  int64_t weight_bytes_per_logit_step = 0;   // of the head, once per step that wants logits
  int64_t kv_bytes_per_token = 0;

  // `count` tokens that end at position `end` - 1, of which `logit_rows` give logits.
  int64_t Flops(int64_t count, int64_t end, int64_t logit_rows) const {
    const int64_t begin = end - count;
    const int64_t attended = (begin + 1 + end) * count / 2;  // sum of position + 1
    return count * flops_per_token + logit_rows * flops_per_logit_row + attended * flops_per_token_and_position;
  }
  // All earlier positions are read once per step, the new ones written and read.
  int64_t KvBytes(int64_t count, int64_t end) const { return (end + count) * kv_bytes_per_token; }
  int64_t StepWeightBytes(int64_t logit_rows) const {
    return weight_bytes_per_step + (logit_rows > 0 ? weight_bytes_per_logit_step : 0);
  }
};

inline CostModel MakeCostModel(const ModelSpec& spec, const ModelSize& size, int64_t kv_bytes_per_token) {
  return {.flops_per_token = 2 * size.params_layers,
          .flops_per_logit_row = 2 * size.params_head,
          .flops_per_token_and_position = int64_t{4} * spec.layers * spec.heads * spec.head_dim,
          .weight_bytes_per_step = size.bytes_layers,
          .weight_bytes_per_logit_step = size.bytes_head,
          .kv_bytes_per_token = kv_bytes_per_token};
}

}  // namespace conclave::engine
