// SPDX-License-Identifier: Apache-2.0
// The forward pass of a decoder-only transformer, written once over Ops for every family that a ModelSpec describes.
//
// Step thread only. All memory is allocated by Create; Forward allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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
  // `ops` made the weights and outlives the decoder. RESOURCE_EXHAUSTED if the buffers do not fit.
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(ModelSpec spec, ModelWeights weights,
                                                         const DecoderLimits& limits, Ops* ops);

  // Bytes that one KV page takes over all layers.
  static int64_t KvPageBytes(const ModelSpec& spec, int32_t page_tokens, const Ops& ops);

  const ModelSpec& spec() const { return spec_; }

  // Computes the step and writes the logits of batch.logit_rows, [O, V], to `logits`. An error is a device fault.
  absl::Status Forward(const StepBatch& batch, std::span<float> logits);
  // In the order given, before the step that writes the copies.
  void CopyPages(std::span<const PageCopy> copies);

 private:
  Decoder(ModelSpec spec, ModelWeights weights, const DecoderLimits& limits, Ops* ops)
      : spec_(std::move(spec)), weights_(std::move(weights)), limits_(limits), ops_(ops) {}
  absl::Status Allocate();
  // residual and x belong to the step's tokens; x holds what is to be added to the residual on return.
  void Attention(int32_t layer, const View& residual, const View& x, const AttentionPlan& plan);
  void FeedForward(int32_t layer, const View& residual, const View& x);

  const ModelSpec spec_;
  const ModelWeights weights_;
  const DecoderLimits limits_;
  Ops* const ops_;
  RopeSpec rope_ = {};

  // Activations of the largest step, f32.
  View residual_;         // [T, D]
  View x_;                // [T, D]: a norm's output, then a projection's
  View qkv_;              // [T, (H + 2G) * Dk]
  View attention_;        // [T, H, Dk]
  View gate_up_;          // [T, 2F]
  View activated_;        // [T, F]
  View rows_;             // [O, D]: the tokens whose logits are wanted
  View logits_;           // [O, V]
  std::vector<View> kv_;  // per layer [P, page bytes]
  std::vector<int32_t> copy_from_, copy_to_;
};

}  // namespace conclave::engine
