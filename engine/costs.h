// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: what a piece of a step costs, by the formulas of specs/kernels.md 2.1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/model/model_spec.h"
#include "engine/model/weights.h"

namespace conclave::engine {

struct CostModel {
  int64_t flops_per_token = 0;               // 2 x parameters of the layers' matrices
  int64_t flops_per_logit_row = 0;           // 2 x parameters of the output head
  int64_t flops_per_token_and_position = 0;  // q.k and p.v: 2 * L * H * (Dk + Dv)
  int32_t layers = 1, window_layers = 0;     // window_layers of them see the last `window` positions only
  int64_t window = 0;
  int64_t weight_bytes_per_step = 0;        // of the layers
  int64_t weight_bytes_per_logit_step = 0;  // of the head, once per step that wants logits
  int64_t kv_bytes_per_token = 0;
  int64_t flops_per_choice = 0;       // of one expert for one token
  std::vector<int64_t> expert_bytes;  // of one expert, per layer that has experts

  // `count` tokens that end at position `end` - 1, of which `logit_rows` give logits.
  int64_t Flops(int64_t count, int64_t end, int64_t logit_rows) const {
    const int64_t begin = end - count;
    int64_t attended = layers * Triangle(begin, end);
    if (window_layers > 0) {
      // Below the window all positions are seen, beyond it `window` of them.
      const int64_t border = std::clamp(window, begin, end);
      attended += window_layers * (Triangle(begin, border) + (end - border) * window - Triangle(begin, end));
    }
    return count * flops_per_token + logit_rows * flops_per_logit_row +
           attended * (flops_per_token_and_position / layers);
  }
  // `choices`: of experts, over all layers.
  int64_t ExpertFlops(int64_t choices) const { return choices * flops_per_choice; }
  // All earlier positions that any of the tokens sees are read once per step, the new ones written and read.
  int64_t KvBytes(int64_t count, int64_t end) const {
    const int64_t unseen = window_layers > 0 ? std::max<int64_t>(0, end - count + 1 - window) : 0;
    return (end + count) * kv_bytes_per_token - unseen * kv_bytes_per_token * window_layers / layers;
  }
  // Sum of position + 1 over positions begin.. end - 1.
  static int64_t Triangle(int64_t begin, int64_t end) { return (begin + 1 + end) * (end - begin) / 2; }
  int64_t StepWeightBytes(int64_t logit_rows) const {
    return weight_bytes_per_step + (logit_rows > 0 ? weight_bytes_per_logit_step : 0);
  }
};

inline CostModel MakeCostModel(const ModelSpec& spec, const ModelSize& size, int64_t kv_bytes_per_token) {
  std::vector<int64_t> expert_bytes;
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    if (spec.IsExpertLayer(layer)) expert_bytes.push_back(size.bytes_expert[static_cast<size_t>(layer)]);
  }
  return {
      .flops_per_token = 2 * size.params_layers,
      .flops_per_logit_row = 2 * size.params_head,
      .flops_per_token_and_position = int64_t{2} * spec.layers * spec.heads * (spec.key_width() + spec.value_width()),
      .layers = spec.layers,
      .window_layers = spec.num_window_layers(),
      .window = spec.window,
      .weight_bytes_per_step = size.bytes_layers,
      .weight_bytes_per_logit_step = size.bytes_head,
      .kv_bytes_per_token = kv_bytes_per_token,
      .flops_per_choice = 2 * size.params_expert,
      .expert_bytes = std::move(expert_bytes)};
}

}  // namespace conclave::engine
