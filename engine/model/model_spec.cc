// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_spec.h"

#include <array>
#include <cmath>

#include "common/status.h"

namespace conclave::engine {
namespace {

template <typename... Args>
absl::Status Invalid(const GgufFile& file, fmt::format_string<Args...> format, Args&&... args) {
  return FailedPrecondition("MODEL_FILE_INVALID {}: {}", file.path(), fmt::format(format, std::forward<Args>(args)...));
}

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
      return Invalid(file_, "\"{}\" is {}, must be in [1, {}]", Key(suffix), value, max);
    }
    return static_cast<int32_t>(value);
  }
  absl::StatusOr<int32_t> CountOr(std::string_view suffix, uint32_t max, int32_t fallback) const {
    return Has(suffix) ? Count(suffix, max) : absl::StatusOr<int32_t>(fallback);
  }
  absl::StatusOr<float> PositiveOr(std::string_view suffix, float fallback) const {
    ASSIGN_OR_RETURN(const float value, file_.GetF32Or(Key(suffix), fallback));
    if (!(value > 0)) return Invalid(file_, "\"{}\" is {}, must be positive", Key(suffix), value);
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

// Frequencies base^(-2i/R), divided by the linear scaling factor, or by rope_freqs.weight (how GGUF ships Llama 3's
// scaling), whichever the file has.
absl::Status ReadRope(const GgufFile& file, const Reader& reader, ModelSpec* spec) {
  ASSIGN_OR_RETURN(spec->rotated, reader.CountOr("rope.dimension_count", kHeadDimMax, spec->head_dim));
  if (spec->rotated > spec->head_dim || spec->rotated % 2 != 0) {
    return Invalid(file, "\"{}\" is {}: must be even and at most the head's width, {}",
                   reader.Key("rope.dimension_count"), spec->rotated, spec->head_dim);
  }
  ASSIGN_OR_RETURN(const float base, reader.PositiveOr("rope.freq_base", 10000.0f));
  double factor = 1.0;
  if (reader.Has("rope.scaling.type")) {
    ASSIGN_OR_RETURN(const std::string_view type, file.GetString(reader.Key("rope.scaling.type")));
    if (type == "linear") {
      ASSIGN_OR_RETURN(factor, reader.PositiveOr("rope.scaling.factor", 1.0f));
    } else if (type != "none") {
      return Unknown(file, "\"{}\" is \"{}\"; known are none and linear", reader.Key("rope.scaling.type"), type);
    }
  } else if (reader.Has("rope.scale_linear")) {  // before scaling types had names
    ASSIGN_OR_RETURN(factor, reader.PositiveOr("rope.scale_linear", 1.0f));
  }
  std::vector<float> divisors(spec->rotated / 2, 1.0f);
  if (file.FindTensor("rope_freqs.weight") != nullptr) {
    ASSIGN_OR_RETURN(const GgufTensor tensor, file.GetTensor("rope_freqs.weight", Shape{spec->rotated / 2}));
    if (tensor.dtype != DType::kF32) {
      return Unknown(file, "tensor \"rope_freqs.weight\" is {}, only F32 is known", Name(tensor.dtype));
    }
    std::memcpy(divisors.data(), tensor.bytes.data(), divisors.size() * sizeof(float));
  }
  for (int32_t i = 0; i < spec->rotated / 2; ++i) {
    if (!(divisors[i] > 0) || !std::isfinite(divisors[i])) {
      return Invalid(file, "tensor \"rope_freqs.weight\" has {} at {}, must be positive", divisors[i], i);
    }
    const double frequency = std::pow(static_cast<double>(base), -2.0 * i / spec->rotated);
    spec->inverse_frequency.push_back(static_cast<float>(frequency / factor / divisors[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> ReadLlama(const GgufFile& file, std::string_view family) {
  const Reader reader(file, family);
  ModelSpec spec;
  spec.family = family;
  for (std::string_view term : {"expert_count", "attention.sliding_window", "nextn_predict_layers"}) {
    RETURN_IF_ERROR(reader.Refuse(term));
  }
  ASSIGN_OR_RETURN(spec.layers, reader.Count("block_count", kLayersMax));
  ASSIGN_OR_RETURN(spec.hidden, reader.Count("embedding_length", kHiddenMax));
  ASSIGN_OR_RETURN(spec.heads, reader.Count("attention.head_count", kHeadsMax));
  ASSIGN_OR_RETURN(spec.kv_heads, reader.CountOr("attention.head_count_kv", kHeadsMax, spec.heads));
  ASSIGN_OR_RETURN(spec.feed_forward, reader.Count("feed_forward_length", kFeedForwardMax));
  ASSIGN_OR_RETURN(spec.context_tokens, reader.Count("context_length", kContextTokensMax));
  ASSIGN_OR_RETURN(spec.norm_epsilon, reader.PositiveOr("attention.layer_norm_rms_epsilon", 1e-5f));
  if (spec.heads % spec.kv_heads != 0) {
    return Invalid(file, "{} query heads cannot share {} key/value heads evenly", spec.heads, spec.kv_heads);
  }
  if (!reader.Has("attention.key_length") && spec.hidden % spec.heads != 0) {
    return Invalid(file, "width {} is no multiple of {} heads and \"{}\" is absent", spec.hidden, spec.heads,
                   reader.Key("attention.key_length"));
  }
  ASSIGN_OR_RETURN(spec.head_dim, reader.CountOr("attention.key_length", kHeadDimMax, spec.hidden / spec.heads));
  ASSIGN_OR_RETURN(const int32_t dim_v, reader.CountOr("attention.value_length", kHeadDimMax, spec.head_dim));
  if (dim_v != spec.head_dim) {
    return Unknown(file, "values of width {} beside keys of width {} are not supported", dim_v, spec.head_dim);
  }
  RETURN_IF_ERROR(ReadRope(file, reader, &spec));

  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) return Invalid(file, "tensor \"token_embd.weight\" is missing");
  if (embedding->shape.rank() != 2 || embedding->shape[0] > int64_t{kVocabMax}) {
    return Invalid(file, "tensor \"token_embd.weight\" has shape {}, must be [vocabulary <= {}, {}]",
                   embedding->shape.ToString(), kVocabMax, spec.hidden);
  }
  spec.vocab = static_cast<int32_t>(embedding->shape[0]);
  spec.tied_head = file.FindTensor("output.weight") == nullptr;
  spec.attention_bias = file.FindTensor("blk.0.attn_q.bias") != nullptr;
  return spec;
}

struct Family {
  std::string_view architecture;
  absl::StatusOr<ModelSpec> (*read)(const GgufFile& file, std::string_view family);
};
constexpr std::array kFamilies = {
    Family{"llama", ReadLlama},  // Llama 1-3, Mistral, SmolLM: q and k permuted for interleaved rotation
};

}  // namespace

float ModelSpec::attention_scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }

absl::StatusOr<ModelSpec> ReadModelSpec(const GgufFile& file) {
  ASSIGN_OR_RETURN(const std::string_view architecture, file.GetString("general.architecture"));
  for (const Family& family : kFamilies) {
    if (family.architecture != architecture) continue;
    ASSIGN_OR_RETURN(ModelSpec spec, family.read(file, architecture));
    ASSIGN_OR_RETURN(const std::string_view name, file.GetStringOr("general.name", ""));
    spec.name = name;
    return spec;
  }
  std::string known;
  for (const Family& family : kFamilies) known += fmt::format("{}{}", known.empty() ? "" : ", ", family.architecture);
  return Unknown(file, "architecture \"{}\" is not known; known: {}", architecture, known);
}

}  // namespace conclave::engine
