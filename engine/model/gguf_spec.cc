// SPDX-License-Identifier: Apache-2.0
#include "engine/model/gguf_spec.h"

#include <array>
#include <cmath>
#include <cstring>

#include "common/status.h"
#include "engine/model/rope.h"

namespace conclave::engine {
namespace {

template <typename... Args>
absl::Status Unknown(const GgufFile& file, fmt::format_string<Args...> format, Args&&... args) {
  return Unimplemented("{}: {}", file.path(), fmt::format(format, std::forward<Args>(args)...));
}

// Reads "<family>.<suffix>" keys.
class Reader {
 public:
  Reader(const GgufFile& file, std::string_view family) : file_(file), family_(family) {}

  std::string Key(std::string_view suffix) const { return fmt::format("{}.{}", family_, suffix); }
  bool Has(std::string_view suffix) const { return file_.Has(Key(suffix)); }

  // A count in [1, max].
  absl::StatusOr<int32_t> Count(std::string_view suffix, uint32_t max) const {
    ASSIGN_OR_RETURN(const uint32_t value, file_.GetU32(Key(suffix)));
    if (value < 1 || value > max) {
      return ModelFileInvalid(file_.path(), "\"{}\" is {}, must be in [1, {}]", Key(suffix), value, max);
    }
    return static_cast<int32_t>(value);
  }
  absl::StatusOr<int32_t> CountOr(std::string_view suffix, uint32_t max, int32_t fallback) const {
    return Has(suffix) ? Count(suffix, max) : absl::StatusOr<int32_t>(fallback);
  }
  absl::StatusOr<float> PositiveOr(std::string_view suffix, float fallback) const {
    ASSIGN_OR_RETURN(const float value, file_.GetF32Or(Key(suffix), fallback));
    if (!(value > 0)) return ModelFileInvalid(file_.path(), "\"{}\" is {}, must be positive", Key(suffix), value);
    return value;
  }
  absl::StatusOr<float> PositiveOrZero(std::string_view suffix) const {
    return Has(suffix) ? PositiveOr(suffix, 0) : absl::StatusOr<float>(0.0f);
  }
  // A count in [0, max], 0 if absent.
  absl::StatusOr<int32_t> CountOrZero(std::string_view suffix, uint32_t max) const {
    ASSIGN_OR_RETURN(const uint32_t value, file_.GetU32Or(Key(suffix), 0));
    if (value > max) return ModelFileInvalid(file_.path(), "\"{}\" is {}, at most {}", Key(suffix), value, max);
    return static_cast<int32_t>(value);
  }

