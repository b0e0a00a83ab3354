// SPDX-License-Identifier: Apache-2.0
// What a decoder-only transformer is, as data: the forward pass (decoder.h) is written once over this. A new family is
// a reader of its metadata (one per form: gguf_spec.cc) and a table of its tensor names, nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
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

struct ModelSpec {
  std::string family;  // GGUF's general.architecture, Hugging Face's model_type: "llama"
  std::string name;    // empty if the checkpoint has none
  const TensorNames* names = nullptr;
  int32_t layers = 0;          // L
  int32_t hidden = 0;          // D
  int32_t heads = 0;           // H
  int32_t kv_heads = 0;        // G, divides H
  int32_t head_dim = 0;        // Dk = Dv
  int32_t feed_forward = 0;    // F
  int32_t vocab = 0;           // V
  int32_t context_tokens = 0;  // trained for
  float norm_epsilon = 0;

  RopeLayout rope_layout = RopeLayout::kInterleaved;
  int32_t rotated = 0;                   // R
  std::vector<float> inverse_frequency;  // [R/2], scaling applied
  float rope_magnitude = 1.0f;

  // Terms that some families have.
  bool attention_bias = false;      // on q, k and v
  bool attention_out_bias = false;  // on the projection back
  bool head_norm = false;           // RMS norm of each head of q and k before rotation
  bool tied_head = false;           // logits = embedding * x; there is no tensor for the head

  int32_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  float attention_scale() const;  // Dk^-1/2
};

// Reads and checks the metadata. FAILED_PRECONDITION "MODEL_FILE_INVALID <path>: .." for a missing, mistyped or
// impossible value, UNIMPLEMENTED for a family, rope scaling or term that this program does not know; both name what
// was found.
absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint);

}  // namespace conclave::engine
