// SPDX-License-Identifier: Apache-2.0
#include "engine/model/decoder.h"

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

KvLayout Layout(const ModelSpec& spec, int32_t page_tokens) {
  return {.kv_heads = spec.kv_heads,
          .dim_k = spec.head_dim,
          .dim_v = spec.head_dim,
          .v_in_k = false,
          .scale = spec.attention_scale(),
          .page_tokens = page_tokens};
}

// Heads [T, heads, Dk] that begin at element `offset` of each row of a [T, width] buffer.
View Heads(const View& rows, int64_t offset, int64_t heads, int64_t width) {
  View view = rows;
  view.data += offset * static_cast<int64_t>(sizeof(float));
  view.shape = Shape{rows.shape[0], heads, width};
  return view;
}

}  // namespace

int64_t Decoder::KvPageBytes(const ModelSpec& spec, int32_t page_tokens, const Ops& ops) {
  return spec.layers * ops.kv_page_bytes(Layout(spec, page_tokens));
}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(ModelSpec spec, ModelWeights weights,
                                                         const DecoderLimits& limits, Ops* ops) {
  std::unique_ptr<Decoder> decoder(new Decoder(std::move(spec), std::move(weights), limits, ops));
  RETURN_IF_ERROR(decoder->Allocate());
  return decoder;
}

absl::Status Decoder::Allocate() {
  const int64_t T = limits_.tokens_max, O = limits_.logit_rows_max;
  const int64_t D = spec_.hidden, F = spec_.feed_forward, V = spec_.vocab, H = spec_.heads, Dk = spec_.head_dim;
  ASSIGN_OR_RETURN(residual_, ops_->Allocate(DType::kF32, Shape{T, D}));
  ASSIGN_OR_RETURN(x_, ops_->Allocate(DType::kF32, Shape{T, D}));
  ASSIGN_OR_RETURN(qkv_, ops_->Allocate(DType::kF32, Shape{T, spec_.qkv_width()}));
  ASSIGN_OR_RETURN(attention_, ops_->Allocate(DType::kF32, Shape{T, H, Dk}));
  ASSIGN_OR_RETURN(gate_up_, ops_->Allocate(DType::kF32, Shape{T, 2 * F}));
  ASSIGN_OR_RETURN(activated_, ops_->Allocate(DType::kF32, Shape{T, F}));
  ASSIGN_OR_RETURN(rows_, ops_->Allocate(DType::kF32, Shape{O, D}));
  ASSIGN_OR_RETURN(logits_, ops_->Allocate(DType::kF32, Shape{O, V}));
  const KvLayout layout = Layout(spec_, limits_.page_tokens);
  // One buffer for all layers: devices round buffers up, to megabytes where pages are huge.
  const int64_t P = limits_.kv_pages, page_bytes = ops_->kv_page_bytes(layout);
  ASSIGN_OR_RETURN(const View all, ops_->Allocate(DType::kI8, Shape{spec_.layers * P, page_bytes}));
  for (int32_t layer = 0; layer < spec_.layers; ++layer) {
    kv_.push_back({.data = all.data + layer * P * page_bytes, .dtype = DType::kI8, .shape = Shape{P, page_bytes}});
  }
  copy_from_.reserve(limits_.sequences_max);
  copy_to_.reserve(limits_.sequences_max);
  rope_ = {.layout = spec_.rope_layout,
           .rotated = spec_.rotated,
           .inverse_frequency = spec_.inverse_frequency,
           .magnitude = spec_.rope_magnitude};
  return ops_->Prepare({.tokens_max = limits_.tokens_max,
                        .sequences_max = limits_.sequences_max,
                        // Shared pages count once per sequence that lists them.
                        .pages_max = limits_.sequences_max * (limits_.context_tokens / limits_.page_tokens + 1),
                        .query_heads = spec_.heads,
                        .logit_rows_max = limits_.logit_rows_max},
                       layout);
}

