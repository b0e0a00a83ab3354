// SPDX-License-Identifier: Apache-2.0
// The tensors of a checkpoint, checked against the spec and handed to a device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/model/model_spec.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// Owned by the Ops. "?": null where the spec lacks the term.
struct LayerWeights {
  const Weight* attention_norm = nullptr;      // [D]
  const Weight* qkv = nullptr;                 // [(H + 2G) * Dk, D], rows q | k | v
  const Weight* qkv_bias = nullptr;            // ? [(H + 2G) * Dk]
  const Weight* q_norm = nullptr;              // ? [Dk]
  const Weight* k_norm = nullptr;              // ? [Dk]
  const Weight* attention_out = nullptr;       // [D, H * Dk]
  const Weight* attention_out_bias = nullptr;  // ? [D]
  const Weight* ffn_norm = nullptr;            // [D]
  const Weight* gate_up = nullptr;             // [2F, D], rows gate | up
  const Weight* down = nullptr;                // [D, F]
};

struct ModelWeights {
  const Weight* embedding = nullptr;  // [V, D]
  const Weight* output_norm = nullptr;
  const Weight* head = nullptr;  // [V, D]; the embedding if tied
  std::vector<LayerWeights> layers;
};

// Sizes and costs, counted over the tensors that the model uses.
struct ModelSize {
  int64_t params_total = 0;   // all of them
  int64_t params_layers = 0;  // in the layers' matrices
  int64_t params_head = 0;    // in the output head
  int64_t bytes_total = 0;    // as in the file
  int64_t bytes_layers = 0;   // the layers' matrices, norms and biases: read by every step
  int64_t bytes_head = 0;     // read by steps that want logits
  std::string quantization;   // formats of the layers' matrices: "Q4_1" or "mixed Q4_K Q6_K"
};

struct BoundModel {
  ModelWeights weights;
  ModelSize size;
};

// Finds every tensor by spec.names, checks and repacks it. FAILED_PRECONDITION MODEL_FILE_INVALID for a missing or
// misshapen one, UNIMPLEMENTED for a format the device lacks or a layer tensor that the family does not have; each
// names the tensor. Where the Ops repacks, the file's pages leave memory layer by layer, so the peak is not twice the
// weights.
absl::StatusOr<BoundModel> BindWeights(const Checkpoint& checkpoint, const ModelSpec& spec, Ops* ops);

}  // namespace conclave::engine
