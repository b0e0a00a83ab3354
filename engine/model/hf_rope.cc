// SPDX-License-Identifier: Apache-2.0
#include "engine/model/hf_rope.h"

#include <cmath>
#include <optional>

#include "common/status.h"

namespace conclave::engine {
namespace {

// A finite positive number.
absl::StatusOr<double> Positive(const JsonValue& value) {
  ASSIGN_OR_RETURN(const double number, value.Number());
  if (!(number > 0) || !std::isfinite(number)) return value.Invalid(fmt::format("is {}, must be positive", number));
  return number;
}
absl::StatusOr<double> PositiveOr(const JsonObject& object, std::string_view key, double fallback) {
  const JsonValue* value = object.Find(key);
  return value == nullptr ? absl::StatusOr<double>(fallback) : Positive(*value);
}
absl::StatusOr<double> GetPositive(const JsonObject& object, std::string_view key) {
  ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  return Positive(value);
}

absl::Status ReadLlama3(const JsonObject& scaling, RopeParameters* rope) {
  ASSIGN_OR_RETURN(rope->factor, GetPositive(scaling, "factor"));
  ASSIGN_OR_RETURN(rope->low_frequency, GetPositive(scaling, "low_freq_factor"));
  ASSIGN_OR_RETURN(rope->high_frequency, GetPositive(scaling, "high_freq_factor"));
  ASSIGN_OR_RETURN(rope->original_context, GetPositive(scaling, "original_max_position_embeddings"));
  if (rope->high_frequency <= rope->low_frequency) {
    return scaling.self().Invalid(fmt::format("has high_freq_factor {}, must be above low_freq_factor {}",
                                              rope->high_frequency, rope->low_frequency));
  }
  return absl::OkStatus();
}

absl::Status ReadYarn(const JsonObject& scaling, int32_t context_tokens, RopeParameters* rope) {
  ASSIGN_OR_RETURN(rope->factor, GetPositive(scaling, "factor"));
  ASSIGN_OR_RETURN(rope->original_context, PositiveOr(scaling, "original_max_position_embeddings", context_tokens));
  ASSIGN_OR_RETURN(rope->beta_fast, PositiveOr(scaling, "beta_fast", 32.0));
  ASSIGN_OR_RETURN(rope->beta_slow, PositiveOr(scaling, "beta_slow", 1.0));
  ASSIGN_OR_RETURN(rope->truncate, scaling.BoolOr("truncate", true));
  ASSIGN_OR_RETURN(rope->mscale, scaling.NumberOr("mscale", 0));
  ASSIGN_OR_RETURN(rope->mscale_all_dim, scaling.NumberOr("mscale_all_dim", 0));
  if (const JsonValue* factor = scaling.Find("attention_factor")) {
    ASSIGN_OR_RETURN(rope->attention_factor, Positive(*factor));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RopeParameters> ReadHfRope(const JsonObject& config, int32_t rotated, int32_t context_tokens,
                                          PartialRotation partial_rotation) {
  RopeParameters rope;
  rope.rotated = rotated;
  ASSIGN_OR_RETURN(rope.base, PositiveOr(config, "rope_theta", 10000.0));
  const JsonValue* value = config.Find("rope_parameters");
  if (value == nullptr) value = config.Find("rope_scaling");
  ASSIGN_OR_RETURN(double partial, PositiveOr(config, "partial_rotary_factor", 1.0));
  if (value != nullptr) {
    ASSIGN_OR_RETURN(const JsonObject scaling, value->Object());
    ASSIGN_OR_RETURN(rope.base, PositiveOr(scaling, "rope_theta", rope.base));
    ASSIGN_OR_RETURN(partial, PositiveOr(scaling, "partial_rotary_factor", partial));
    ASSIGN_OR_RETURN(const std::string_view old_type, scaling.StringOr("type", "default"));
    ASSIGN_OR_RETURN(const std::string_view type, scaling.StringOr("rope_type", old_type));
    if (type == "linear") {
      rope.scaling = RopeScaling::kLinear;
      ASSIGN_OR_RETURN(rope.factor, GetPositive(scaling, "factor"));
    } else if (type == "llama3") {
      rope.scaling = RopeScaling::kLlama3;
      RETURN_IF_ERROR(ReadLlama3(scaling, &rope));
    } else if (type == "yarn") {
      rope.scaling = RopeScaling::kYarn;
      RETURN_IF_ERROR(ReadYarn(scaling, context_tokens, &rope));
    } else if (type != "default") {
      return Unimplemented("{}: \"{}\" has the rope type \"{}\"; known are default, linear, llama3 and yarn",
                           value->file(), value->where(), type);
    }
  }
  if (partial_rotation == PartialRotation::kRead) {
    rope.rotated = static_cast<int32_t>(rotated * partial);
    if (partial > 1.0 || rope.rotated < 2 || rope.rotated % 2 != 0) {
      return config.self().Invalid(fmt::format(
          "\"partial_rotary_factor\" {} of heads of width {} is no even number of elements", partial, rotated));
    }
    return rope;
  }
  if (partial != 1.0) {
    return Unimplemented("{}: \"partial_rotary_factor\" is {}: this family rotates whole heads", config.self().file(),
                         partial);
  }
  return rope;
}

}  // namespace conclave::engine
