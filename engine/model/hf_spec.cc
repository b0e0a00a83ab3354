// SPDX-License-Identifier: Apache-2.0
#include "engine/model/hf_spec.h"

#include <algorithm>
#include <array>

#include "common/status.h"
#include "engine/model/hf_config.h"
#include "engine/model/hf_experts.h"
#include "engine/model/hf_rope.h"

namespace conclave::engine {
namespace {

// Which layers look back over `sliding_window` positions only.
enum class WindowRule : uint8_t {
  kNone,  // the class reads no such key
  kAll,   // every one
  // Only with `use_sliding_window`:
  kSwitched,   // every one
  kLast,       // from `max_window_layers` on, or as `layer_types` says
  kAlternate,  // every other one before `max_window_layers`, or as `layer_types` says
  // Always:
  kEveryOther,  // the first and every other one, or as `layer_types` says
};

// What a class of transformers has beyond the common terms. Defaults: its configuration_*.py.
struct Family {
  std::string_view model_type;
  bool qkv_bias = false;  // always; else `attention_bias` says, where the class reads that
  bool reads_attention_bias = false;
  bool default_attention_bias = false;
  bool out_bias = false;  // attention_bias puts one behind attention too
  bool reads_mlp_bias = false;
  bool head_norm = false;
  int32_t default_head_dim = 0;   // 0: hidden / heads
  bool kv_heads_required = true;  // else as many as query heads
  WindowRule window = WindowRule::kNone;
  int32_t default_window = 0;  // where `sliding_window` is absent; null always means none
  bool latent = false;
  PartialRotation partial_rotation = PartialRotation::kRefused;
  absl::Status (*experts)(const JsonObject& config, ModelSpec* spec) = nullptr;
};

constexpr std::array kFamilies = {
    Family{.model_type = "llama",
           .reads_attention_bias = true,
           .out_bias = true,
           .reads_mlp_bias = true,
           .kv_heads_required = false},
    Family{.model_type = "mistral", .window = WindowRule::kAll, .default_window = 4096},
    Family{.model_type = "qwen2", .qkv_bias = true, .window = WindowRule::kLast, .default_window = 4096},
    Family{.model_type = "qwen3",
           .reads_attention_bias = true,
           .out_bias = true,
           .head_norm = true,
           .default_head_dim = 128,
           .window = WindowRule::kLast,
           .default_window = 4096},
    Family{.model_type = "mixtral", .window = WindowRule::kAll, .experts = ReadMixtralExperts},
    Family{.model_type = "qwen2_moe",
           .qkv_bias = true,
           .window = WindowRule::kAlternate,
           .default_window = 4096,
           .experts = ReadQwen2Experts},
    Family{.model_type = "qwen3_moe",
           .reads_attention_bias = true,
           .out_bias = true,
           .head_norm = true,
           .window = WindowRule::kSwitched,
           .default_window = 4096,
           .experts = ReadQwen3Experts},
    Family{.model_type = "olmoe",
           .reads_attention_bias = true,
           .out_bias = true,
           .head_norm = true,
           .kv_heads_required = false,
           .experts = ReadOlmoeExperts},
    Family{.model_type = "deepseek_v2",
           .reads_mlp_bias = true,
           .kv_heads_required = false,
           .latent = true,
           .experts = ReadDeepseekV2Experts},
    Family{.model_type = "deepseek_v3", .kv_heads_required = false, .latent = true, .experts = ReadDeepseekV3Experts},
    Family{.model_type = "glm4_moe",
           .reads_attention_bias = true,
           .partial_rotation = PartialRotation::kRead,
           .experts = ReadGlm4Experts},
    Family{.model_type = "gpt_oss",
           .reads_attention_bias = true,
           .default_attention_bias = true,
           .out_bias = true,
           .default_head_dim = 64,
           .window = WindowRule::kEveryOther,
           .default_window = 128,
           .experts = ReadGptOssExperts},
    // Kimi-K2: DeepSeek-V3's architecture under a name of its own.
    Family{.model_type = "kimi_k2", .kv_heads_required = false, .latent = true, .experts = ReadDeepseekV3Experts},
};

absl::Status CheckKnown(const JsonObject& config) {
  if (const JsonValue* list = config.Find("architectures")) {
    ASSIGN_OR_RETURN(const std::vector<JsonValue> names, list->Array());
    for (const JsonValue& value : names) {
      ASSIGN_OR_RETURN(const std::string_view name, value.String());
      if (!name.ends_with("ForCausalLM")) {
        return Unknown(config, "\"architectures\" has \"{}\"; only ..ForCausalLM generates text", name);
      }
    }
  }
  ASSIGN_OR_RETURN(const std::string_view activation, config.StringOr("hidden_act", "silu"));
  if (activation != "silu") return Unknown(config, "\"hidden_act\" is \"{}\"; known is silu", activation);
  return absl::OkStatus();
}

absl::Status ReadSizes(const JsonObject& config, const Family& family, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->layers, Count(config, "num_hidden_layers", kLayersMax));
  ASSIGN_OR_RETURN(spec->hidden, Count(config, "hidden_size", kHiddenMax));
  ASSIGN_OR_RETURN(spec->heads, Count(config, "num_attention_heads", kHeadsMax));
  ASSIGN_OR_RETURN(spec->kv_heads, family.kv_heads_required
                                       ? Count(config, "num_key_value_heads", kHeadsMax)
                                       : CountOr(config, "num_key_value_heads", kHeadsMax, spec->heads));
  ASSIGN_OR_RETURN(spec->feed_forward, Count(config, "intermediate_size", kFeedForwardMax));
  ASSIGN_OR_RETURN(spec->vocab, Count(config, "vocab_size", kVocabMax));
  ASSIGN_OR_RETURN(spec->context_tokens, Count(config, "max_position_embeddings", kContextTokensMax));
  if (spec->heads % spec->kv_heads != 0) {
    return config.self().Invalid(
        fmt::format("{} query heads cannot share {} key/value heads evenly", spec->heads, spec->kv_heads));
  }
  const int32_t head_dim = family.default_head_dim != 0 ? family.default_head_dim : spec->hidden / spec->heads;
  if (!family.latent && !config.Has("head_dim") && family.default_head_dim == 0 && spec->hidden % spec->heads != 0) {
    return config.self().Invalid(
        fmt::format("width {} is no multiple of {} heads and \"head_dim\" is absent", spec->hidden, spec->heads));
  }
  ASSIGN_OR_RETURN(spec->head_dim, CountOr(config, "head_dim", kHeadDimMax, head_dim));
  if (!family.latent && spec->head_dim % 2 != 0)
    return config.self().Invalid(fmt::format("\"head_dim\" {} is odd", spec->head_dim));
  ASSIGN_OR_RETURN(const JsonValue epsilon, config.Get("rms_norm_eps"));
  ASSIGN_OR_RETURN(const double value, epsilon.Number());
  if (!(value > 0 && value < 1)) return epsilon.Invalid(fmt::format("is {}, must be in (0, 1)", value));
  spec->norm_epsilon = static_cast<float>(value);
  return absl::OkStatus();
}

absl::Status ReadTerms(const JsonObject& config, const Family& family, ModelSpec* spec) {
  spec->head_norm = family.head_norm;
  spec->attention_bias = family.qkv_bias;
  if (family.reads_attention_bias) {
    ASSIGN_OR_RETURN(const bool bias, config.BoolOr("attention_bias", family.default_attention_bias));
    spec->attention_bias = spec->attention_bias || bias;
    spec->attention_out_bias = bias && family.out_bias;
  }
  if (family.reads_mlp_bias) {
    ASSIGN_OR_RETURN(const bool bias, config.BoolOr("mlp_bias", false));
    if (bias) return Unknown(config, "\"mlp_bias\" is true: biases in the feed-forward network are not supported");
  }
  ASSIGN_OR_RETURN(spec->tied_head, config.BoolOr("tie_word_embeddings", false));
  return absl::OkStatus();
}

// [L] from `layer_types`, 1 for a layer with a window; empty where it is absent.
absl::StatusOr<std::vector<uint8_t>> ReadLayerTypes(const JsonObject& config, int32_t layers) {
  std::vector<uint8_t> windowed;
  const JsonValue* list = config.Find("layer_types");
  if (list == nullptr) return windowed;
  ASSIGN_OR_RETURN(const std::vector<JsonValue> types, list->Array());
  if (types.size() != static_cast<size_t>(layers)) {
    return list->Invalid(fmt::format("has {} entries for {} layers", types.size(), layers));
  }
  for (const JsonValue& value : types) {
    ASSIGN_OR_RETURN(const std::string_view type, value.String());
    if (type != "full_attention" && type != "sliding_attention") {
      return Unknown(config, "\"{}\" is \"{}\"; known are full_attention and sliding_attention", value.where(), type);
    }
    windowed.push_back(type == "sliding_attention" ? 1 : 0);
  }
  return windowed;
}

absl::Status ReadWindow(const JsonObject& config, const Family& family, ModelSpec* spec) {
  const WindowRule rule = family.window;
  if (rule == WindowRule::kNone) return absl::OkStatus();
  const bool given = std::any_of(config.members().begin(), config.members().end(),
                                 [](const JsonObject::Member& member) { return member.first == "sliding_window"; });
  ASSIGN_OR_RETURN(const int64_t window,
                   config.IntegerOr("sliding_window", 1, INT32_MAX, given ? 0 : family.default_window));
  if (window == 0) return absl::OkStatus();
  if (rule == WindowRule::kAll) {
    SetWindow(
        window, [](int32_t) { return true; }, spec);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const bool used, config.BoolOr("use_sliding_window", false));
  ASSIGN_OR_RETURN(const int64_t border, config.IntegerOr("max_window_layers", 0, INT32_MAX, 28));
  if (!used && rule != WindowRule::kEveryOther) return absl::OkStatus();
  std::vector<uint8_t> listed;
  if (rule != WindowRule::kSwitched) {
    ASSIGN_OR_RETURN(listed, ReadLayerTypes(config, spec->layers));
  }
  const auto has = [&](int32_t layer) {
    if (!listed.empty()) return listed[layer] != 0;
    if (rule == WindowRule::kLast) return layer >= border;
    if (rule == WindowRule::kSwitched) return true;
    return layer % 2 == 0 && (rule == WindowRule::kEveryOther || layer < border);
  };
  SetWindow(window, has, spec);
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> ReadFamily(const JsonObject& config, const Family& family) {
  ModelSpec spec;
  spec.family = family.model_type;
  spec.names = &kHfNames;
  spec.rope_layout = RopeLayout::kHalfSplit;
  RETURN_IF_ERROR(CheckKnown(config));
  RETURN_IF_ERROR(ReadSizes(config, family, &spec));
  RETURN_IF_ERROR(ReadTerms(config, family, &spec));
  if (family.experts != nullptr) RETURN_IF_ERROR(family.experts(config, &spec));
  DropUnusedExperts(&spec);
  if (family.latent) RETURN_IF_ERROR(ReadHfLatentWidths(config, &spec));
  const int32_t rotated = family.latent ? spec.rotated : spec.head_dim;
  ASSIGN_OR_RETURN(const RopeParameters rope,
                   ReadHfRope(config, rotated, spec.context_tokens, family.partial_rotation));
  if (family.latent) SetLatentScale(rope, &spec);
  RopeTable table = MakeRopeTable(rope);
  spec.rotated = rope.rotated;
  spec.inverse_frequency = std::move(table.inverse_frequency);
  spec.rope_magnitude = table.magnitude;
  // Configs give YaRN with the context before it; it reaches `factor` times as far.
  if (rope.scaling == RopeScaling::kYarn) {
    const double reach = std::min<double>(rope.original_context * rope.factor, kContextTokensMax);
    spec.context_tokens = std::max(spec.context_tokens, static_cast<int32_t>(reach));
  }
  RETURN_IF_ERROR(ReadWindow(config, family, &spec));
  return spec;
}

}  // namespace

absl::StatusOr<ModelSpec> ReadHfSpec(const JsonDocument& document) {
  ASSIGN_OR_RETURN(const JsonObject config, document.root().Object());
  ASSIGN_OR_RETURN(const JsonValue type_value, config.Get("model_type"));
  ASSIGN_OR_RETURN(const std::string_view type, type_value.String());
  for (const Family& family : kFamilies) {
    if (family.model_type == type) return ReadFamily(config, family);
  }
  std::string known;
  for (const Family& family : kFamilies) known += fmt::format("{}{}", known.empty() ? "" : ", ", family.model_type);
  return Unknown(config, "\"model_type\" is \"{}\"; known: {}", type, known);
}

absl::StatusOr<ModelSpec> ReadHfSpec(const HfDirectory& directory) {
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> config, directory.ReadJson("config.json"));
  if (config == nullptr) return NotFound("{}: no config.json", directory.path());
  ASSIGN_OR_RETURN(ModelSpec spec, ReadHfSpec(*config));
  ASSIGN_OR_RETURN(const JsonObject object, config->root().Object());
  ASSIGN_OR_RETURN(spec.quantization, ReadQuantization(object));
  return spec;
}

}  // namespace conclave::engine
