// SPDX-License-Identifier: Apache-2.0
// What families call their tensors. The mathematics knows them by role; a checkpoint's form and family have one table.
#pragma once

#include <string>
#include <string_view>

namespace conclave::engine {

// A tensor's full name is <stem>.weight or <stem>.bias; of a layer <layer_prefix><number>.<stem>.weight.
struct TensorNames {
  std::string_view embedding, output_norm, head;
  std::string_view layer_prefix;
  // Of a layer.
  std::string_view attention_norm, q, k, v, q_norm, k_norm, attention_out;
  std::string_view sinks;  // whole, without ".weight"
  std::string_view ffn_norm, gate, up, down;
  // Of a layer with a mixture of experts. Where an expert's name has a '#', that stands for its number; else one tensor
  // [E, ..] holds all. Names of the second choice are whole, without ".weight", and used where the first are absent:
  // gate and up in one tensor [E, 2F, D].
  std::string_view router, expert_gate, expert_up, expert_down, experts_gate_up, experts_down;
  // Experts lie as in expert_layout.h, under experts_gate_up and experts_down with these endings; biases end in _bias.
  bool turned_experts = false;
  std::string_view selection_bias;  // whole
  std::string_view shared_gate, shared_up, shared_down, shared_router;
  // Of a layer with latent attention. Keys and values come out of the latent by one matrix, kv_up, whose rows are per
  // head [unrotated | value]; or by two tensors per head, k_up [H, latent, unrotated] (turned) and v_up.
  std::string_view q_down, q_down_norm, q_up, kv_down, latent_norm, kv_up, k_up, v_up;
  // Ends of names that hold nothing the mathematics needs (tables that are computed anew).
  std::string_view ignored_suffix;
  // Whether tensors outside the layers that nothing reads are errors too.
  bool closed = false;

  // `stem` with its '#', if any, replaced.
  static std::string Numbered(std::string_view stem, int number) {
    const size_t mark = stem.find('#');
    if (mark == std::string_view::npos) return std::string(stem);
    return std::string(stem.substr(0, mark)).append(std::to_string(number)).append(stem.substr(mark + 1));
  }
  std::string Layer(int layer, std::string_view stem) const {
    return std::string(layer_prefix).append(std::to_string(layer)).append(1, '.').append(stem);
  }
};

inline constexpr TensorNames kGgufNames = {.embedding = "token_embd",
                                           .output_norm = "output_norm",
                                           .head = "output",
                                           .layer_prefix = "blk.",
                                           .attention_norm = "attn_norm",
                                           .q = "attn_q",
                                           .k = "attn_k",
                                           .v = "attn_v",
                                           .q_norm = "attn_q_norm",
                                           .k_norm = "attn_k_norm",
                                           .attention_out = "attn_output",
                                           .sinks = "attn_sinks.weight",
                                           .ffn_norm = "ffn_norm",
                                           .gate = "ffn_gate",
                                           .up = "ffn_up",
                                           .down = "ffn_down",
                                           .router = "ffn_gate_inp",
                                           .expert_gate = "ffn_gate_exps",
                                           .expert_up = "ffn_up_exps",
                                           .expert_down = "ffn_down_exps",
                                           .experts_gate_up = "",
                                           .experts_down = "",
                                           .selection_bias = "exp_probs_b.bias",
                                           .shared_gate = "ffn_gate_shexp",
                                           .shared_up = "ffn_up_shexp",
                                           .shared_down = "ffn_down_shexp",
                                           .shared_router = "ffn_gate_inp_shexp",
                                           .q_down = "attn_q_a",
                                           .q_down_norm = "attn_q_a_norm",
                                           .q_up = "attn_q_b",
                                           .kv_down = "attn_kv_a_mqa",
                                           .latent_norm = "attn_kv_a_norm",
                                           .kv_up = "attn_kv_b",
                                           .k_up = "attn_k_b",
                                           .v_up = "attn_v_b",
                                           .ignored_suffix = "",
                                           .closed = false};

inline constexpr TensorNames kHfNames = {.embedding = "model.embed_tokens",
                                         .output_norm = "model.norm",
                                         .head = "lm_head",
                                         .layer_prefix = "model.layers.",
                                         .attention_norm = "input_layernorm",
                                         .q = "self_attn.q_proj",
                                         .k = "self_attn.k_proj",
                                         .v = "self_attn.v_proj",
                                         .q_norm = "self_attn.q_norm",
                                         .k_norm = "self_attn.k_norm",
                                         .attention_out = "self_attn.o_proj",
                                         .sinks = "self_attn.sinks",
                                         .ffn_norm = "post_attention_layernorm",
                                         .gate = "mlp.gate_proj",
                                         .up = "mlp.up_proj",
                                         .down = "mlp.down_proj",
                                         .router = "mlp.gate",
                                         .expert_gate = "mlp.experts.#.gate_proj",
                                         .expert_up = "mlp.experts.#.up_proj",
                                         .expert_down = "mlp.experts.#.down_proj",
                                         .experts_gate_up = "mlp.experts.gate_up_proj",
                                         .experts_down = "mlp.experts.down_proj",
                                         .selection_bias = "mlp.gate.e_score_correction_bias",
                                         .shared_gate = "mlp.shared_expert.gate_proj",
                                         .shared_up = "mlp.shared_expert.up_proj",
                                         .shared_down = "mlp.shared_expert.down_proj",
                                         .shared_router = "mlp.shared_expert_gate",
                                         .q_down = "self_attn.q_a_proj",
                                         .q_down_norm = "self_attn.q_a_layernorm",
                                         .q_up = "self_attn.q_b_proj",
                                         .kv_down = "self_attn.kv_a_proj_with_mqa",
                                         .latent_norm = "self_attn.kv_a_layernorm",
                                         .kv_up = "self_attn.kv_b_proj",
                                         .k_up = "",
                                         .v_up = "",
                                         .ignored_suffix = ".rotary_emb.inv_freq",
                                         .closed = true};

// Mixtral: its own words for the same.
inline constexpr TensorNames kHfMixtralNames = [] {
  TensorNames names = kHfNames;
  names.router = "block_sparse_moe.gate";
  names.expert_gate = "block_sparse_moe.experts.#.w1";
  names.expert_up = "block_sparse_moe.experts.#.w3";
  names.expert_down = "block_sparse_moe.experts.#.w2";
  return names;
}();

// gpt-oss.
inline constexpr TensorNames kHfGptOssNames = [] {
  TensorNames names = kHfNames;
  names.router = "mlp.router";
  names.turned_experts = true;
  return names;
}();

// DeepSeek: several shared experts, in one.
inline constexpr TensorNames kHfDeepseekNames = [] {
  TensorNames names = kHfNames;
  names.shared_gate = "mlp.shared_experts.gate_proj";
  names.shared_up = "mlp.shared_experts.up_proj";
  names.shared_down = "mlp.shared_experts.down_proj";
  return names;
}();

// GLM-4-MoE and gpt-oss call the norm before the feed-forward network by what precedes it.
inline constexpr TensorNames kGgufPostNormNames = [] {
  TensorNames names = kGgufNames;
  names.ffn_norm = "post_attention_norm";
  return names;
}();

// Mixtral files from before experts were stacked.
inline constexpr TensorNames kGgufSplitExpertNames = [] {
  TensorNames names = kGgufNames;
  names.expert_gate = "ffn_gate.#";
  names.expert_up = "ffn_up.#";
  names.expert_down = "ffn_down.#";
  return names;
}();

}  // namespace conclave::engine