absl::Status Decoder::Forward(const StepBatch& batch, std::span<float> logits) {
  const auto T = static_cast<int64_t>(batch.tokens.size());
  const auto O = static_cast<int64_t>(batch.logit_rows.size());
  CONCLAVE_CHECK(T > 0 && T <= limits_.tokens_max && O <= limits_.logit_rows_max);
  CONCLAVE_CHECK(static_cast<int64_t>(logits.size()) == O * spec_.vocab);
  const AttentionPlan& plan = ops_->BeginStep(batch);
  const View residual = residual_.Prefix(T), x = x_.Prefix(T);

  ops_->Embed(residual, *weights_.embedding, plan);
  ops_->AddRmsNorm(residual, x, View{}, *weights_.layers[0].attention_norm, spec_.norm_epsilon);
  for (int32_t layer = 0; layer < spec_.layers; ++layer) {
    Attention(layer, residual, x, plan);
    ops_->AddRmsNorm(residual, x, x, *weights_.layers[layer].ffn_norm, spec_.norm_epsilon);
    FeedForward(layer, residual, x);
    const Weight& norm = layer + 1 < spec_.layers ? *weights_.layers[layer + 1].attention_norm : *weights_.output_norm;
    ops_->AddRmsNorm(residual, x, x, norm, spec_.norm_epsilon);
  }
  if (O == 0) return ops_->EndStep(View{}, {});
  const View rows = rows_.Prefix(O), out = logits_.Prefix(O);
  ops_->GatherRows(rows, x, plan);
  ops_->Gemm(out, rows, *weights_.head, Accumulate::kSet);
  return ops_->EndStep(out, logits);
}

void Decoder::Attention(int32_t layer, const View& residual, const View& x, const AttentionPlan& plan) {
  const LayerWeights& w = weights_.layers[layer];
  const int64_t T = residual.shape[0], H = spec_.heads, G = spec_.kv_heads, Dk = spec_.head_dim;
  const int64_t stride = spec_.qkv_width();
  const View qkv = qkv_.Prefix(T);
  const View q = Heads(qkv, 0, H, Dk), k = Heads(qkv, H * Dk, G, Dk), v = Heads(qkv, (H + G) * Dk, G, Dk);

  ops_->Gemm(qkv, x, *w.qkv, Accumulate::kSet);
  if (w.qkv_bias != nullptr) ops_->AddBias(qkv, *w.qkv_bias);
  if (w.q_norm != nullptr) {
    ops_->HeadRmsNorm(q, stride, *w.q_norm, spec_.norm_epsilon);
    ops_->HeadRmsNorm(k, stride, *w.k_norm, spec_.norm_epsilon);
  }
  ops_->Rope(q, stride, rope_, plan);
  ops_->Rope(k, stride, rope_, plan);
  ops_->KvWrite(kv_[layer], k, v, stride, plan);
  View heads = attention_.Prefix(T);  // [T, H, Dk], then the same as [T, H * Dk]
  ops_->Attention(heads, q, stride, kv_[layer], plan);
  heads.shape = Shape{T, H * Dk};
  ops_->Gemm(x, heads, *w.attention_out, Accumulate::kSet);
  if (w.attention_out_bias != nullptr) ops_->AddBias(x, *w.attention_out_bias);
}

void Decoder::FeedForward(int32_t layer, const View& residual, const View& x) {
  const LayerWeights& w = weights_.layers[layer];
  const int64_t T = residual.shape[0];
  const View gate_up = gate_up_.Prefix(T), activated = activated_.Prefix(T);
  ops_->Gemm(gate_up, x, *w.gate_up, Accumulate::kSet);
  ops_->SwiGlu(activated, gate_up);
  ops_->Gemm(x, activated, *w.down, Accumulate::kSet);
}

void Decoder::CopyPages(std::span<const PageCopy> copies) {
  if (copies.empty()) return;
  copy_from_.clear();
  copy_to_.clear();
  for (const PageCopy& copy : copies) {
    copy_from_.push_back(copy.from);
    copy_to_.push_back(copy.to);
  }
  for (const View& pages : kv_) ops_->KvCopyPages(pages, copy_from_, copy_to_);
}

}  // namespace conclave::engine
