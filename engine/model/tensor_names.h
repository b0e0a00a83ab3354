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
  std::string_view ffn_norm, gate, up, down;
  // Ends of names that hold nothing the mathematics needs (tables that are computed anew).
  std::string_view ignored_suffix;
  // Whether tensors outside the layers that nothing reads are errors too.
  bool closed = false;

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
                                           .ffn_norm = "ffn_norm",
                                           .gate = "ffn_gate",
                                           .up = "ffn_up",
                                           .down = "ffn_down",
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
                                         .ffn_norm = "post_attention_layernorm",
                                         .gate = "mlp.gate_proj",
                                         .up = "mlp.up_proj",
                                         .down = "mlp.down_proj",
                                         .ignored_suffix = ".rotary_emb.inv_freq",
                                         .closed = true};

}  // namespace conclave::engine
