// SPDX-License-Identifier: Apache-2.0
#include "engine/model/hf_experts.h"

#include <cmath>

#include "common/status.h"
#include "engine/model/hf_config.h"

namespace conclave::engine {
namespace {

// The epsilon of the norms of DeepSeek's query rank and latent, whatever rms_norm_eps says.
constexpr float kDeepseekRankEpsilon = 1e-6f;

// experts, top_k and the width of one; every layer has them.
absl::Status ReadCommon(const JsonObject& config, std::string_view experts_key, std::string_view width_key,
                        ModelSpec* spec) {
  ExpertsSpec& experts = spec->experts.emplace();
  ASSIGN_OR_RETURN(experts.router.experts, Count(config, experts_key, kExpertsMax));
  ASSIGN_OR_RETURN(experts.router.top_k, Count(config, "num_experts_per_tok", kExpertsMax));
  ASSIGN_OR_RETURN(experts.feed_forward, Count(config, width_key, kFeedForwardMax));
  spec->expert_layers.assign(spec->layers, 1);
  return absl::OkStatus();
}

absl::Status Finish(const JsonObject& config, const ModelSpec& spec) {
  return CheckRouter(config.self().file(), spec.experts->router);
}

// Qwen's rule: a layer has experts unless it is listed, and every decoder_sparse_step-th does.
absl::Status ReadQwenLayers(const JsonObject& config, ModelSpec* spec) {
  ASSIGN_OR_RETURN(const int32_t step, CountOr(config, "decoder_sparse_step", kLayersMax, 1));
  for (int32_t layer = 0; layer < spec->layers; ++layer) spec->expert_layers[layer] = (layer + 1) % step == 0;
  if (const JsonValue* listed = config.Find("mlp_only_layers")) {
    ASSIGN_OR_RETURN(const std::vector<JsonValue> layers, listed->Array());
    for (const JsonValue& value : layers) {
      ASSIGN_OR_RETURN(const int64_t layer, value.Integer(0, spec->layers - 1));
      spec->expert_layers[layer] = 0;
    }
  }
  if (spec->num_expert_layers() == 0) return Unknown(config, "no layer has experts: this class is for mixtures");
  return absl::OkStatus();
}

absl::Status ReadQwen(const JsonObject& config, ModelSpec* spec) {
  RETURN_IF_ERROR(ReadCommon(config, "num_experts", "moe_intermediate_size", spec));
  ASSIGN_OR_RETURN(spec->experts->router.normalise, config.BoolOr("norm_topk_prob", false));
  RETURN_IF_ERROR(ReadQwenLayers(config, spec));
  return Finish(config, *spec);
}

// What DeepSeek-V2 and V3 share: dense first layers, shared experts, groups.
absl::Status ReadDeepseek(const JsonObject& config, ModelSpec* spec) {
  spec->names = &kHfDeepseekNames;
  RETURN_IF_ERROR(ReadCommon(config, "n_routed_experts", "moe_intermediate_size", spec));
  ExpertsSpec& experts = *spec->experts;
  ASSIGN_OR_RETURN(const int64_t dense, config.IntegerOr("first_k_dense_replace", 0, spec->layers, 0));
  for (int64_t layer = 0; layer < dense; ++layer) spec->expert_layers[layer] = 0;
  ASSIGN_OR_RETURN(const int64_t every, config.IntegerOr("moe_layer_freq", 1, kLayersMax, 1));
  if (every != 1) return Unknown(config, "\"moe_layer_freq\" is {}; known is 1", every);
  ASSIGN_OR_RETURN(const int64_t shared, config.IntegerOr("n_shared_experts", 0, kExpertsMax, 0));
  if (shared * experts.feed_forward > int64_t{kFeedForwardMax}) {
    return config.self().Invalid(
        fmt::format("{} shared experts of width {} are too wide together", shared, experts.feed_forward));
  }
  experts.shared_feed_forward = static_cast<int32_t>(shared) * experts.feed_forward;
  ASSIGN_OR_RETURN(const double scale, config.NumberOr("routed_scaling_factor", 1.0));
  if (!(scale > 0)) return config.self().Invalid(fmt::format("\"routed_scaling_factor\" is {}", scale));
  experts.router.scale = static_cast<float>(scale);
  experts.router.sum_epsilon = 1e-20f;
  ASSIGN_OR_RETURN(const int64_t prediction, config.IntegerOr("num_nextn_predict_layers", 0, kLayersMax, 0));
  spec->prediction_layers = static_cast<int32_t>(prediction);
  return absl::OkStatus();
}

absl::Status ReadGroups(const JsonObject& config, RouterSpec* router) {
  ASSIGN_OR_RETURN(router->groups, CountOr(config, "n_group", kExpertsMax, 1));
  ASSIGN_OR_RETURN(router->top_groups, CountOr(config, "topk_group", kExpertsMax, router->groups));
  return absl::OkStatus();
}

absl::Status ExpectScores(const JsonObject& config, std::string_view scores) {
  ASSIGN_OR_RETURN(const std::string_view found, config.StringOr("scoring_func", scores));
  if (found == scores) return absl::OkStatus();
  return Unknown(config, "\"scoring_func\" is \"{}\"; this class is known with \"{}\"", found, scores);
}

}  // namespace

absl::Status ReadMixtralExperts(const JsonObject& config, ModelSpec* spec) {
  spec->names = &kHfMixtralNames;
  RETURN_IF_ERROR(ReadCommon(config, "num_local_experts", "intermediate_size", spec));
  spec->experts->router.normalise = true;
  return Finish(config, *spec);
}

absl::Status ReadQwen2Experts(const JsonObject& config, ModelSpec* spec) {
  RETURN_IF_ERROR(ReadQwen(config, spec));
  ASSIGN_OR_RETURN(spec->experts->shared_feed_forward,
                   Count(config, "shared_expert_intermediate_size", kFeedForwardMax));
  spec->experts->shared_gate = true;
  return absl::OkStatus();
}

absl::Status ReadQwen3Experts(const JsonObject& config, ModelSpec* spec) { return ReadQwen(config, spec); }

absl::Status ReadOlmoeExperts(const JsonObject& config, ModelSpec* spec) {
  if (config.Has("clip_qkv")) return Unknown(config, "\"clip_qkv\" is given: clipping is not supported");
  RETURN_IF_ERROR(ReadCommon(config, "num_experts", "intermediate_size", spec));
  ASSIGN_OR_RETURN(spec->experts->router.normalise, config.BoolOr("norm_topk_prob", false));
  spec->head_norm_whole = true;
  return Finish(config, *spec);
}

absl::Status ReadDeepseekV2Experts(const JsonObject& config, ModelSpec* spec) {
  RETURN_IF_ERROR(ReadDeepseek(config, spec));
  RouterSpec& router = spec->experts->router;
  RETURN_IF_ERROR(ExpectScores(config, "softmax"));
  ASSIGN_OR_RETURN(const std::string_view method, config.StringOr("topk_method", "greedy"));
  if (method == "group_limited_greedy") {
    RETURN_IF_ERROR(ReadGroups(config, &router));
  } else if (method != "greedy") {
    return Unknown(config, "\"topk_method\" is \"{}\"; known are greedy and group_limited_greedy", method);
  }
  ASSIGN_OR_RETURN(const bool normalise, config.BoolOr("norm_topk_prob", false));
  // One or the other: normalised weights are not scaled.
  router.normalise = normalise && router.top_k > 1;
  if (router.normalise) router.scale = 1;
  return Finish(config, *spec);
}

absl::Status ReadDeepseekV3Experts(const JsonObject& config, ModelSpec* spec) {
  RETURN_IF_ERROR(ReadDeepseek(config, spec));
  RouterSpec& router = spec->experts->router;
  RETURN_IF_ERROR(ExpectScores(config, "sigmoid"));
  ASSIGN_OR_RETURN(const std::string_view method, config.StringOr("topk_method", "noaux_tc"));
  if (method != "noaux_tc") return Unknown(config, "\"topk_method\" is \"{}\"; known is noaux_tc", method);
  RETURN_IF_ERROR(ReadGroups(config, &router));
  router.scores = RouterSpec::Scores::kSigmoid;
  router.group_score = RouterSpec::GroupScore::kTopTwoSum;
  ASSIGN_OR_RETURN(router.normalise, config.BoolOr("norm_topk_prob", true));
  spec->experts->selection_bias = true;
  return Finish(config, *spec);
}

// DeepSeek-V3's mixture behind grouped attention.
absl::Status ReadGlm4Experts(const JsonObject& config, ModelSpec* spec) {
  RETURN_IF_ERROR(ReadDeepseekV3Experts(config, spec));
  if (!config.Has("partial_rotary_factor") && !config.Has("rope_parameters")) {
    return config.self().Invalid("has no \"partial_rotary_factor\", which this class needs");
  }
  ASSIGN_OR_RETURN(spec->head_norm, config.BoolOr("use_qk_norm", false));
  return absl::OkStatus();
}

absl::Status ReadGptOssExperts(const JsonObject& config, ModelSpec* spec) {
  // The class would fill these in.
  for (const char* key : {"rope_theta", "rope_scaling"}) {
    if (!config.Has(key) && !config.Has("rope_parameters")) {
      return config.self().Invalid(fmt::format("has no \"{}\", which this class needs", key));
    }
  }
  spec->names = &kHfGptOssNames;
  spec->attention_sinks = true;
  RETURN_IF_ERROR(ReadCommon(config, "num_local_experts", "intermediate_size", spec));
  // Of the experts with the best logits the softmax, which is that of all, divided by their sum.
  spec->experts->router.normalise = true;
  spec->experts->biases = true;
  spec->experts->activation = kGptOssActivation;
  ASSIGN_OR_RETURN(const double limit, config.NumberOr("swiglu_limit", kGptOssActivation.limit));
  if (limit != kGptOssActivation.limit) {
    return Unknown(config, "\"swiglu_limit\" is {}; known is {}", limit, kGptOssActivation.limit);
  }
  return Finish(config, *spec);
}

absl::Status ReadHfLatentWidths(const JsonObject& config, ModelSpec* spec) {
  LatentAttentionSpec& latent = spec->latent.emplace();
  ASSIGN_OR_RETURN(latent.query_rank, CountOr(config, "q_lora_rank", kHiddenMax, 0));
  ASSIGN_OR_RETURN(latent.latent, Count(config, "kv_lora_rank", kHiddenMax));
  ASSIGN_OR_RETURN(latent.unrotated, Count(config, "qk_nope_head_dim", kHeadDimMax));
  ASSIGN_OR_RETURN(latent.value, Count(config, "v_head_dim", kHeadDimMax));
  ASSIGN_OR_RETURN(spec->rotated, Count(config, "qk_rope_head_dim", kHeadDimMax));
  if (spec->rotated % 2 != 0) {
    return config.self().Invalid(fmt::format("\"qk_rope_head_dim\" {} is odd", spec->rotated));
  }
  ASSIGN_OR_RETURN(const bool interleave, config.BoolOr("rope_interleave", true));
  spec->rope_layout = interleave ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit;
  ASSIGN_OR_RETURN(const bool bias, config.BoolOr("attention_bias", false));
  if (bias) return Unknown(config, "\"attention_bias\" is true: not supported with latent attention");
  latent.norm_epsilon = kDeepseekRankEpsilon;
  spec->head_dim = latent.unrotated + spec->rotated;
  spec->kv_heads = 1;
  return absl::OkStatus();
}

void SetLatentScale(const RopeParameters& rope, ModelSpec* spec) {
  double scale = 1.0 / std::sqrt(static_cast<double>(spec->query_width()));
  if (rope.scaling != RopeScaling::kNone && rope.mscale_all_dim != 0) {
    const double m = YarnMagnitude(rope.factor, rope.mscale_all_dim);
    scale *= m * m;
  }
  spec->latent->scale = static_cast<float>(scale);
}

}  // namespace conclave::engine
