// SPDX-License-Identifier: Apache-2.0
// What a decoder-only transformer is, as data: the forward pass (decoder.h) is written once over this. A new family is
// a reader of its metadata (one per form: gguf_spec.cc) and a table of its tensor names, nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/model/quantization.h"
#include "engine/model/tensor_names.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// Limits on what a file may declare; each far above what real checkpoints have, so that sizes cannot overflow.
inline constexpr uint32_t kLayersMax = 1024;
inline constexpr uint32_t kHiddenMax = 1 << 16;
inline constexpr uint32_t kHeadsMax = 1024;
inline constexpr uint32_t kHeadDimMax = 1024;
inline constexpr uint32_t kFeedForwardMax = 1 << 18;
inline constexpr uint32_t kVocabMax = 1 << 22;
inline constexpr uint32_t kContextTokensMax = 1 << 24;
inline constexpr uint32_t kExpertsMax = 4096;

// Attention over a latent that all heads share (DeepSeek's MLA), in its absorbed form: one key/value head whose key is
// latent | rotated and whose value is the latent.
struct LatentAttentionSpec {
  int32_t query_rank = 0;  // q = q_up norm(q_down x); 0: q straight from x
  int32_t latent = 0;      // of keys and values
  int32_t unrotated = 0;   // of each query head; the rotated ones follow it
  int32_t value = 0;       // of each head, after expansion
  float norm_epsilon = 0;  // of the norms of query rank and latent
  float scale = 0;
};

inline constexpr GatedActivation kGptOssActivation = {.alpha = 1.702f, .limit = 7.0f, .up_offset = 1.0f};

// Mixture of experts in place of the feed-forward network of some layers.
struct ExpertsSpec {
  RouterSpec router;
  bool selection_bias = false;
  int32_t feed_forward = 0;         // F of one expert
  int32_t shared_feed_forward = 0;  // F of the expert that every token visits; 0: none
  bool shared_gate = false;         // that one's output times a sigmoid
  bool biases = false;              // on the router and on the experts' matrices
  GatedActivation activation;       // of the experts that are chosen

  int64_t ParamsOfOne(int64_t hidden) const {
    return 3 * hidden * feed_forward + (biases ? 2 * int64_t{feed_forward} + hidden : 0);
  }
};

struct ModelSpec {
  std::string family;  // GGUF's general.architecture, Hugging Face's model_type: "llama"
  std::string name;    // empty if the checkpoint has none
  const TensorNames* names = nullptr;
  int32_t layers = 0;          // L
  int32_t hidden = 0;          // D
  int32_t heads = 0;           // H
  int32_t kv_heads = 0;        // G, divides H
  int32_t head_dim = 0;        // Dk = Dv
  int32_t feed_forward = 0;    // F of dense layers; 0: there are none
  int32_t vocab = 0;           // V
  int32_t context_tokens = 0;  // trained for
  float norm_epsilon = 0;

  RopeLayout rope_layout = RopeLayout::kInterleaved;
  int32_t rotated = 0;                   // R
  std::vector<float> inverse_frequency;  // [R/2], scaling applied
  float rope_magnitude = 1.0f;

  // Terms that some families have.
  bool attention_bias = false;         // on q, k and v
  bool attention_out_bias = false;     // on the projection back
  bool head_norm = false;              // RMS norm of each head of q and k before rotation
  bool head_norm_whole = false;        // that norm runs over all heads of q together, and of k (OLMoE)
  bool tied_head = false;              // logits = embedding * x; there is no tensor for the head
  bool attention_sinks = false;        // a logit more per head in attention's softmax, without a value
  int32_t window = 0;                  // positions that a token sees in some layers; 0: all, everywhere
  std::vector<uint8_t> window_layers;  // [L] 1: such a layer; empty without

  std::optional<LatentAttentionSpec> latent;  // instead of q, k and v; then kv_heads is 1
  std::optional<ExpertsSpec> experts;
  std::vector<uint8_t> expert_layers;  // [L] 1: a mixture of experts; empty without
  // Layers after the last that predict further tokens; their tensors are skipped.
  int32_t prediction_layers = 0;
  QuantizationSpec quantization;  // of Hugging Face's form; GGUF's tensors say their own format

  bool IsExpertLayer(int32_t layer) const { return experts.has_value() && expert_layers[layer] != 0; }
  int32_t num_expert_layers() const;
  int32_t num_window_layers() const;
  // 0: all.
  int32_t LayerWindow(int32_t layer) const { return window != 0 && window_layers[layer] != 0 ? window : 0; }
  // Width of a query head, and of a key as it is cached.
  int32_t query_width() const { return latent ? latent->unrotated + rotated : head_dim; }
  int32_t key_width() const { return latent ? latent->latent + rotated : head_dim; }
  int32_t value_width() const { return latent ? latent->latent : head_dim; }
  // Of the heads before the projection back.
  int32_t head_output() const { return latent ? latent->value : head_dim; }
  // Of the widest dense feed-forward network, the shared expert's included; 0: none.
  int32_t dense_feed_forward() const;
  int32_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  float attention_scale() const;  // Dk^-1/2, or the latent's own
};

// A mixture that no layer has is none.
void DropUnusedExperts(ModelSpec* spec);

// Gives the layers for which `has(layer)` a window. One that no layer has, or as long as the context, is none.
void SetWindow(int64_t window, absl::FunctionRef<bool(int32_t layer)> has, ModelSpec* spec);

// MODEL_FILE_INVALID for a router that cannot be: more experts per token than there are, or than its groups hold.
absl::Status CheckRouter(std::string_view path, const RouterSpec& router);

// Reads and checks the metadata. FAILED_PRECONDITION "MODEL_FILE_INVALID <path>: .." for a missing, mistyped or
// impossible value, UNIMPLEMENTED for a family, rope scaling or term that this program does not know; both name what
// was found.
absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint);

}  // namespace conclave::engine
