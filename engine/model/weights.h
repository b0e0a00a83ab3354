// SPDX-License-Identifier: Apache-2.0
// The tensors of a checkpoint, checked against the spec and handed to a device.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/model/model_spec.h"
#include "engine/model/partition.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// Owned by the Ops. "?": null where the spec lacks the term. Of one rank of several, H, G, F and V are its own, and the
// stacks of experts hold its own; E counts all.
struct LayerWeights {
  const Weight* attention_norm = nullptr;  // [D]
  const Weight* qkv = nullptr;             // ? [(H + 2G) * Dk, D], rows q | k | v
  const Weight* qkv_bias = nullptr;        // ? [(H + 2G) * Dk]
  const Weight* q_norm = nullptr;          // ? [Dk], or [H * Dk] over all heads
  const Weight* k_norm = nullptr;          // ? [Dk], or [G * Dk]
  // Latent attention, instead of qkv. C: the latent's width, R: what is rotated, N: what is not.
  const Weight* q_down = nullptr;                // ? [query_rank, D]
  const Weight* q_down_norm = nullptr;           // ? [query_rank]
  const Weight* q_up = nullptr;                  // ? [H * (N + R), query_rank or D]
  const Weight* kv_down = nullptr;               // ? [C + R, D]
  const Weight* latent_norm = nullptr;           // ? [C]
  const WeightStack* k_up = nullptr;             // ? H x [C, N]: takes a query's unrotated part to the latent
  const WeightStack* v_up = nullptr;             // ? H x [Dv, C]
  const Weight* sinks = nullptr;                 // ? [H]
  const Weight* attention_out = nullptr;         // [D, H * Dk or Dv]
  const Weight* attention_out_bias = nullptr;    // ? [D]
  const Weight* ffn_norm = nullptr;              // [D]
  const Weight* gate_up = nullptr;               // ? [2F, D], rows gate | up: the dense network or the shared expert
  const Weight* down = nullptr;                  // ? [D, F]
  const Weight* router = nullptr;                // ? [E, D]
  const Weight* router_bias = nullptr;           // ? [E]
  const Weight* selection_bias = nullptr;        // ? [E]
  const WeightStack* experts_gate_up = nullptr;  // ? E x [2F, D]
  const WeightStack* experts_down = nullptr;     // ? E x [D, F]
  const Weight* experts_gate_up_bias = nullptr;  // ? [E * 2F], of the same experts
  const Weight* experts_down_bias = nullptr;     // ? [E * D]
  const Weight* shared_router = nullptr;         // ? [1, D]
};

struct ModelWeights {
  const Weight* embedding = nullptr;  // [V, D]
  const Weight* output_norm = nullptr;
  const Weight* head = nullptr;  // [V, D]; the embedding if tied
  int32_t first_expert = 0;      // of those that the stacks hold
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
  // Of experts that tokens choose; the figures for layers above are without them.
  int64_t params_experts = 0;              // all of them
  int64_t params_expert = 0;               // one, with its biases
  std::vector<int64_t> bytes_expert = {};  // one, per layer; 0 where a layer has none
  std::string quantization;                // formats of the layers' matrices: "Q4_1" or "mixed Q4_K Q6_K"
};

struct BoundModel {
  ModelWeights weights;
  ModelSize size;
  // Tensors that had to be turned for the kernels; must live as long as the Ops.
  std::vector<std::vector<std::byte>> turned;
};

// Finds every tensor by spec.names, checks it and repacks what `part` says; sizes are the whole model's.
// FAILED_PRECONDITION MODEL_FILE_INVALID for a missing or misshapen one, UNIMPLEMENTED for a format the device lacks or
// a layer tensor that the family does not have; each names the tensor. Where the Ops repacks, the file's pages leave
// memory layer by layer, so the peak is not twice the weights. `progress`, if set, is told the bytes of the file that
// are ready, of all its tensors'.
using BindProgress = std::function<void(int64_t bytes, int64_t bytes_total)>;
absl::StatusOr<BoundModel> BindWeights(const Checkpoint& checkpoint, const ModelSpec& spec, const Partition& part,
                                       Ops* ops, const BindProgress& progress = {});

}  // namespace conclave::engine
