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
  // A term that changes the mathematics and that this program does not compute.
  absl::Status Refuse(std::string_view suffix) const {
    if (!Has(suffix)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const uint32_t value, file_.GetU32(Key(suffix)));
    if (value == 0) return absl::OkStatus();
    return Unknown(file_, "\"{}\" is {}: not supported yet, use a checkpoint without it", Key(suffix), value);
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
  for (std::string_view term :
       {"rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"}) {
    if (reader.Has(term)) return Unknown(file, "\"{}\" is not supported for this family", reader.Key(term));
  }
  return absl::OkStatus();
}

// Frequencies, divided by rope_freqs.weight (how GGUF ships Llama 3's scaling) where the file has it.
absl::Status ReadRope(const GgufFile& file, const Reader& reader, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->rotated, reader.CountOr("rope.dimension_count", kHeadDimMax, spec->head_dim));
  if (spec->rotated > spec->head_dim || spec->rotated % 2 != 0) {
    return ModelFileInvalid(file.path(), "\"{}\" is {}: must be even and at most the head's width, {}",
                            reader.Key("rope.dimension_count"), spec->rotated, spec->head_dim);
  }
  RopeParameters rope;
  rope.rotated = spec->rotated;
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
  RopeTable table = MakeRopeTable(rope);
  spec->inverse_frequency = std::move(table.inverse_frequency);
  spec->rope_magnitude = table.magnitude;
  return absl::OkStatus();
}

struct Family {
  std::string_view architecture;
  RopeLayout rope_layout;
  bool head_norm;
  bool needs_bias;  // on q, k and v; else it is there or not
};
constexpr std::array kFamilies = {
    // Llama 1-3, Mistral, SmolLM: q and k permuted for interleaved rotation.
    Family{"llama", RopeLayout::kInterleaved, /*head_norm=*/false, /*needs_bias=*/false},
    Family{"qwen2", RopeLayout::kHalfSplit, /*head_norm=*/false, /*needs_bias=*/true},
    Family{"qwen3", RopeLayout::kHalfSplit, /*head_norm=*/true, /*needs_bias=*/false},
};

absl::StatusOr<ModelSpec> ReadFamily(const GgufFile& file, const Family& family) {
  const Reader reader(file, family.architecture);
  ModelSpec spec;
  spec.family = family.architecture;
  spec.names = &kGgufNames;
  spec.rope_layout = family.rope_layout;
  spec.head_norm = family.head_norm;
  for (std::string_view term : {"expert_count", "nextn_predict_layers"}) {
    RETURN_IF_ERROR(reader.Refuse(term));
  }
  ASSIGN_OR_RETURN(spec.layers, reader.Count("block_count", kLayersMax));
  ASSIGN_OR_RETURN(spec.hidden, reader.Count("embedding_length", kHiddenMax));
  ASSIGN_OR_RETURN(spec.heads, reader.Count("attention.head_count", kHeadsMax));
  ASSIGN_OR_RETURN(spec.kv_heads, reader.CountOr("attention.head_count_kv", kHeadsMax, spec.heads));
  ASSIGN_OR_RETURN(spec.feed_forward, reader.Count("feed_forward_length", kFeedForwardMax));
  ASSIGN_OR_RETURN(spec.context_tokens, reader.Count("context_length", kContextTokensMax));
  ASSIGN_OR_RETURN(const int32_t window,
                   reader.CountOr("attention.sliding_window", kContextTokensMax, spec.context_tokens));
  if (window < spec.context_tokens) {  // a longer one hides nothing
    return Unknown(file, "\"{}\" is {}, shorter than the context of {}: sliding windows are not supported yet",
                   reader.Key("attention.sliding_window"), window, spec.context_tokens);
  }
  ASSIGN_OR_RETURN(spec.norm_epsilon, reader.PositiveOr("attention.layer_norm_rms_epsilon", 1e-5f));
  if (spec.heads % spec.kv_heads != 0) {
    return ModelFileInvalid(file.path(), "{} query heads cannot share {} key/value heads evenly", spec.heads,
                            spec.kv_heads);
  }
  if (!reader.Has("attention.key_length") && spec.hidden % spec.heads != 0) {
    return ModelFileInvalid(file.path(), "width {} is no multiple of {} heads and \"{}\" is absent", spec.hidden,
                            spec.heads, reader.Key("attention.key_length"));
  }
  ASSIGN_OR_RETURN(spec.head_dim, reader.CountOr("attention.key_length", kHeadDimMax, spec.hidden / spec.heads));
  ASSIGN_OR_RETURN(const int32_t dim_v, reader.CountOr("attention.value_length", kHeadDimMax, spec.head_dim));
  if (dim_v != spec.head_dim) {
    return Unknown(file, "values of width {} beside keys of width {} are not supported", dim_v, spec.head_dim);
  }
  RETURN_IF_ERROR(ReadRope(file, reader, &spec));

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
