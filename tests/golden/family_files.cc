// SPDX-License-Identifier: Apache-2.0
#include "tests/golden/family_files.h"

#include <fstream>

#include "common/check.h"
#include "engine/quant/half.h"
#include "tests/golden/turned_experts.h"
#include "tests/testing/formula.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/tiny_model.h"

namespace conclave::testing {
namespace {

using engine::DType;
using engine::Shape;

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// A block's scale, then byte j holds the codes of elements j and j + 16.
std::string Q4Bytes(const std::vector<float>& values, float step) {
  const uint16_t scale = engine::quant::FloatToHalf(step);
  std::string bytes;
  const auto code = [&](size_t i) { return static_cast<int>(values[i] / step) + 8; };
  for (size_t block = 0; block < values.size(); block += 32) {
    bytes.append(reinterpret_cast<const char*>(&scale), sizeof(scale));
    for (size_t j = block; j < block + 16; ++j) bytes.push_back(static_cast<char>(code(j) | code(j + 16) << 4));
  }
  return bytes;
}

std::string Bytes(DType dtype, const std::vector<float>& values, float step) {
  if (dtype == DType::kQ4_0) return Q4Bytes(values, step);
  if (dtype == DType::kMXFP4) return MicroscaledBytes(values);
  return PlainBytes(dtype, values);
}

// A whole number from the config, or `fallback` where it is absent or null.
int32_t Int(const nlohmann::json& config, const char* key, int32_t fallback = 0) {
  return config.contains(key) && config[key].is_number() ? config[key].get<int32_t>() : fallback;
}

struct Rename {
  const char *hf, *gguf;
};
constexpr Rename kRenames[] = {
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {"mlp.gate.", "ffn_gate_inp."},
    {"mlp.router.", "ffn_gate_inp."},
    {"self_attn.sinks", "attn_sinks.weight"},
    {"block_sparse_moe.gate.", "ffn_gate_inp."},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

struct ExpertName {
  const char *before, *after, *gguf;
};
constexpr ExpertName kExpertNames[] = {{"mlp.experts.", ".gate_proj.weight", "ffn_gate_exps.weight"},
                                       {"mlp.experts.", ".up_proj.weight", "ffn_up_exps.weight"},
                                       {"mlp.experts.", ".down_proj.weight", "ffn_down_exps.weight"},
                                       {"block_sparse_moe.experts.", ".w1.weight", "ffn_gate_exps.weight"},
                                       {"block_sparse_moe.experts.", ".w3.weight", "ffn_up_exps.weight"},
                                       {"block_sparse_moe.experts.", ".w2.weight", "ffn_down_exps.weight"}};

// Rows of each head from (half, pair) to (pair, half): for interleaved rotation.
FamilyTensor Interleaved(const FamilyTensor& tensor, int64_t heads) {
  const int64_t width = tensor.shape[0] / heads, columns = tensor.shape[1];
  FamilyTensor result = tensor;
  for (int64_t row = 0; row < tensor.shape[0]; ++row) {
    const int64_t h = row / width, i = row % width, from = h * width + i % 2 * (width / 2) + i / 2;
    std::copy_n(tensor.values.begin() + from * columns, columns, result.values.begin() + row * columns);
  }
  return result;
}

class Writer {
 public:
  Writer(const FamilyCheckpoint& family, DType matrices, LatentForm form)
      : family_(family), config_(family.config), arch_(GgufArchitecture(family)), matrices_(matrices), form_(form) {}

  GgufWriter Write() {
    w_.Add("general.architecture", arch_).Add("general.name", "tiny");
    Metadata();
    if (config_.contains("kv_lora_rank")) LatentMetadata();
    AddTinyVocabulary(&w_);
    for (const auto& [name, tensor] : family_.tensors) Tensor(name, tensor);
    if (Int(config_, "num_nextn_predict_layers") > 0) {
      Key("nextn_predict_layers", 1);
      Put("blk." + std::to_string(Int(config_, "num_hidden_layers")) + ".nextn.eh_proj.weight",
          {Shape{2, 4}, std::vector<float>(8, 1.0f), 1.0f});
    }
    return std::move(w_);
  }

 private:
  void Key(const std::string& suffix, int32_t value) { w_.Add(arch_ + "." + suffix, static_cast<uint32_t>(value)); }

  void Metadata() {
    Key("block_count", Int(config_, "num_hidden_layers") + (Int(config_, "num_nextn_predict_layers") > 0 ? 1 : 0));
    Key("context_length", Int(config_, "max_position_embeddings"));
    Key("embedding_length", Int(config_, "hidden_size"));
    Key("feed_forward_length", Int(config_, "intermediate_size"));
    Key("attention.head_count", Int(config_, "num_attention_heads"));
    w_.Add(arch_ + ".attention.layer_norm_rms_epsilon", config_["rms_norm_eps"].get<float>());
    w_.Add(arch_ + ".rope.freq_base", config_["rope_theta"].get<float>());
    for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
      if (config_.contains(key)) Key("expert_count", Int(config_, key));
    }
    if (config_.contains("num_experts_per_tok")) Key("expert_used_count", Int(config_, "num_experts_per_tok"));
    if (Int(config_, "sliding_window") > 0) Key("attention.sliding_window", Int(config_, "sliding_window"));
    if (config_.contains("moe_intermediate_size")) {
      Key("expert_feed_forward_length", Int(config_, "moe_intermediate_size"));
    }
    if (arch_ == "gpt-oss") Key("expert_feed_forward_length", Int(config_, "intermediate_size"));
    if (config_.contains("shared_expert_intermediate_size")) {
      Key("expert_shared_feed_forward_length", Int(config_, "shared_expert_intermediate_size"));
    }
    if (config_.contains("n_routed_experts")) DeepseekMetadata();
    if (config_.contains("partial_rotary_factor")) {
      Key("rope.dimension_count",
          static_cast<int32_t>(Int(config_, "head_dim") * config_["partial_rotary_factor"].get<float>()));
    }
    if (config_.contains("rope_scaling")) ScalingMetadata(config_["rope_scaling"]);
    if (config_.contains("kv_lora_rank")) return;
    Key("attention.head_count_kv", Int(config_, "num_key_value_heads"));
    if (config_.contains("head_dim")) Key("attention.key_length", Int(config_, "head_dim"));
    if (config_.contains("head_dim")) Key("attention.value_length", Int(config_, "head_dim"));
  }

  // What DeepSeek and GLM share.
  void DeepseekMetadata() {
    Key("leading_dense_block_count", Int(config_, "first_k_dense_replace"));
    Key("expert_shared_count", Int(config_, "n_shared_experts"));
    Key("expert_group_count", Int(config_, "n_group"));
    Key("expert_group_used_count", Int(config_, "topk_group"));
    Key("expert_gating_func", config_.value("scoring_func", "sigmoid") == "sigmoid" ? 2 : 1);
    w_.Add(arch_ + ".expert_weights_norm", config_["norm_topk_prob"].get<bool>());
    w_.Add(arch_ + ".expert_weights_scale", config_["routed_scaling_factor"].get<float>());
  }

  void LatentMetadata() {
    const int32_t latent = Int(config_, "kv_lora_rank"), rotated = Int(config_, "qk_rope_head_dim");
    const int32_t key = Int(config_, "qk_nope_head_dim") + rotated, value = Int(config_, "v_head_dim");
    const bool split = form_ == LatentForm::kSplit;
    Key("attention.head_count_kv", split ? 1 : Int(config_, "num_attention_heads"));
    Key("attention.key_length", split ? latent + rotated : key);
    Key("attention.value_length", split ? latent : value);
    if (split) Key("attention.key_length_mla", key);
    if (split) Key("attention.value_length_mla", value);
    if (Int(config_, "q_lora_rank") > 0) Key("attention.q_lora_rank", Int(config_, "q_lora_rank"));
    Key("attention.kv_lora_rank", latent);
    Key("rope.dimension_count", rotated);
  }

  void ScalingMetadata(const nlohmann::json& scaling) {
    w_.Add(arch_ + ".rope.scaling.type", "yarn");
    w_.Add(arch_ + ".rope.scaling.factor", scaling["factor"].get<float>());
    Key("rope.scaling.original_context_length", Int(scaling, "original_max_position_embeddings"));
    if (!scaling.contains("mscale_all_dim")) return;
    w_.Add(arch_ + ".rope.scaling.yarn_log_multiplier", 0.1f * scaling["mscale_all_dim"].get<float>());
  }

  void Tensor(const std::string& name, const FamilyTensor& tensor) {
    if (name == "model.embed_tokens.weight") return Put("token_embd.weight", tensor);
    if (name == "model.norm.weight") return Put("output_norm.weight", tensor);
    if (name == "lm_head.weight") return Put("output.weight", tensor);
    for (const ExpertName& expert : kExpertNames) {
      const std::string first = std::string(expert.before) + "0" + expert.after;
      if (name.find(first) != std::string::npos) return Stacked(name, expert);
      if (name.find(expert.before) != std::string::npos && name.ends_with(expert.after)) return;
    }
    std::string renamed = Replaced(name, "model.layers.", "blk.");
    const std::vector<NamedTensor> parts = GgufExpertParts(renamed, tensor);
    for (const NamedTensor& part : parts) Put(part.name, part.tensor);
    if (!parts.empty()) return;
    for (const Rename& rename : kRenames) renamed = Replaced(renamed, rename.hf, rename.gguf);
    if (renamed.ends_with("attn_kv_b.weight") && form_ == LatentForm::kSplit) return Split(renamed, tensor);
    if (arch_ == "llama" && renamed.ends_with("attn_q.weight")) {
      return Put(renamed, Interleaved(tensor, Int(config_, "num_attention_heads")));
    }
    if (arch_ == "llama" && renamed.ends_with("attn_k.weight")) {
      return Put(renamed, Interleaved(tensor, Int(config_, "num_key_value_heads")));
    }
    if (renamed.ends_with("ffn_gate_inp_shexp.weight"))
      return Put(renamed, {Shape{tensor.shape[1]}, tensor.values, tensor.step});
    if (arch_ == "glm4moe" || arch_ == "gpt-oss") renamed = Replaced(renamed, "ffn_norm", "post_attention_norm");
    Put(renamed, tensor);
  }

  // All experts' matrices in one tensor; `first` names that of expert 0.
  void Stacked(const std::string& first, const ExpertName& expert) {
    const size_t at = first.find(expert.before) + std::string_view(expert.before).size();
    FamilyTensor all;
    int64_t count = 0;
    for (;; ++count) {
      const auto it = family_.tensors.find(std::string(first).replace(at, 1, std::to_string(count)));
      if (it == family_.tensors.end()) break;
      all.values.insert(all.values.end(), it->second.values.begin(), it->second.values.end());
    }
    const Shape& shape = family_.tensors.at(first).shape;
    all.shape = Shape{count, shape[0], shape[1]};
    all.step = family_.tensors.at(first).step;
    const std::string prefix = first.substr(0, first.find(expert.before));
    Put(Replaced(prefix, "model.layers.", "blk.") + expert.gguf, all);
  }

  // kv_b [H (N + V), C] as k_b [H, C, N] and v_b [H, V, C].
  void Split(const std::string& name, const FamilyTensor& tensor) {
    const int64_t H = Int(config_, "num_attention_heads"), N = Int(config_, "qk_nope_head_dim");
    const int64_t V = Int(config_, "v_head_dim"), C = Int(config_, "kv_lora_rank");
    FamilyTensor k{Shape{H, C, N}, {}, tensor.step}, v{Shape{H, V, C}, {}, tensor.step};
    const auto at = [&](int64_t h, int64_t row, int64_t c) { return tensor.values[(h * (N + V) + row) * C + c]; };
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t c = 0; c < C; ++c) {
        for (int64_t n = 0; n < N; ++n) k.values.push_back(at(h, n, c));
      }
      for (int64_t row = 0; row < V; ++row) {
        for (int64_t c = 0; c < C; ++c) v.values.push_back(at(h, N + row, c));
      }
    }
    Put(Replaced(name, "attn_kv_b", "attn_k_b"), k);
    Put(Replaced(name, "attn_kv_b", "attn_v_b"), v);
  }

