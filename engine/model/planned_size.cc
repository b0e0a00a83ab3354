// SPDX-License-Identifier: Apache-2.0
#include "engine/model/planned_size.h"

namespace conclave::engine {
namespace {

// In the layer's matrices, and vectors among them.
int64_t AttentionParams(const ModelSpec& spec) {
  const int64_t D = spec.hidden, H = spec.heads, back = H * spec.head_output() * D;
  if (!spec.latent) return int64_t{spec.qkv_width()} * D + back;
  const LatentAttentionSpec& latent = *spec.latent;
  const int64_t Q = latent.query_rank, C = latent.latent, query = H * spec.query_width();
  const int64_t down = Q > 0 ? Q * D + Q + query * Q : query * D;
  return down + (C + spec.rotated) * D + C + H * (latent.unrotated + latent.value) * C + back;
}

// Norms and biases outside the matrices.
int64_t VectorParams(const ModelSpec& spec) {
  int64_t params = 2 * int64_t{spec.hidden};
  if (spec.attention_bias) params += spec.qkv_width();
  if (spec.attention_out_bias) params += spec.hidden;
  if (spec.attention_sinks) params += spec.heads;
  if (spec.head_norm) {
    params += spec.head_norm_whole ? int64_t{spec.heads + spec.kv_heads} * spec.head_dim : 2 * int64_t{spec.head_dim};
  }
  return params;
}

}  // namespace

ModelSize PlannedSize(const ModelSpec& spec, double bytes_per_weight) {
  const auto bytes = [bytes_per_weight](int64_t params) {
    return static_cast<int64_t>(static_cast<double>(params) * bytes_per_weight);
  };
  ModelSize size;
  const int64_t D = spec.hidden, V = spec.vocab;
  size.params_head = V * D;
  int64_t vectors = D;
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    size.params_layers += AttentionParams(spec);
    vectors += VectorParams(spec);
    size.bytes_expert.push_back(0);
    if (!spec.IsExpertLayer(layer)) {
      size.params_layers += 3 * D * spec.feed_forward;
      continue;
    }
    const ExpertsSpec& experts = *spec.experts;
    const int64_t E = experts.router.experts;
    size.params_layers += E * D + 3 * D * experts.shared_feed_forward + (experts.shared_gate ? D : 0) +
                          (experts.selection_bias ? E : 0) + (experts.biases ? E : 0);
    size.params_expert = experts.ParamsOfOne(D);
    size.params_experts += E * size.params_expert;
    size.bytes_expert.back() = bytes(size.params_expert);
  }
  size.params_total = size.params_layers + size.params_experts + vectors + size.params_head * (spec.tied_head ? 1 : 2);
  size.bytes_total = bytes(size.params_total);
  size.bytes_layers = bytes(size.params_layers + vectors - D);
  size.bytes_head = bytes(size.params_head);
  return size;
}

int64_t PlannedKvBytesPerToken(const ModelSpec& spec, int64_t element_bytes) {
  const int64_t elements = spec.kv_heads * (int64_t{spec.key_width()} + (spec.latent ? 0 : spec.value_width()));
  return spec.layers * elements * element_bytes;
}

}  // namespace conclave::engine