 private:
  const GgufFile& file_;
  const std::string_view family_;
};

absl::Status ReadRopeScaling(const GgufFile& file, const Reader& reader, RopeParameters* rope) {
  std::string_view type = "none";
  if (reader.Has("rope.scaling.type")) {
    ASSIGN_OR_RETURN(type, file.GetString(reader.Key("rope.scaling.type")));
  } else if (reader.Has("rope.scale_linear")) {  // before scaling types had names
    ASSIGN_OR_RETURN(rope->factor, reader.PositiveOr("rope.scale_linear", 1.0f));
    rope->scaling = RopeScaling::kLinear;
    return absl::OkStatus();
  }
  if (type == "none") return absl::OkStatus();
  if (type != "linear" && type != "yarn") {
    return Unknown(file, "\"{}\" is \"{}\"; known are none, linear and yarn", reader.Key("rope.scaling.type"), type);
  }
  ASSIGN_OR_RETURN(rope->factor, reader.PositiveOr("rope.scaling.factor", 1.0f));
  rope->scaling = type == "linear" ? RopeScaling::kLinear : RopeScaling::kYarn;
  if (type == "linear") return absl::OkStatus();
  ASSIGN_OR_RETURN(rope->original_context, reader.Count("rope.scaling.original_context_length", kContextTokensMax));
  ASSIGN_OR_RETURN(rope->beta_fast, reader.PositiveOr("rope.scaling.yarn_beta_fast", 32.0f));
  ASSIGN_OR_RETURN(rope->beta_slow, reader.PositiveOr("rope.scaling.yarn_beta_slow", 1.0f));
  // A factor on top of the formula's.
  ASSIGN_OR_RETURN(const float attention_factor, reader.PositiveOr("rope.scaling.attn_factor", 1.0f));
  rope->attention_factor = attention_factor * YarnMagnitude(rope->factor, 1.0);
  for (std::string_view term : {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"}) {
    if (reader.Has(term)) return Unknown(file, "\"{}\" is not supported", reader.Key(term));
  }
  return absl::OkStatus();
}

// Frequencies, divided by rope_freqs.weight (how GGUF ships Llama 3's scaling) where the file has it.
absl::Status ReadRope(const GgufFile& file, const Reader& reader, bool yarn_truncate, ModelSpec* spec) {
  if (!spec->latent) {
    ASSIGN_OR_RETURN(spec->rotated, reader.CountOr("rope.dimension_count", kHeadDimMax, spec->head_dim));
  }
  if (spec->rotated > spec->head_dim || spec->rotated % 2 != 0) {
    return ModelFileInvalid(file.path(), "\"{}\" is {}: must be even and at most the head's width, {}",
                            reader.Key("rope.dimension_count"), spec->rotated, spec->head_dim);
  }
  RopeParameters rope;
  rope.rotated = spec->rotated;
  rope.truncate = yarn_truncate;
  ASSIGN_OR_RETURN(rope.base, reader.PositiveOr("rope.freq_base", 10000.0f));
  RETURN_IF_ERROR(ReadRopeScaling(file, reader, &rope));
  if (file.FindTensor("rope_freqs.weight") != nullptr) {
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, file.GetTensor("rope_freqs.weight", Shape{spec->rotated / 2}));
    if (tensor.dtype != DType::kF32) {
      return Unknown(file, "tensor \"rope_freqs.weight\" is {}, only F32 is known", Name(tensor.dtype));
    }
    rope.divisors.resize(static_cast<size_t>(spec->rotated) / 2);
    std::memcpy(rope.divisors.data(), tensor.bytes.data(), rope.divisors.size() * sizeof(float));
    for (size_t i = 0; i < rope.divisors.size(); ++i) {
      if (!(rope.divisors[i] > 0) || !std::isfinite(rope.divisors[i])) {
        return ModelFileInvalid(file.path(), "tensor \"rope_freqs.weight\" has {} at {}, must be positive",
                                rope.divisors[i], i);
      }
    }
  }
  ASSIGN_OR_RETURN(const float log_multiplier, reader.PositiveOrZero("rope.scaling.yarn_log_multiplier"));
  if (spec->latent) {
    // The magnitude is folded into the scale of attention, with a factor of its own.
    rope.attention_factor = 1.0;
    const float m = rope.factor > 1 ? 1 + log_multiplier * std::log(static_cast<float>(rope.factor)) : 1.0f;
    spec->latent->scale = m * m / std::sqrt(static_cast<float>(spec->query_width()));
  } else if (log_multiplier != 0) {
    return Unknown(file, "\"{}\" is not supported for this family", reader.Key("rope.scaling.yarn_log_multiplier"));
  }
  RopeTable table = MakeRopeTable(rope);
  spec->inverse_frequency = std::move(table.inverse_frequency);
  spec->rope_magnitude = table.magnitude;
  return absl::OkStatus();
}

enum class Mixture : uint8_t {
  kNever,
  kMaybe,  // "llama": Mixtral
  kAlways,
};

// Layers that the file's sliding window is for.
enum class Window : uint8_t { kUnknown, kAll, kEveryOther };

struct Family {
  std::string_view architecture;
  RopeLayout rope_layout;
  bool head_norm = false;  // else it is there or not, if optional_head_norm
  bool head_norm_whole = false;
  bool optional_head_norm = false;
  bool needs_bias = false;  // on q, k and v; else it is there or not
  bool latent = false;
  Mixture mixture = Mixture::kNever;
  bool normalise = false;    // expert weights, where the file does not say
  bool shared_gate = false;  // of the shared expert
  uint32_t gating = 1;       // where the file does not say: 1 softmax, 2 sigmoid
  Window window = Window::kUnknown;
  bool yarn_truncate = true;  // see RopeParameters
  bool sinks = false;
  bool expert_biases = false;
  GatedActivation activation = {};
  const TensorNames* names = &kGgufNames;
};
constexpr std::array kFamilies = {
    // Llama 1-3, Mistral, Mixtral, SmolLM: q and k permuted for interleaved rotation.
    Family{.architecture = "llama",
           .rope_layout = RopeLayout::kInterleaved,
           .mixture = Mixture::kMaybe,
           .normalise = true,
           .window = Window::kAll},
    Family{.architecture = "qwen2", .rope_layout = RopeLayout::kHalfSplit, .needs_bias = true},
    Family{.architecture = "qwen3", .rope_layout = RopeLayout::kHalfSplit, .head_norm = true},
    Family{.architecture = "qwen2moe",
           .rope_layout = RopeLayout::kHalfSplit,
           .needs_bias = true,
           .mixture = Mixture::kAlways,
           .shared_gate = true},
    Family{.architecture = "qwen3moe",
           .rope_layout = RopeLayout::kHalfSplit,
           .head_norm = true,
           .mixture = Mixture::kAlways,
           .normalise = true},
    Family{.architecture = "olmoe",
           .rope_layout = RopeLayout::kHalfSplit,
           .head_norm = true,
           .head_norm_whole = true,
           .mixture = Mixture::kAlways},
    Family{.architecture = "glm4moe",
           .rope_layout = RopeLayout::kHalfSplit,
           .optional_head_norm = true,
           .mixture = Mixture::kAlways,
           .normalise = true,
           .gating = 2,
           .names = &kGgufPostNormNames},
    Family{.architecture = "gpt-oss",
           .rope_layout = RopeLayout::kHalfSplit,
           .needs_bias = true,
           .mixture = Mixture::kAlways,
           .normalise = true,
           .window = Window::kEveryOther,
           .yarn_truncate = false,
           .sinks = true,
           .expert_biases = true,
           .activation = kGptOssActivation,
           .names = &kGgufPostNormNames},
    // DeepSeek-V2, V3, R1, Kimi-K2.
    Family{.architecture = "deepseek2",
           .rope_layout = RopeLayout::kInterleaved,
           .latent = true,
           .mixture = Mixture::kMaybe},
};

absl::Status ReadRouter(const GgufFile& file, const Reader& reader, const Family& family, RouterSpec* router) {
  ASSIGN_OR_RETURN(router->experts, reader.Count("expert_count", kExpertsMax));
  ASSIGN_OR_RETURN(router->top_k, reader.Count("expert_used_count", kExpertsMax));
  ASSIGN_OR_RETURN(router->normalise, file.GetBoolOr(reader.Key("expert_weights_norm"), family.normalise));
  ASSIGN_OR_RETURN(router->scale, reader.PositiveOrZero("expert_weights_scale"));
  if (router->scale == 0) router->scale = 1;
  ASSIGN_OR_RETURN(const uint32_t function, file.GetU32Or(reader.Key("expert_gating_func"), family.gating));
  if (function < 1 || function > 3) {
    return Unknown(file, "\"{}\" is {}; known are 1 (softmax), 2 (sigmoid) and 3 (softmax of those chosen)",
                   reader.Key("expert_gating_func"), function);
  }
  if (function == 3) router->normalise = true;  // the softmax of all, divided by the sum over those chosen
  if (function == 2) {
    router->scores = RouterSpec::Scores::kSigmoid;
    router->group_score = RouterSpec::GroupScore::kTopTwoSum;
    router->sum_epsilon = 1e-20f;
  }
  ASSIGN_OR_RETURN(router->groups, reader.CountOr("expert_group_count", kExpertsMax, 1));
  ASSIGN_OR_RETURN(router->top_groups, reader.CountOr("expert_group_used_count", kExpertsMax, router->groups));
  return CheckRouter(file.path(), *router);
}

absl::Status ReadExperts(const GgufFile& file, const Reader& reader, const Family& family, ModelSpec* spec) {
  ASSIGN_OR_RETURN(const int32_t count, reader.CountOrZero("expert_count", kExpertsMax));
  if (count == 0 && family.mixture == Mixture::kMaybe) return absl::OkStatus();
  if (family.mixture == Mixture::kNever) {
    if (count == 0) return absl::OkStatus();
    return Unknown(file, "\"{}\" is {}, but this family is dense", reader.Key("expert_count"), count);
  }
  ExpertsSpec experts;
  RETURN_IF_ERROR(ReadRouter(file, reader, family, &experts.router));
  ASSIGN_OR_RETURN(experts.feed_forward,
                   reader.CountOr("expert_feed_forward_length", kFeedForwardMax, spec->feed_forward));
  ASSIGN_OR_RETURN(const int32_t shared, reader.CountOrZero("expert_shared_count", kExpertsMax));
  ASSIGN_OR_RETURN(experts.shared_feed_forward,
                   reader.CountOrZero("expert_shared_feed_forward_length", kFeedForwardMax));
  if (experts.shared_feed_forward == 0 && int64_t{shared} * experts.feed_forward <= kFeedForwardMax) {
    experts.shared_feed_forward = shared * experts.feed_forward;
  }
  experts.shared_gate = family.shared_gate;
  experts.biases = family.expert_biases;
  experts.activation = family.activation;
  if (family.shared_gate && experts.shared_feed_forward == 0) {  // older files: the tensor tells
    const CheckpointTensor* gate = file.FindTensor("blk.0.ffn_gate_shexp.weight");
    if (gate == nullptr || gate->shape.rank() != 2 || gate->shape[0] > int64_t{kFeedForwardMax}) {
      return ModelFileInvalid(file.path(), "tensor \"blk.0.ffn_gate_shexp.weight\" is missing or misshapen");
    }
    experts.shared_feed_forward = static_cast<int32_t>(gate->shape[0]);
  }
  ASSIGN_OR_RETURN(const int32_t dense, reader.CountOrZero("leading_dense_block_count", spec->layers));
  spec->expert_layers.assign(spec->layers, 1);
  std::fill_n(spec->expert_layers.begin(), dense, uint8_t{0});
  const std::string bias = fmt::format("blk.{}.exp_probs_b.bias", dense);
  experts.selection_bias = file.FindTensor(bias) != nullptr;
  if (file.FindTensor("blk.0.ffn_gate.0.weight") != nullptr) spec->names = &kGgufSplitExpertNames;
  spec->experts = experts;
  DropUnusedExperts(spec);
  return absl::OkStatus();
}

absl::Status ReadLatentAttention(const GgufFile& file, const Reader& reader, ModelSpec* spec) {
  LatentAttentionSpec latent;
  ASSIGN_OR_RETURN(latent.query_rank, reader.CountOrZero("attention.q_lora_rank", kHiddenMax));
  ASSIGN_OR_RETURN(latent.latent, reader.Count("attention.kv_lora_rank", kHiddenMax));
  ASSIGN_OR_RETURN(spec->rotated, reader.Count("rope.dimension_count", kHeadDimMax));
  // Newer files call the cached key and value key_length and value_length, and the heads' own with "_mla".
  const bool newer = reader.Has("attention.key_length_mla");
  ASSIGN_OR_RETURN(spec->head_dim,
                   reader.Count(newer ? "attention.key_length_mla" : "attention.key_length", kHeadDimMax));
  ASSIGN_OR_RETURN(latent.value,
                   reader.Count(newer ? "attention.value_length_mla" : "attention.value_length", kHeadDimMax));
  if (spec->rotated >= spec->head_dim) {
    return ModelFileInvalid(file.path(), "heads of width {} cannot have {} rotated elements and others", spec->head_dim,
                            spec->rotated);
  }
  latent.unrotated = spec->head_dim - spec->rotated;
  latent.norm_epsilon = spec->norm_epsilon;
  spec->kv_heads = 1;
  spec->latent = latent;
  return absl::OkStatus();
}

absl::Status ReadHeads(const GgufFile& file, const Reader& reader, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->kv_heads, reader.CountOr("attention.head_count_kv", kHeadsMax, spec->heads));
  if (spec->heads % spec->kv_heads != 0) {
    return ModelFileInvalid(file.path(), "{} query heads cannot share {} key/value heads evenly", spec->heads,
                            spec->kv_heads);
  }
  if (!reader.Has("attention.key_length") && spec->hidden % spec->heads != 0) {
    return ModelFileInvalid(file.path(), "width {} is no multiple of {} heads and \"{}\" is absent", spec->hidden,
                            spec->heads, reader.Key("attention.key_length"));
  }
  ASSIGN_OR_RETURN(spec->head_dim, reader.CountOr("attention.key_length", kHeadDimMax, spec->hidden / spec->heads));
  ASSIGN_OR_RETURN(const int32_t dim_v, reader.CountOr("attention.value_length", kHeadDimMax, spec->head_dim));
  if (dim_v != spec->head_dim) {
    return Unknown(file, "values of width {} beside keys of width {} are not supported", dim_v, spec->head_dim);
  }
  return absl::OkStatus();
}

absl::Status ReadWindow(const GgufFile& file, const Reader& reader, const Family& family, ModelSpec* spec) {
  ASSIGN_OR_RETURN(const int32_t window,
                   reader.CountOr("attention.sliding_window", kContextTokensMax, spec->context_tokens));
  if (window >= spec->context_tokens) return absl::OkStatus();  // it hides nothing
  if (family.window == Window::kUnknown) {
    return Unknown(file, "\"{}\" is {}, shorter than the context of {}: which layers have it is not known",
                   reader.Key("attention.sliding_window"), window, spec->context_tokens);
  }
  SetWindow(
      window, [&family](int32_t layer) { return family.window == Window::kAll || layer % 2 == 0; }, spec);
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> ReadFamily(const GgufFile& file, const Family& family) {
  const Reader reader(file, family.architecture);
  ModelSpec spec;
  spec.family = family.architecture;
  spec.names = family.names;
  spec.rope_layout = family.rope_layout;
  spec.head_norm =
      family.head_norm || (family.optional_head_norm && file.FindTensor("blk.0.attn_q_norm.weight") != nullptr);
  spec.head_norm_whole = family.head_norm_whole;
  spec.attention_sinks = family.sinks;
  ASSIGN_OR_RETURN(spec.layers, reader.Count("block_count", kLayersMax));
  ASSIGN_OR_RETURN(spec.prediction_layers, reader.CountOrZero("nextn_predict_layers", spec.layers - 1));
  spec.layers -= spec.prediction_layers;
  ASSIGN_OR_RETURN(spec.hidden, reader.Count("embedding_length", kHiddenMax));
  ASSIGN_OR_RETURN(spec.heads, reader.Count("attention.head_count", kHeadsMax));
  // Where experts have a width of their own and no layer is dense, it may be absent.
  ASSIGN_OR_RETURN(spec.feed_forward, reader.Has("expert_feed_forward_length")
                                          ? reader.CountOrZero("feed_forward_length", kFeedForwardMax)
                                          : reader.Count("feed_forward_length", kFeedForwardMax));
  ASSIGN_OR_RETURN(spec.context_tokens, reader.Count("context_length", kContextTokensMax));
  RETURN_IF_ERROR(ReadWindow(file, reader, family, &spec));
  ASSIGN_OR_RETURN(spec.norm_epsilon, reader.PositiveOr("attention.layer_norm_rms_epsilon", 1e-5f));
  RETURN_IF_ERROR(family.latent ? ReadLatentAttention(file, reader, &spec) : ReadHeads(file, reader, &spec));
  RETURN_IF_ERROR(ReadRope(file, reader, family.yarn_truncate, &spec));
  RETURN_IF_ERROR(ReadExperts(file, reader, family, &spec));
  if (spec.num_expert_layers() < spec.layers && spec.feed_forward == 0) {
    return ModelFileInvalid(file.path(), "\"{}\" is missing", reader.Key("feed_forward_length"));
  }

  const CheckpointTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) return ModelFileInvalid(file.path(), "tensor \"token_embd.weight\" is missing");
  if (embedding->shape.rank() != 2 || embedding->shape[0] > int64_t{kVocabMax}) {
    return ModelFileInvalid(file.path(), "tensor \"token_embd.weight\" has shape {}, must be [vocabulary <= {}, {}]",
                            embedding->shape.ToString(), kVocabMax, spec.hidden);
  }
  spec.vocab = static_cast<int32_t>(embedding->shape[0]);
  spec.tied_head = file.FindTensor("output.weight") == nullptr;
  spec.attention_bias = family.needs_bias || file.FindTensor("blk.0.attn_q.bias") != nullptr;
  spec.attention_out_bias = file.FindTensor("blk.0.attn_output.bias") != nullptr;
  return spec;
}

}  // namespace

absl::StatusOr<ModelSpec> ReadGgufSpec(const GgufFile& file) {
  ASSIGN_OR_RETURN(const std::string_view architecture, file.GetString("general.architecture"));
  for (const Family& family : kFamilies) {
    if (family.architecture != architecture) continue;
    ASSIGN_OR_RETURN(ModelSpec spec, ReadFamily(file, family));
    ASSIGN_OR_RETURN(const std::string_view name, file.GetStringOr("general.name", ""));
    spec.name = name;
    return spec;
  }
  std::string known;
  for (const Family& family : kFamilies) known += fmt::format("{}{}", known.empty() ? "" : ", ", family.architecture);
  return Unknown(file, "architecture \"{}\" is not known; known: {}", architecture, known);
}

}  // namespace conclave::engine