  void Put(const std::string& name, const FamilyTensor& tensor) {
    const bool matrix =
        tensor.shape.rank() > 1 && name.find("ffn_gate_inp") == std::string::npos && !name.ends_with(".bias");
    DType dtype = matrix ? matrices_ : DType::kF32;
    if (dtype == DType::kQ4_0 && tensor.microscaled) dtype = DType::kMXFP4;
    // Rows of k_b are too short for blocks here.
    if (dtype == DType::kQ4_0 && tensor.shape.back() % 32 != 0) dtype = DType::kBF16;
    w_.AddTensor(name, dtype, tensor.shape, Bytes(dtype, tensor.values, tensor.step));
  }

  const FamilyCheckpoint& family_;
  const nlohmann::json& config_;
  const std::string arch_;
  const DType matrices_;
  const LatentForm form_;
  GgufWriter w_;
};

// Adds the experts of one layer as two tensors.
void AddJoinedExperts(const FamilyCheckpoint& family, const std::string& prefix, DType dtype, SafetensorsWriter* w) {
  std::vector<float> gate_up, down;
  Shape gate_shape, down_shape;
  int64_t count = 0;
  for (;; ++count) {
    const std::string expert = prefix + std::to_string(count);
    const auto gate = family.tensors.find(expert + ".gate_proj.weight");
    if (gate == family.tensors.end()) break;
    const FamilyTensor& up = family.tensors.at(expert + ".up_proj.weight");
    const FamilyTensor& back = family.tensors.at(expert + ".down_proj.weight");
    gate_up.insert(gate_up.end(), gate->second.values.begin(), gate->second.values.end());
    gate_up.insert(gate_up.end(), up.values.begin(), up.values.end());
    down.insert(down.end(), back.values.begin(), back.values.end());
    gate_shape = gate->second.shape;
    down_shape = back.shape;
  }
  w->Add(prefix + "gate_up_proj", dtype, Shape{count, 2 * gate_shape[0], gate_shape[1]}, Bytes(dtype, gate_up, 0));
  w->Add(prefix + "down_proj", dtype, Shape{count, down_shape[0], down_shape[1]}, Bytes(dtype, down, 0));
}

}  // namespace

