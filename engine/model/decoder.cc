// SPDX-License-Identifier: Apache-2.0
#include "engine/model/decoder.h"

#include <algorithm>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

KvLayout Layout(const ModelSpec& spec, int32_t page_tokens) {
  return {.kv_heads = spec.kv_heads,
          .dim_k = spec.key_width(),
          .dim_v = spec.value_width(),
          .v_in_k = spec.latent.has_value(),
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
                                                         const DecoderLimits& limits, Ops* ops,
                                                         Communicator* communicator) {
  std::unique_ptr<Decoder> decoder(new Decoder(std::move(spec), std::move(weights), limits, ops, communicator));
  RETURN_IF_ERROR(decoder->Allocate());
  return decoder;
}

absl::Status Decoder::Allocate() {
  const int64_t T = limits_.tokens_max, O = limits_.logit_rows_max;
  const int64_t D = spec_.hidden, F = std::max(spec_.dense_feed_forward(), 1), V = spec_.vocab, H = spec_.heads;
  ASSIGN_OR_RETURN(residual_, ops_->Allocate(DType::kF32, Shape{T, D}));
  ASSIGN_OR_RETURN(x_, ops_->Allocate(DType::kF32, Shape{T, D}));
  const int64_t qkv_width = spec_.latent ? H * spec_.query_width() : spec_.qkv_width();
  ASSIGN_OR_RETURN(qkv_, ops_->Allocate(DType::kF32, Shape{T, qkv_width}));
  ASSIGN_OR_RETURN(attention_, ops_->Allocate(DType::kF32, Shape{T, H, spec_.head_output()}));
  if (spec_.latent) {
    const int64_t C = spec_.latent->latent, width = spec_.key_width();
    ASSIGN_OR_RETURN(low_query_, ops_->Allocate(DType::kF32, Shape{T, std::max(spec_.latent->query_rank, 1)}));
    ASSIGN_OR_RETURN(key_, ops_->Allocate(DType::kF32, Shape{T, width}));
    ASSIGN_OR_RETURN(latent_query_, ops_->Allocate(DType::kF32, Shape{T, H, width}));
    ASSIGN_OR_RETURN(latent_, ops_->Allocate(DType::kF32, Shape{T, H, C}));
  }
  if (spec_.experts) RETURN_IF_ERROR(AllocateExperts());
  ASSIGN_OR_RETURN(gate_up_, ops_->Allocate(DType::kF32, Shape{T, 2 * F}));
  ASSIGN_OR_RETURN(activated_, ops_->Allocate(DType::kF32, Shape{T, F}));
  ASSIGN_OR_RETURN(rows_, ops_->Allocate(DType::kF32, Shape{O, D}));
  ASSIGN_OR_RETURN(logits_, ops_->Allocate(DType::kF32, Shape{O, V}));
  ASSIGN_OR_RETURN(host_logits_, ops_->AllocateHost(O * V));
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
                        .logit_rows_max = limits_.logit_rows_max,
                        .experts_per_token = spec_.experts ? spec_.experts->router.top_k : 0,
                        .attention_windows = spec_.window != 0,
                        .attention_sinks = spec_.attention_sinks},
                       layout);
}

absl::Status Decoder::AllocateExperts() {
  const int64_t T = limits_.tokens_max, E = spec_.experts->router.experts, k = spec_.experts->router.top_k;
  ASSIGN_OR_RETURN(router_logits_, ops_->Allocate(DType::kF32, Shape{T, E}));
  ASSIGN_OR_RETURN(shared_gate_, ops_->Allocate(DType::kF32, Shape{T, 1}));
  ASSIGN_OR_RETURN(mixed_, ops_->Allocate(DType::kF32, Shape{T, spec_.hidden}));
  const Shape slots = {spec_.num_expert_layers() * T, k};
  ASSIGN_OR_RETURN(expert_ids_, ops_->Allocate(DType::kI32, slots));
  ASSIGN_OR_RETURN(expert_weights_, ops_->Allocate(DType::kF32, slots));
  int32_t next = 0;
  for (int32_t layer = 0; layer < spec_.layers; ++layer) {
    expert_layer_.push_back(spec_.IsExpertLayer(layer) ? next++ : -1);
  }
  return absl::OkStatus();
}

