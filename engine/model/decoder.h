// SPDX-License-Identifier: Apache-2.0
// The forward pass of a decoder-only transformer, written once over Ops for every family that a ModelSpec describes;
// or one rank's part of it (partition.h), which adds up with the others' after attention and feed-forward networks.
//
// Step thread only, or a rank's own. All memory is allocated by Create; Forward allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/kv/block_table.h"
#include "engine/model/model_spec.h"
#include "engine/model/weights.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// The largest step.
struct DecoderLimits {
  int32_t tokens_max;      // T
  int32_t sequences_max;   // S
  int32_t logit_rows_max;  // O
  int32_t kv_pages;        // P
  int32_t page_tokens;     // B
  int32_t context_tokens;  // of one sequence
};

class Decoder {
 public:
  // `ops` made the weights and outlives the decoder. RESOURCE_EXHAUSTED if the buffers do not fit. Of several ranks,
  // `spec` and `weights` are this one's, and `communicator`, which outlives the decoder too, is its.
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(ModelSpec spec, ModelWeights weights,
                                                         const DecoderLimits& limits, Ops* ops,
                                                         Communicator* communicator = nullptr);

  // Bytes that one KV page takes over all layers.
  static int64_t KvPageBytes(const ModelSpec& spec, int32_t page_tokens, const Ops& ops);

  const ModelSpec& spec() const { return spec_; }
  // Where Forward's logits go fastest: room for the largest step's, [O, V].
  std::span<float> host_logits() const { return host_logits_; }

  // Computes the step and writes the logits of batch.logit_rows, [O, V], to `logits`. An error is a device fault, or
  // the communicator's; then there are no more steps.
  absl::Status Forward(const StepBatch& batch, std::span<float> logits);
  // What the last step's tokens were routed to, layer by layer: ids and weights (may be null) [expert layers, T, k], of
  // skipped slots -1 and 0. Both are resized; for a model without experts to nothing.
  absl::Status LastRouting(std::vector<int32_t>* ids, std::vector<float>* weights);
  // In the order given, before the step that writes the copies.
  void CopyPages(std::span<const PageCopy> copies);

 private:
  Decoder(ModelSpec spec, ModelWeights weights, const DecoderLimits& limits, Ops* ops, Communicator* communicator)
      : spec_(std::move(spec)), weights_(std::move(weights)), limits_(limits), ops_(ops), communicator_(communicator) {}
  absl::Status Allocate();
  absl::Status Layers(const View& residual, const View& x, const AttentionPlan& plan);
  // This rank's part of a sum becomes the sum.
  absl::Status Sum(const View& x) {
    return communicator_ == nullptr ? absl::OkStatus() : communicator_->AllReduceSum(x);
  }
  AttentionTerms Terms(int32_t layer) const {
    return {.window = spec_.LayerWindow(layer), .sinks = weights_.layers[static_cast<size_t>(layer)].sinks};
  }
  // residual and x belong to the step's tokens; x holds this rank's part of what is to be added to the residual on
  // return.
  void Attention(int32_t layer, const View& residual, const View& x, const AttentionPlan& plan);
  void LatentAttention(int32_t layer, const View& x, const AttentionPlan& plan);
  // Returns this rank's part of what is to be added: x, or another buffer.
  View FeedForward(int32_t layer, const View& x, const AttentionPlan& plan);
  void DenseNetwork(const LayerWeights& w, const View& y, const View& x);
  absl::Status AllocateExperts();

  const ModelSpec spec_;
  const ModelWeights weights_;
  const DecoderLimits limits_;
  Ops* const ops_;
  Communicator* const communicator_;  // null: there is one rank
  RopeSpec rope_ = {};

  // Activations of the largest step, f32.
  View residual_;   // [T, D]
  View x_;          // [T, D]: a norm's output, then a projection's
  View qkv_;        // [T, (H + 2G) * Dk]; latent attention: queries [T, H, N + R]
  View attention_;  // [T, H, Dv]
  View gate_up_;    // [T, 2F]
  View activated_;  // [T, F]
  View rows_;       // [O, D]: the tokens whose logits are wanted
  View logits_;     // [O, V]
  std::span<float> host_logits_;
  // Latent attention.
  View low_query_;     // [T, query_rank]
  View key_;           // [T, C + R]
  View latent_query_;  // [T, H, C + R]
  View latent_;        // [T, H, C]
  // Mixtures of experts.
  View router_logits_;                 // [T, E]
  View shared_gate_;                   // [T, 1]
  View mixed_;                         // [T, D]
  View expert_ids_;                    // [expert layers * T, k] i32: of all layers of a step, one after another
  View expert_weights_;                // the same, f32
  std::vector<int32_t> expert_layer_;  // per layer: its number among those with experts, or -1
  int64_t step_tokens_ = 0;            // of the last step
  std::vector<View> kv_;               // per layer [P, page bytes]
  std::vector<int32_t> copy_from_, copy_to_;
};

}  // namespace conclave::engine