FamilyCheckpoint::FamilyCheckpoint(const nlohmann::json& golden_case) : config(golden_case["config"]) {
  const std::string salt = golden_case["salt"];
  for (const nlohmann::json& entry : golden_case["tensors"]) {
    std::vector<int64_t> dims = entry["shape"];
    const Shape shape(dims);
    for (int32_t i = 0; i < std::max(Int(entry, "count"), 1); ++i) {
      const std::string name = Replaced(entry["name"], "#", std::to_string(i));
      const auto elements = static_cast<size_t>(shape.elements());
      if (entry.contains("microscale")) {
        tensors[name] = {shape, FormulaMicroscaled(salt + name, elements, entry["microscale"]), 0, true};
      } else if (entry.contains("step")) {
        tensors[name] = {shape, FormulaCodes(salt + name, elements, entry["step"]), entry["step"]};
      } else {
        tensors[name] = {shape, FormulaWeights(salt + name, elements, entry["amplitude"], entry["offset"])};
      }
    }
  }
}

std::string GgufArchitecture(const FamilyCheckpoint& family) {
  const std::string type = family.config["model_type"];
  if (type == "mistral") return "llama";
  if (type == "gpt_oss") return "gpt-oss";
  if (type == "mixtral") return "llama";
  if (type == "glm4_moe") return "glm4moe";
  if (type == "qwen2_moe") return "qwen2moe";
  if (type == "olmoe") return "olmoe";
  if (type == "deepseek_v2" || type == "deepseek_v3") return "deepseek2";
  // GGUF's Qwen3-MoE has experts in every layer, renormalises and has no windows.
  if (family.config.contains("use_sliding_window") && family.config["use_sliding_window"]) return "";
  if (type == "qwen3_moe" && family.config["norm_topk_prob"] && family.config["mlp_only_layers"].empty()) {
    return "qwen3moe";
  }
  return "";
}