absl::Status Decoder::Forward(const StepBatch& batch, std::span<float> logits) {
  const auto T = static_cast<int64_t>(batch.tokens.size());
  const auto O = static_cast<int64_t>(batch.logit_rows.size());
  CONCLAVE_CHECK(T > 0 && T <= limits_.tokens_max && O <= limits_.logit_rows_max);
  CONCLAVE_CHECK(static_cast<int64_t>(logits.size()) == O * spec_.vocab);
  const AttentionPlan& plan = ops_->BeginStep(batch);
  step_tokens_ = T;
  const View residual = residual_.Prefix(T), x = x_.Prefix(T);

  ops_->Embed(residual, *weights_.embedding, plan);
  RETURN_IF_ERROR(Layers(residual, x, plan));
  if (O == 0) return ops_->EndStep(View{}, {});
  const View rows = rows_.Prefix(O), out = logits_.Prefix(O);
  ops_->GatherRows(rows, x, plan);
  ops_->Gemm(out, rows, *weights_.head, Accumulate::kSet);
  return ops_->EndStep(out, logits);
}

absl::Status Decoder::Layers(const View& residual, const View& x, const AttentionPlan& plan) {
  ops_->AddRmsNorm(residual, x, View{}, *weights_.layers[0].attention_norm, spec_.norm_epsilon);
  for (int32_t layer = 0; layer < spec_.layers; ++layer) {
    const LayerWeights& w = weights_.layers[layer];
    Attention(layer, residual, x, plan);
    RETURN_IF_ERROR(Sum(x));
    // Once, to the sum.
    if (w.attention_out_bias != nullptr) ops_->AddBias(x, *w.attention_out_bias);
    ops_->AddRmsNorm(residual, x, x, *w.ffn_norm, spec_.norm_epsilon);
    const View added = FeedForward(layer, x, plan);
    RETURN_IF_ERROR(Sum(added));
    const Weight& norm = layer + 1 < spec_.layers ? *weights_.layers[layer + 1].attention_norm : *weights_.output_norm;
    ops_->AddRmsNorm(residual, x, added, norm, spec_.norm_epsilon);
  }
  return absl::OkStatus();
}

void Decoder::Attention(int32_t layer, const View& residual, const View& x, const AttentionPlan& plan) {
  if (spec_.latent) return LatentAttention(layer, x, plan);
  const LayerWeights& w = weights_.layers[layer];
  const int64_t T = residual.shape[0], H = spec_.heads, G = spec_.kv_heads, Dk = spec_.head_dim;
  const int64_t stride = spec_.qkv_width();
  const View qkv = qkv_.Prefix(T);
  const View q = Heads(qkv, 0, H, Dk), k = Heads(qkv, H * Dk, G, Dk), v = Heads(qkv, (H + G) * Dk, G, Dk);

  ops_->Gemm(qkv, x, *w.qkv, Accumulate::kSet);
  if (w.qkv_bias != nullptr) ops_->AddBias(qkv, *w.qkv_bias);
  if (w.q_norm != nullptr) {
    const bool whole = spec_.head_norm_whole;
    ops_->HeadRmsNorm(whole ? Heads(qkv, 0, 1, H * Dk) : q, stride, *w.q_norm, spec_.norm_epsilon);
    ops_->HeadRmsNorm(whole ? Heads(qkv, H * Dk, 1, G * Dk) : k, stride, *w.k_norm, spec_.norm_epsilon);
  }
  ops_->Rope(q, stride, rope_, plan);
  ops_->Rope(k, stride, rope_, plan);
  ops_->KvWrite(kv_[layer], k, v, stride, plan);
  View heads = attention_.Prefix(T);  // [T, H, Dk], then the same as [T, H * Dk]
  ops_->Attention(heads, q, stride, kv_[layer], Terms(layer), plan);
  heads.shape = Shape{T, H * Dk};
  ops_->Gemm(x, heads, *w.attention_out, Accumulate::kSet);
}

