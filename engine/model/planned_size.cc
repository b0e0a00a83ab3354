// SPDX-License-Identifier: Apache-2.0
#include "engine/model/planned_size.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "engine/model/hf_config.h"

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

// Of a matrix's weight in the file. Scales of whole rows and index lists are nothing beside the codes.
double MatrixWidth(const QuantizationSpec& q, double plain) {
  constexpr double kScaleBytes = 2;
  switch (q.storage) {
    case QuantStorage::kPlain:
      return plain;
    case QuantStorage::kFp8:
      return 1;
    case QuantStorage::kAwq:
    case QuantStorage::kGptq:
    case QuantStorage::kPacked: {
      const double code = q.bits / 8.0, group = static_cast<double>(q.group_columns);
      return q.group_columns == 0 ? code : code + (kScaleBytes + (q.symmetric ? 0 : code)) / group;
    }
  }
  return plain;
}

bool LeavesPlain(const QuantizationSpec& q, std::string_view module) {
  return std::any_of(q.plain_modules.begin(), q.plain_modules.end(),
                     [module](const std::string& entry) { return entry.find(module) != std::string::npos; });
}

}  // namespace

absl::StatusOr<PlannedWidths> WidthsOf(const JsonObject& config, const QuantizationSpec& quantization) {
  struct Width {
    std::string_view name;
    double bytes;
  };
  constexpr std::array kWidths = {Width{"bfloat16", 2}, Width{"float16", 2}, Width{"float32", 4}};
  constexpr double kMicroscaledBytes = (32.0 * 4 + 8) / 32 / 8;  // codes of 4 bits, a scale of 8 per 32
  const char* key = config.Has("dtype") ? "dtype" : "torch_dtype";
  ASSIGN_OR_RETURN(const std::string_view name, config.StringOr(key, "bfloat16"));
  const auto known = std::find_if(kWidths.begin(), kWidths.end(), [name](const Width& w) { return w.name == name; });
  if (known == kWidths.end()) {
    return Unknown(config, "\"{}\" is \"{}\"; known: bfloat16, float16, float32", key, name);
  }
  PlannedWidths widths;
  widths.plain = known->bytes;
  const double matrices = MatrixWidth(quantization, widths.plain);
  widths.attention = LeavesPlain(quantization, "self_attn") ? widths.plain : matrices;
  widths.shared = LeavesPlain(quantization, "shared_expert") ? widths.plain : matrices;
  widths.feed_forward = matrices;
  widths.experts = quantization.microscaled_experts ? kMicroscaledBytes : matrices;
  return widths;
}

ModelSize PlannedSize(const ModelSpec& spec, const PlannedWidths& widths) {
  double layers = 0;  // bytes
  ModelSize size;
  const int64_t D = spec.hidden, V = spec.vocab;
  size.params_head = V * D;
  int64_t vectors = D;
  const auto add = [&](int64_t params, double width) {
    size.params_layers += params;
    layers += static_cast<double>(params) * width;
  };
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    add(AttentionParams(spec), widths.attention);
    vectors += VectorParams(spec);
    size.bytes_expert.push_back(0);
    if (!spec.IsExpertLayer(layer)) {
      add(3 * D * spec.feed_forward, widths.feed_forward);
      continue;
    }
    const ExpertsSpec& experts = *spec.experts;
    const int64_t E = experts.router.experts;
    add(E * D + (experts.shared_gate ? D : 0) + (experts.selection_bias ? E : 0) + (experts.biases ? E : 0),
        widths.plain);
    add(3 * D * experts.shared_feed_forward, widths.shared);
    size.params_expert = experts.ParamsOfOne(D);
    size.params_experts += E * size.params_expert;
    size.bytes_expert.back() = static_cast<int64_t>(static_cast<double>(size.params_expert) * widths.experts);
  }
  const int64_t embeddings = size.params_head * (spec.tied_head ? 1 : 2);
  size.params_total = size.params_layers + size.params_experts + vectors + embeddings;
  size.bytes_layers = static_cast<int64_t>(layers + static_cast<double>(vectors - D) * widths.plain);
  size.bytes_head = static_cast<int64_t>(static_cast<double>(size.params_head) * widths.plain);
  size.bytes_total = static_cast<int64_t>(layers + static_cast<double>(vectors + embeddings) * widths.plain +
                                          static_cast<double>(size.params_experts) * widths.experts);
  return size;
}

int64_t PlannedRankBytes(const ModelSpec& spec, const Partition& part, const PlannedWidths& widths) {
  const ModelSize own = PlannedSize(SpecOfRank(spec, part), widths);
  if (part.ranks == 1) return own.bytes_total;
  // All of the embedding, and its rows of the head, of which a tied one is a copy.
  const int64_t others = spec.vocab - part.vocab.count + (spec.tied_head ? part.vocab.count : 0);
  const double embedding = static_cast<double>(others * spec.hidden) * widths.plain;
  const int64_t experts = spec.experts ? spec.experts->router.experts - part.experts.count : 0;
  const int64_t expert_bytes = std::accumulate(own.bytes_expert.begin(), own.bytes_expert.end(), int64_t{0});
  return own.bytes_total + static_cast<int64_t>(embedding) - experts * expert_bytes;
}

int64_t PlannedKvBytesPerToken(const ModelSpec& spec, int64_t element_bytes) {
  const int64_t elements = spec.kv_heads * (int64_t{spec.key_width()} + (spec.latent ? 0 : spec.value_width()));
  return spec.layers * elements * element_bytes;
}

}  // namespace conclave::engine