void WriteFamilyDirectory(const FamilyCheckpoint& family, DType matrices, ExpertForm form, const std::string& folder) {
  nlohmann::json config = family.config;
  if (form == ExpertForm::kMicroscaled) {
    config["quantization_config"] = {{"quant_method", "mxfp4"}, {"modules_to_not_convert", {"lm_head"}}};
  }
  std::ofstream(folder + "/config.json") << config.dump(1);
  SafetensorsWriter w;
  for (const auto& [name, tensor] : family.tensors) {
    if (tensor.microscaled) {
      AddTurnedExperts(name, tensor, matrices, form, &w);
      continue;
    }
    const size_t experts = name.find("mlp.experts.");
    if (form == ExpertForm::kJoined && experts != std::string::npos) {
      const std::string prefix = name.substr(0, experts + std::string_view("mlp.experts.").size());
      if (name == prefix + "0.down_proj.weight") AddJoinedExperts(family, prefix, matrices, &w);
      continue;
    }
    const DType dtype = tensor.shape.rank() > 1 ? matrices : DType::kF32;
    w.Add(name, dtype, tensor.shape, Bytes(dtype, tensor.values, 0));
  }
  if (Int(family.config, "num_nextn_predict_layers") > 0) {
    w.Add("model.layers." + family.config["num_hidden_layers"].dump() + ".eh_proj.weight", Shape{2, 4},
          std::vector<float>(8, 1.0f));
  }
  w.Write(folder + "/model.safetensors");
}

GgufWriter FamilyGguf(const FamilyCheckpoint& family, DType matrices, LatentForm form) {
  CONCLAVE_CHECK(!GgufArchitecture(family).empty());
  return Writer(family, matrices, form).Write();
}

}  // namespace conclave::testing