// All heads share one key, latent | rotated, whose latent is also the value: queries are taken to the latent, and what
// attention gives is taken from it.
void Decoder::LatentAttention(int32_t layer, const View& x, const AttentionPlan& plan) {
  const LayerWeights& w = weights_.layers[layer];
  const LatentAttentionSpec& latent = *spec_.latent;
  const int64_t T = x.shape[0], H = spec_.heads, C = latent.latent, R = spec_.rotated, N = latent.unrotated;
  const View query = qkv_.Prefix(T), key = key_.Prefix(T);
  if (w.q_down != nullptr) {
    const View low = low_query_.Prefix(T);
    ops_->Gemm(low, x, *w.q_down, Accumulate::kSet);
    ops_->HeadRmsNorm(Heads(low, 0, 1, latent.query_rank), latent.query_rank, *w.q_down_norm, latent.norm_epsilon);
    ops_->Gemm(query, low, *w.q_up, Accumulate::kSet);
  } else {
    ops_->Gemm(query, x, *w.q_up, Accumulate::kSet);
  }
  ops_->Gemm(key, x, *w.kv_down, Accumulate::kSet);
  ops_->HeadRmsNorm(Heads(key, 0, 1, C), C + R, *w.latent_norm, latent.norm_epsilon);
  ops_->Rope(Heads(key, C, 1, R), C + R, rope_, plan);
  // Of each head the last R; the view is as wide as a head, since that is how far apart they lie.
  ops_->Rope(Heads(query, N, H, N + R), H * (N + R), rope_, plan);
  ops_->KvWrite(kv_[layer], Heads(key, 0, 1, C + R), View{}, C + R, plan);
  const View latent_query = latent_query_.Prefix(T), latents = latent_.Prefix(T);
  ops_->HeadGemm(latent_query, Heads(query, 0, H, N + R), *w.k_up);
  ops_->Attention(latents, latent_query, H * (C + R), kv_[layer], Terms(layer), plan);
  View heads = attention_.Prefix(T);
  ops_->HeadGemm(heads, latents, *w.v_up);
  heads.shape = Shape{T, H * latent.value};
  ops_->Gemm(x, heads, *w.attention_out, Accumulate::kSet);
}

void Decoder::DenseNetwork(const LayerWeights& w, const View& y, const View& x) {
  const int64_t T = x.shape[0], F = w.down->columns;
  View gate_up = gate_up_.Prefix(T), activated = activated_.Prefix(T);
  gate_up.shape = Shape{T, 2 * F};
  activated.shape = Shape{T, F};
  ops_->Gemm(gate_up, x, *w.gate_up, Accumulate::kSet);
  ops_->SwiGlu(activated, gate_up);
  ops_->Gemm(y, activated, *w.down, Accumulate::kSet);
}

View Decoder::FeedForward(int32_t layer, const View& x, const AttentionPlan& plan) {
  const LayerWeights& w = weights_.layers[layer];
  if (w.router == nullptr) {
    DenseNetwork(w, x, x);
    return x;
  }
  const RouterSpec& router = spec_.experts->router;
  const int64_t T = x.shape[0];
  const View logits = router_logits_.Prefix(T), mixed = mixed_.Prefix(T);
  const auto of_layer = [&](View view) {
    view.data += expert_layer_[layer] * T * router.top_k * int64_t{sizeof(int32_t)};
    view.shape = Shape{T, router.top_k};
    return view;
  };
  const View ids = of_layer(expert_ids_), weights = of_layer(expert_weights_);
  ops_->Gemm(logits, x, *w.router, Accumulate::kSet);
  if (w.router_bias != nullptr) ops_->AddBias(logits, *w.router_bias);
  ops_->Route(ids, weights, logits, w.selection_bias, router, plan);
  const bool shared = w.gate_up != nullptr;
  if (shared) {
    DenseNetwork(w, mixed, x);
    if (w.shared_router != nullptr) {
      const View gate = shared_gate_.Prefix(T);
      ops_->Gemm(gate, x, *w.shared_router, Accumulate::kSet);
      ops_->SigmoidGate(mixed, gate);
    }
  }
  const ExpertTerms terms = {.gate_up_bias = w.experts_gate_up_bias,
                             .down_bias = w.experts_down_bias,
                             .activation = spec_.experts->activation,
                             .first_expert = weights_.first_expert};
  ops_->ExpertFfn(mixed, x, ids, weights, *w.experts_gate_up, *w.experts_down, terms,
                  shared ? Accumulate::kAdd : Accumulate::kSet);
  return mixed;
}

absl::Status Decoder::LastRouting(std::vector<int32_t>* ids, std::vector<float>* weights) {
  const int64_t rows = spec_.num_expert_layers() * step_tokens_;
  const int64_t slots = spec_.experts ? rows * spec_.experts->router.top_k : 0;
  ids->resize(static_cast<size_t>(slots));
  if (weights != nullptr) weights->resize(static_cast<size_t>(slots));
  if (slots == 0) return absl::OkStatus();
  RETURN_IF_ERROR(ops_->Download(expert_ids_.Prefix(rows), std::as_writable_bytes(std::span(*ids))));
  if (weights == nullptr) return absl::OkStatus();
  return ops_->Download(expert_weights_.Prefix(rows), std::as_writable_bytes(std::span(*weights)));
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
